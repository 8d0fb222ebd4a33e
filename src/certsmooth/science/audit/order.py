"""What the memory's order costs: certified accuracy and ACR under given, random and the worst orders of arrival.

`science.memory` makes certificates consistent within a session, but what each is worth then depends on the order of
arrival, so that a fair comparison takes the worst of all orders (Sukenik et al., ICML 2022, Appendix C.2). There are N!
of them; the worst one is bracketed here, by a lower bound over all orders and by the worst order found.

Let (x_i, C_i, R_i) be the given answers that do not abstain, d the metric of their norm, and y_i the label of image i.

Lemma. In every order, each remembered region, of centre x_t, class c and radius r_t, has a given answer j of class
C_j = c with d(x_j, x_t) + r_t <= R_j. Proof by induction on arrivals. If t keeps its class, j = t, since r_t <= R_t. If
it is repredicted by the region of i, of class c, then either r_t <= r_i - d(x_i, x_t), or x_t = x_i and r_t <= r_i, or
r_t = 0 and d(x_i, x_t) < r_i. In each case d(x_i, x_t) + r_t <= r_i, and the j of i serves: d(x_j, x_t) + r_t <=
d(x_j, x_i) + d(x_i, x_t) + r_t <= d(x_j, x_i) + r_i <= R_j.

Theorem. Let m_i be the least d(x_i, x_j) - R_j over all j with C_j != C_i, and infinite if there is none. If m_i > 0,
then in every order i keeps its class, with a radius of at least min(R_i, m_i), and some order leaves it no more. If
m_i < 0, then some order repredicts it.

Proof. For a remembered region k of another class than C_i, the lemma gives a j of that class with d(x_i, x_k) - r_k >=
d(x_i, x_j) - d(x_j, x_k) - r_k >= d(x_i, x_j) - R_j >= m_i. If m_i > 0, then x_i is neither in such a region nor its
centre, so i is not repredicted; it is capped at the least d(x_i, x_k) - r_k, or not at all. For the rest let the j of
the minimum arrive first, and then i.

So with min(R_i, m_i) where m_i > 0 and C_i is the true class, and nothing elsewhere, the mean over images is at most
what any one order gives. Each image alone can do no better than that; all together may, since no order need be worst
for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Shaped
from scipy.spatial.distance import cdist

from certsmooth._internal.checks import check_integer, check_seed
from certsmooth._internal.seeds import derive_seed
from certsmooth.science.certificates import ABSTAIN, Norm
from certsmooth.science.memory import memory_pass, shuffled_order
from certsmooth.science.metrics import average_certified_radius, certified_accuracy

METRICS: Mapping[Norm, Literal["cityblock", "euclidean"]] = {"l1": "cityblock", "l2": "euclidean"}
"""What SciPy calls the metric of a norm."""

_ROWS = 512  # points per block of distances
_UNIT = 2.0**-53
_TINY = 1e-150  # above the root of what underflows in a sum of squares


@dataclass(frozen=True)
class Score:
    """What certificates are worth.

    Attributes:
        accuracy: certified accuracy at each of the radii, in [0, 1].
        acr: average certified radius, in the certificate's norm.
    """

    accuracy: tuple[float, ...]
    acr: float


@dataclass(frozen=True)
class OrderCost:
    """What the memory costs, by the order of arrival. Without conflicts all scores are the same.

    Attributes:
        images: number of images.
        conflicts: pairs of answers of different classes whose certified regions intersect.
        radii: at which certified accuracy is given.
        shuffles: random orders.
        without: the certificates as given, without a memory.
        given: under the given order.
        mean: over the shuffles, of each number alone.
        least: over the shuffles, likewise.
        most: over the shuffles, likewise.
        worst_found: the least of each number over the given order, the shuffles and an adversarial order.
        bound: in no order any of the numbers is lower.
    """

    images: int
    conflicts: int
    radii: tuple[float, ...]
    shuffles: int
    without: Score
    given: Score
    mean: Score
    least: Score
    most: Score
    worst_found: Score
    bound: Score


@dataclass(frozen=True)
class Worst:
    """What each image is worth in the order that is worst for it alone.

    Attributes:
        keeps: bool [N], whether it keeps its class in every order.
        radius: float64 [N], lower bound on its radius where it keeps its class, else 0.
        harm: float64 [N], by how much it reduces the radii of the correct images if it arrives first, in all.
    """

    keeps: Bool[np.ndarray, " N"]
    radius: Float[np.ndarray, " N"]
    harm: Float[np.ndarray, " N"]


def order_cost(
    points: Shaped[np.ndarray, "N ..."],
    predict: Int[np.ndarray, " N"],
    radius: Float[np.ndarray, " N"],
    labels: Int[np.ndarray, " N"],
    *,
    order: Int[np.ndarray, " N"],
    radii: Sequence[float],
    shuffles: int,
    seed: int,
    norm: Norm,
) -> OrderCost:
    """Return what the memory costs under several orders, and a bound over all of them.

    Takes one memory pass if there are no conflicts, else ``shuffles`` + 2 passes and O(N^2 d) operations more.

    Args:
        points: the images; see `certsmooth.science.memory.memory_pass`.
        predict: class of each before any memory pass, or -1 (abstain).
        radius: radius of each, likewise.
        labels: the true classes.
        order: the given order: a permutation.
        radii: at which certified accuracy is given.
        shuffles: random orders, at least 1.
        seed: of the shuffles.
        norm: of the radii.

    Raises:
        ConfigError: an argument is not valid.
    """
    shuffles, seed = check_integer("shuffles", shuffles, minimum=1), check_seed("seed", seed)

    def score(predicted: Int[np.ndarray, " N"], left: Float[np.ndarray, " N"]) -> Score:
        correct = ((predicted == labels) & (predicted != ABSTAIN))[None]
        accuracy = tuple(certified_accuracy(correct, left[None], at) for at in radii)
        return Score(accuracy, average_certified_radius(correct, left[None]))

    def after(some: Int[np.ndarray, " N"]) -> Score:
        result = memory_pass(points, predict, radius, order=some, norm=norm)
        return score(result.predict, result.radius)

    first = memory_pass(points, predict, radius, order=order, norm=norm)
    without, given = score(predict, radius), score(first.predict, first.radius)
    about = (len(predict), first.conflicts, tuple(map(float, radii)), shuffles, without)
    if first.conflicts == 0:
        return OrderCost(*about, *(without,) * 6)
    random = [after(shuffled_order(len(predict), seed=derive_seed(seed, "order", s))) for s in range(shuffles)]
    worst = worst_for_each(points, predict, radius, labels, norm=norm)
    # Wrong answers first, which lose nothing, then those that do most harm.
    adversarial = after(np.lexsort((-worst.harm, predict == labels)).astype(np.int64))
    return OrderCost(
        *about,
        given=given,
        mean=_each(np.mean, random),
        least=_each(np.min, random),
        most=_each(np.max, random),
        worst_found=_each(np.min, [given, *random, adversarial]),
        bound=score(np.where(worst.keeps, predict, ABSTAIN), worst.radius),
    )


def worst_for_each(
    points: Shaped[np.ndarray, "N ..."],
    predict: Int[np.ndarray, " N"],
    radius: Float[np.ndarray, " N"],
    labels: Int[np.ndarray, " N"],
    *,
    norm: Norm,
) -> Worst:
    """Return the bound of the module's theorem for each image.

    It holds for what `memory_pass` returns, not only in exact arithmetic: distances are rounded down, and a radius is
    reduced by more than that pass, in rounding its distances, may take off it. An abstention harms nothing, and harm to
    a wrong answer is none. Arguments are those of `order_cost`.
    """
    answered = np.flatnonzero(predict != ABSTAIN)
    dimension = prod(points.shape[1:])
    # A cap is d - r_k with d < R_i + r_k, and d has errors of (dimension + 16) units at most.
    slack = (dimension + 32) * 2 * _UNIT * float(radius.max(initial=0.0)) + _TINY
    room, harm = np.full(len(predict), np.inf), np.zeros(len(predict))
    for rows in _blocks(answered):
        worth = np.where(predict[rows] == labels[rows], radius[rows], 0.0)[:, None]
        for cols in _blocks(answered):
            other = predict[rows, None] != predict[cols]
            outside = np.where(other, _lower_distances(points, rows, cols, norm, dimension) - radius[cols], np.inf)
            room[rows] = np.minimum(room[rows], outside.min(axis=1))
            harm[cols] += np.maximum(worth - np.maximum(outside, 0), 0).sum(axis=0)
    keeps = (predict != ABSTAIN) & (room > 0)
    return Worst(keeps, np.where(keeps, np.clip(room - slack, 0, radius), 0.0), harm)


def _blocks(positions: Int[np.ndarray, " M"]) -> list[npt.NDArray[np.int64]]:
    return [positions[start : start + _ROWS] for start in range(0, len(positions), _ROWS)]


def _lower_distances(
    points: Shaped[np.ndarray, "N ..."],
    rows: Int[np.ndarray, " r"],
    cols: Int[np.ndarray, " c"],
    norm: Norm,
    dimension: int,
) -> npt.NDArray[np.float64]:
    """Return lower bounds on distances: from direct differences, whose sum errs by d + 2 units in any order."""
    first, second = (points[some].reshape(len(some), -1).astype(np.float64) for some in (rows, cols))
    distances = cdist(first, second, METRICS[norm]) / (255.0 if points.dtype == np.uint8 else 1.0)
    return distances * (1 - (dimension + 8) * _UNIT) - _TINY


def _each(statistic: Callable[[Sequence[float]], float], scores: Sequence[Score]) -> Score:
    """Return a statistic of each number over several scores."""
    accuracy = tuple(float(statistic(values)) for values in zip(*(s.accuracy for s in scores), strict=True))
    return Score(accuracy, float(statistic([s.acr for s in scores])))
