"""Bounds on the distances between many points: close, and never wrong."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Shaped
from scipy.spatial.distance import cdist

from certsmooth.errors import ConfigError
from certsmooth.science.certificates import Norm

UNIT = 2.0**-53
"""Unit roundoff of float64."""

TILE = 2**22
"""Elements of the largest temporary arrays: 32 MiB of float64."""

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Gap:
    """Distances from one point to m others: each is in [low, high], and 0 if high is 0."""

    low: Float[np.ndarray, " m"]
    high: Float[np.ndarray, " m"]

    def __getitem__(self, which: Bool[np.ndarray, " m"]) -> Gap:
        return Gap(self.low[which], self.high[which])

    def below(self, limit: Float[np.ndarray, " m"]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which are below a limit, or 0, for certain; and for which that is unclear.

        Args:
            limit: numbers, 0 or more, each rounded to nearest from the one that is meant.
        """
        certain = (self.high < np.nextafter(limit, -np.inf)) | (self.high == 0)
        return certain, (self.low < np.nextafter(limit, np.inf)) & ~certain

    def minus(self, radius: Float[np.ndarray, " m"]) -> Gap:
        """Return bounds on distance - radius."""
        return Gap(_subtract(self.low, radius, -np.inf), _subtract(self.high, radius, np.inf))


def _subtract(a: Float[np.ndarray, " m"], b: Float[np.ndarray, " m"], toward: float) -> npt.NDArray[np.float64]:
    """Return a - b, rounded toward the infinity ``toward`` unless it is exact."""
    difference = a - b
    part = difference - a
    error = (a - (difference - part)) - (b + part)  # a - b - difference, exactly (Knuth's two-sum)
    rounded: npt.NDArray[np.float64] = np.where(
        error * np.sign(toward) > 0, np.nextafter(difference, toward), difference
    )
    return rounded


class Cloud(ABC):
    """Points in order of arrival, and bounds on the distances between them in an l_p norm.

    What is summed and compared are powers: scale^p times the p-th power of a distance.
    """

    power: ClassVar[int]
    """p."""

    def __init__(self, points: Shaped[np.ndarray, "N d"], arrived: Int[np.ndarray, " M"]) -> None:
        self.points, self.arrived, self.dims = points, arrived, max(1, points.shape[1])
        # Sums of bytes and of their products are exact in float64: distances between 8-bit images have no margin.
        self.exact = points.dtype == np.uint8
        self.scale = 255.0 if self.exact else 1.0
        self.norms = np.zeros(len(arrived))
        with np.errstate(over="ignore", invalid="ignore"):
            for part in self._chunks(len(arrived)):
                self.norms[part] = (np.abs(self._load(part)) ** self.power).sum(axis=1)
        if not (self.norms < 1e300).all():
            raise ConfigError("points: a coordinate is not finite, or its power is too large to be summed")

    def _load(self, which: slice | Int[np.ndarray, " m"]) -> npt.NDArray[np.float64]:
        """Return points by arrival, times the scale, as float64 (exact)."""
        loaded: npt.NDArray[np.float64] = self.points[self.arrived[which]].astype(np.float64)
        return loaded

    def _chunks(self, stop: int) -> list[slice]:
        step = max(1, TILE // self.dims)
        return [slice(s, min(s + step, stop)) for s in range(0, stop, step)]

    @abstractmethod
    def lower_powers(self, rows: slice) -> npt.NDArray[np.float64]:
        """Return lower bounds of the powers of the distances from ``rows`` to all up to their last."""

    @abstractmethod
    def bounds(self, t: int, cols: Int[np.ndarray, " m"], low: Float[np.ndarray, " m"]) -> Gap:
        """Return bounds on the distances from t, given what `lower_powers` returned for them."""

    def upper_power(self, limit: Float[np.ndarray, "*m"]) -> npt.NDArray[np.float64]:
        """Return upper bounds of the powers of numbers that err by one unit."""
        with np.errstate(over="ignore"):  # an infinite power is a right one
            power: npt.NDArray[np.float64] = (limit * self.scale) ** self.power * (1.0 + 16 * UNIT)
        return power

    def gap(self, t: int, cols: Int[np.ndarray, " m"]) -> Gap:
        """Return tight bounds on the distances from t, from direct differences: no cancellation."""
        powers, same = np.empty(len(cols)), np.empty(len(cols), bool)
        for part in self._chunks(len(cols)):
            difference = self._load(cols[part]) - self._load(slice(t, t + 1))
            powers[part], same[part] = (np.abs(difference) ** self.power).sum(axis=1), ~difference.any(axis=1)
        # A difference is 0 only if it is so exactly, and else errs by u; a sum of d powers by (d + 2) u.
        error = (self.dims + 8) * UNIT * powers + self.dims * _TINY
        error[same | self.exact] = 0.0
        return self._gap(powers - error, powers + error)

    def exactly_below(self, t: int, j: int, limit: Fraction) -> bool:
        """Return whether a distance is below ``limit``, in rational arithmetic."""
        x, y = self.points[self.arrived[t]].tolist(), self.points[self.arrived[j]].tolist()
        differences = (abs(Fraction(a) - Fraction(b)) for a, b in zip(x, y, strict=True))
        return sum((d**self.power for d in differences), Fraction(0)) < (limit * Fraction(self.scale)) ** self.power

    def _gap(self, low: Float[np.ndarray, " m"], high: Float[np.ndarray, " m"]) -> Gap:
        """Return bounds on distances, given bounds on their powers."""
        low = np.maximum(low, 0.0)
        if self.power == 2:
            low, high = np.sqrt(low), np.sqrt(high)
        # Root, quotient and product each err by one unit at most, relatively; the factors have room for four.
        return Gap(low / self.scale * (1.0 - 4 * UNIT), high / self.scale * (1.0 + 4 * UNIT))


class L2Cloud(Cloud):
    """Euclidean distances, by matrix products."""

    power = 2

    def __init__(self, points: Shaped[np.ndarray, "N d"], arrived: Int[np.ndarray, " M"]) -> None:
        super().__init__(points, arrived)
        # For any order of summation |fl(x.y) - x.y| <= d u |x| |y|, and 2 |x| |y| <= |x|^2 + |y|^2: the
        # product and both norms err by 2 d u (|x|^2 + |y|^2) in all; 40 u for the additions, d tiny for
        # underflow.
        self.margin = self.norms * ((2 * self.dims + 40) * UNIT) + self.dims * _TINY
        if self.exact:
            self.margin[:] = 0.0

    def lower_powers(self, rows: slice) -> npt.NDArray[np.float64]:
        """See `Cloud`."""
        low, x = self.norms - self.margin, self._load(rows)
        squares = np.empty((len(x), rows.stop))
        for cols in self._chunks(rows.stop):
            np.matmul(x, self._load(cols).T, out=squares[:, cols])
        squares *= -2.0
        squares += low[rows, None]
        squares += low[: rows.stop]
        return squares

    def bounds(self, t: int, cols: Int[np.ndarray, " m"], low: Float[np.ndarray, " m"]) -> Gap:
        """See `Cloud`."""
        return self._gap(low, low + 2 * (self.margin[t] + self.margin[cols]))


class L1Cloud(Cloud):
    """Sums of absolute differences."""

    power = 1

    def __init__(self, points: Shaped[np.ndarray, "N d"], arrived: Int[np.ndarray, " M"]) -> None:
        super().__init__(points, arrived)
        # A sum S of d differences, in any order, errs by (d + 8) u S; 8 u for the products that use the margin.
        self.margin = 0.0 if self.exact else (self.dims + 16) * UNIT
        self.tiny = 0.0 if self.exact else _TINY

    def lower_powers(self, rows: slice) -> npt.NDArray[np.float64]:
        """See `Cloud`."""
        x = self._load(rows)
        sums = np.empty((len(x), rows.stop))
        for cols in self._chunks(rows.stop):
            sums[:, cols] = cdist(x, self._load(cols), "cityblock")
        sums *= 1.0 - self.margin
        return sums

    def bounds(self, t: int, cols: Int[np.ndarray, " m"], low: Float[np.ndarray, " m"]) -> Gap:
        """See `Cloud`."""
        # Differences and sums are exact where they underflow, the products err by less than tiny there.
        return self._gap(low, low * (1.0 + 3 * self.margin) + self.tiny)


CLOUDS: dict[Norm, type[Cloud]] = {"l1": L1Cloud, "l2": L2Cloud}
