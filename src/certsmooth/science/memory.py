"""The memory pass: makes certificates with data-dependent sigma consistent within one session.

Source: Alfarra et al., Data-Dependent Randomized Smoothing (UAI 2022), Section 3.5 and Figure 2. With
sigma(x) chosen per input, the radius of Cohen et al. is no certificate: another input within that radius has
another sigma and may be predicted differently. The memory-enhanced classifier therefore remembers what it
has answered, in the order of arrival, and adjusts each new answer to what it has promised before.

Here the region of an answer is the open ball of its radius together with its centre (so radius 0 leaves the
point itself), in the norm of the certificates, l2 or l1 (DDRS, Section 4.4). A new input x with class C and
radius R meets the remembered (x_i, C_i, R_i), d_i away in that norm:

* none: no region of another class meets its own; it is remembered as it is (Figure 2, left);
* repredicted: x lies in a region of another class (d_i < R_i, or d_i = 0); it gets that class, and the
  largest ball about x inside both its own ball and one of the balls of that class that hold x (middle);
* capped: x lies in no region of another class, but its ball meets some; R becomes the least of the
  d_i - R_i (right).

Abstentions promise nothing: they are not remembered, affect nothing, and stay as they are.

Theorem: no two remembered regions of different classes intersect. Proof, by induction on arrivals.
*Repredicted*: the regions that hold x have one class, as regions of different classes are disjoint; the new
region lies inside one of them, which is disjoint from all regions of other classes. *Otherwise*: x lies in no
region of another class, and after the cap d_i >= R + R_i for each of those, so the two open balls do not
meet, and neither contains the centre of the other. Hence no answer, given before or after, contradicts a
remembered ball: inside it the answer is the ball's class or an abstention. Of the norm the proof uses the triangle
inequality only.

What it does not promise (Sukenik et al., Intriguing Properties of Input-Dependent Randomized Smoothing,
ICML 2022, Appendix C.2): anything outside this session. The result depends on the order of arrival, a device
without this memory may answer differently within a certified ball, and the pass would make any radii
consistent, however they were computed. Its guarantee is ``memory``, never ``global``.

Every decision (d < R_i, d < R + R_i) is exact: bounds on floating-point distances decide it, and where they
cannot, rational arithmetic does. Radii are rounded down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int, Shaped

from certsmooth._internal.checks import check_choice, check_integer, check_seed
from certsmooth.errors import ConfigError
from certsmooth.science.certificates import ABSTAIN, Norm
from certsmooth.science.theory.distances import CLOUDS, TILE, Cloud, Gap


class Case(IntEnum):
    """What the memory did to an answer."""

    NONE = 0
    REPREDICTED = 1
    CAPPED = 2


@dataclass(frozen=True)
class MemoryResult:
    """Answers of the memory-enhanced classifier, in the order of the inputs' arrays (not of arrival).

    Attributes:
        predict: int64 [N], the class, or -1 (abstain).
        radius: float64 [N], never above the radius that was given.
        case: int8 [N], values of `Case`.
        partner: int64 [N], position of the remembered answer that decided the case (the one that leaves the
            largest radius if repredicted, the smallest if capped; the earliest among equals), or -1.
        conflicts: number of pairs of given answers, of different classes, whose regions intersect.
    """

    predict: Int[np.ndarray, " N"]
    radius: Float[np.ndarray, " N"]
    case: Int[np.ndarray, " N"]
    partner: Int[np.ndarray, " N"]
    conflicts: int


def shuffled_order(n: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Return a random order of arrival of n inputs, the same with every version of NumPy.

    Args:
        n: number of inputs.
        seed: 0 .. 2**63 - 1.

    Raises:
        ConfigError: one of them is not so.
    """
    n, seed = check_integer("n", n, minimum=0), check_seed("seed", seed)
    # NumPy promises the streams of its bit generators for good, but not Generator.permutation.
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable").astype(np.int64)


def memory_pass(
    points: Shaped[np.ndarray, "N ..."],
    predict: Int[np.ndarray, " N"],
    radius: Float[np.ndarray, " N"],
    *,
    order: Int[np.ndarray, " N"],
    norm: Norm = "l2",
) -> MemoryResult:
    """Answer N inputs one after the other, each consistently with those before it.

    Takes O(N^2 d) operations and, besides the arguments, O(N) memory and a few arrays of 32 MiB (or one row).

    Args:
        points: the inputs; uint8 pixels stand for value / 255, float32 and float64 for themselves.
        predict: class of each input, or -1 (abstain).
        radius: radius of each input, in the coordinates of the points (pixels in [0, 1]); 0 if it abstains.
        order: a permutation; ``order[0]`` is the position of the input that arrives first.
        norm: of the radii.

    Raises:
        ConfigError: an argument is not valid; the message names it.
    """
    check_choice("norm", norm, CLOUDS)
    points = _checked_points(points)
    _check_answers(len(points), predict, radius)
    if order.dtype.kind not in "iu" or not np.array_equal(np.sort(order), np.arange(len(points))):
        raise ConfigError(f"order: not a permutation; must hold each of 0 .. {len(points) - 1} once")
    arrived = order[predict[order] != ABSTAIN].astype(np.int64)
    session = _Session(CLOUDS[norm](points, arrived), predict[arrived], radius[arrived])
    for t, cols, gap in session.near_pairs(0):
        session.count_conflicts(t, cols, gap)
        session.answer(t, cols, gap)
    result = MemoryResult(
        predict=predict.astype(np.int64),
        radius=_positive(radius),
        case=np.zeros(len(points), np.int8),
        partner=np.full(len(points), -1, np.int64),
        conflicts=session.conflicts,
    )
    result.predict[arrived], result.radius[arrived] = session.predict, session.radius
    result.case[arrived] = session.case
    decided = session.partner >= 0
    result.partner[arrived[decided]] = arrived[session.partner[decided]]
    return result


class Memory:
    """A memory that grows while a session lasts, for inputs that come in batches.

    Entering batches one after the other gives what one `memory_pass` over all of them in that order gives.

    Args:
        norm: of the radii.

    Raises:
        ConfigError: there is no such norm.
    """

    def __init__(self, *, norm: Norm = "l2") -> None:
        check_choice("norm", norm, CLOUDS)
        self.norm: Norm = norm
        self._points: npt.NDArray[np.generic] | None = None
        self._predict = np.zeros(0, np.int64)
        self._radius = np.zeros(0)
        self._owner: tuple[tuple[object, ...], object] | None = None

    def bind(self, *parts: object, settings: object) -> None:
        """Say which smoothed classifier enters its answers; a memory makes those of one classifier consistent.

        Args:
            parts: of the classifier, which have to be the same objects in every call.
            settings: of the classifier, which have to be equal.

        Raises:
            ConfigError: the memory belongs to another one.
        """
        if self._owner is None:
            self._owner = parts, settings
        owners, its = self._owner
        if any(one is not other for one, other in zip(owners, parts, strict=True)) or its != settings:
            raise ConfigError(
                f"memory: of another smoothed classifier, with {len(self)} answers; must be a new Memory()"
            )

    def __len__(self) -> int:
        return len(self._predict)

    def enter(
        self,
        points: Shaped[np.ndarray, "N ..."],
        predict: Int[np.ndarray, " N"],
        radius: Float[np.ndarray, " N"],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Answer N inputs, which arrive in the order of the array, and remember the answers.

        Args:
            points: the inputs, of one type and shape in all calls; see `memory_pass`.
            predict: class of each input, or -1 (abstain): not remembered.
            radius: radius of each input; 0 if it abstains.

        Returns:
            The classes and radii that the memory-enhanced classifier answers.

        Raises:
            ConfigError: an argument is not valid; the message names it.
        """
        points = _checked_points(points)
        _check_answers(len(points), predict, radius)
        answered, known = predict != ABSTAIN, len(self)
        session = self._extended(points[answered], predict[answered], radius[answered])
        for t, cols, gap in session.near_pairs(known):
            session.answer(t, cols, gap)
        self._points, self._predict, self._radius = session.cloud.points, session.predict, session.radius
        predict, radius = predict.astype(np.int64), _positive(radius)
        predict[answered], radius[answered] = self._predict[known:], self._radius[known:]
        return predict, radius

    def recall(self, points: Shaped[np.ndarray, "N ..."], predict: Int[np.ndarray, " N"]) -> npt.NDArray[np.int64]:
        """Answer N inputs without a radius, and remember nothing.

        Args:
            points: the inputs, of the type and shape of those that were entered.
            predict: class of each input, or -1 (abstain).

        Returns:
            The class of the remembered regions that hold an input, even of one that abstains; elsewhere
            ``predict``.

        Raises:
            ConfigError: an argument is not valid; the message names it.
        """
        points = _checked_points(points)
        _check_answers(len(points), predict, np.zeros(len(points)))
        answer, known = predict.astype(np.int64), len(self)
        session = self._extended(points, answer, np.zeros(len(points)))
        for t, cols, gap in session.near_pairs(known):
            own = cols < known
            held = session.meets(t, cols[own], gap[own], session.radius[cols[own]], 0.0)
            if held.any():
                answer[t - known] = session.predict[cols[own][held][0]]
        return answer

    def _extended(
        self,
        points: Shaped[np.ndarray, "N d"],
        predict: Int[np.ndarray, " N"],
        radius: Float[np.ndarray, " N"],
    ) -> _Session:
        known = points[:0] if self._points is None else self._points
        if (known.dtype, known.shape[1]) != (points.dtype, points.shape[1]):
            found, want = f"{points.shape[1]} {points.dtype}", f"{known.shape[1]} {known.dtype}"
            raise ConfigError(f"points: {found} values each; must be {want}, as remembered")
        everything = np.concatenate([known, points])
        return _Session(
            CLOUDS[self.norm](everything, np.arange(len(everything))),
            np.concatenate([self._predict, predict]),
            np.concatenate([self._radius, radius]),
        )


def _checked_points(points: Shaped[np.ndarray, "N ..."]) -> npt.NDArray[np.generic]:
    if points.dtype not in (np.uint8, np.float32, np.float64):
        raise ConfigError(f"points: values of type {points.dtype}; must be uint8, float32 or float64")
    if points.ndim < 2 or points.size == 0 < len(points):
        raise ConfigError(f"points: shape {points.shape}; must be [N, ...] with at least one coordinate")
    return points.reshape(len(points), math.prod(points.shape[1:]))


def _check_answers(count: int, predict: Int[np.ndarray, " N"], radius: Float[np.ndarray, " N"]) -> None:
    for name, value, kind in (("predict", predict, np.integer), ("radius", radius, np.floating)):
        if value.shape != (count,) or not np.issubdtype(value.dtype, kind):
            found = f"shape {value.shape} of type {value.dtype}"
            raise ConfigError(f"{name}: {found}; must be [{count}] {kind.__name__}, one per point")
    if (predict < ABSTAIN).any():
        raise ConfigError(f"predict: {predict.min()}; must be a class, 0 or more, or -1 (abstain)")
    wrong = ~(np.isfinite(radius) & (radius >= 0)) | ((predict == ABSTAIN) & (radius != 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        found = f"{radius[at]} at {at}, where predict is {predict[at]}"
        raise ConfigError(f"radius: {found}; must be finite and 0 or more, and 0 for an abstention (-1)")


def _positive(radius: Float[np.ndarray, " N"]) -> npt.NDArray[np.float64]:
    """Return checked radii as a new float64 array, in which -0.0 is 0.0."""
    return np.abs(radius.astype(np.float64))


class _Session:
    """Answers by arrival: as given, and as adjusted so far."""

    def __init__(self, cloud: Cloud, predict: Int[np.ndarray, " M"], radius: Float[np.ndarray, " M"]) -> None:
        self.cloud = cloud
        self.given_predict, self.given_radius = predict.astype(np.int64), _positive(radius)
        self.predict, self.radius = self.given_predict.copy(), self.given_radius.copy()
        self.case = np.zeros(len(predict), np.int8)
        self.partner = np.full(len(predict), -1, np.int64)
        self.conflicts = 0

    def near_pairs(self, first: int) -> Iterator[tuple[int, npt.NDArray[np.int64], Gap]]:
        """Yield arrivals t from ``first`` on, with all before t whose given regions may meet that of t."""
        cloud, count = self.cloud, len(self.predict)
        step = min(512, max(1, TILE // max(cloud.dims, count, 1)))
        for start in range(first, count, step):
            rows = slice(start, min(start + step, count))
            low = cloud.lower_powers(rows)
            with np.errstate(over="ignore"):  # an infinite reach is a right one
                reach = self.given_radius[rows, None] + self.given_radius[: rows.stop]
            near = low <= cloud.upper_power(reach)
            for t in range(rows.start, rows.stop):
                cols = np.flatnonzero(near[t - start, :t])
                yield t, cols, cloud.bounds(t, cols, low[t - start, cols])

    def count_conflicts(self, t: int, cols: Int[np.ndarray, " m"], gap: Gap) -> None:
        """Count those of ``cols`` whose given regions contradict that of t."""
        other = self.given_predict[cols] != self.given_predict[t]
        cols, gap = cols[other], gap[other]
        self.conflicts += int(self.meets(t, cols, gap, self.given_radius[cols], self.given_radius[t]).sum())

    def answer(self, t: int, cols: Int[np.ndarray, " m"], gap: Gap) -> None:
        """Adjust answer t to the remembered answers ``cols``: all whose regions may meet its own."""
        other = self.predict[cols] != self.predict[t]
        cols, gap = cols[other], gap[other]
        holds = self.meets(t, cols, gap, self.radius[cols], 0.0)
        if holds.any():
            self._repredict(t, cols[holds], gap[holds])
            return
        meets = self.meets(t, cols, gap, self.radius[cols], self.radius[t])
        if meets.any():
            self._cap(t, cols[meets], gap[meets])

    def meets(
        self, t: int, cols: Int[np.ndarray, " m"], gap: Gap, first: Float[np.ndarray, " m"], second: float
    ) -> npt.NDArray[np.bool_]:
        """Return for which ``cols`` the distance from t is below first + second, or 0; exactly."""
        with np.errstate(over="ignore"):
            limit = first + second
        meets, unclear = gap.below(limit)
        if unclear.any():
            at = np.flatnonzero(unclear)
            meets[at], unclear = self.cloud.gap(t, cols[at]).below(limit[at])
            for i in at[unclear]:
                meets[i] = self.cloud.exactly_below(t, cols[i], Fraction(first[i]) + Fraction(second))
        return meets

    def _repredict(self, t: int, cols: Int[np.ndarray, " m"], gap: Gap) -> None:
        """Adopt the class of ``cols``, all of one class, whose regions hold t."""
        outside, radius = gap.minus(self.radius[cols]), self.radius[t]
        maybe = -outside.low >= min(radius, -outside.high.min())
        whole = -outside.high >= radius
        if whole.any():  # the first of these leaves the whole radius: the later ones don't matter
            maybe[np.argmax(whole) + 1 :] = False
        cols = cols[maybe]
        room = np.minimum(-self.cloud.gap(t, cols).minus(self.radius[cols]).high, radius)
        best = int(np.argmax(room))
        self._set(t, cols[best], Case.REPREDICTED, room[best])
        self.predict[t] = self.predict[cols[best]]

    def _cap(self, t: int, cols: Int[np.ndarray, " m"], gap: Gap) -> None:
        """Shrink the ball of t until it meets no ball of ``cols``, which all meet it and don't hold t."""
        outside = gap.minus(self.radius[cols])
        cols = cols[outside.low <= outside.high.min()]
        room = self.cloud.gap(t, cols).minus(self.radius[cols]).low
        least = int(np.argmin(room))
        self._set(t, cols[least], Case.CAPPED, min(room[least], self.radius[t]))

    def _set(self, t: int, partner: int, case: Case, radius: float) -> None:
        self.radius[t], self.case[t], self.partner[t] = max(0.0, radius), case, partner
