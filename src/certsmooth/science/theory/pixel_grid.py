"""Noise on the grid of the pixels: what makes a certificate hold for the program that runs.

x + sigma z, computed in float32, shows the base classifier low bits that only some x can have, and a classifier that
looks at them can have the class of x changed within the certified radius (Voracek and Hein, ICLR 2023). Here the base
classifier sees multiples of a step q = 1 / levels alone: f(q clip(round((x + sigma z) / q))), with integers from -2^22
to 2^22. That is a deterministic map of ideal noise z, so every theorem about x -> f(x + sigma z) holds for it with
f(q clip(round(. / q))) in the place of f, at all real x. What is left is to draw from its law.

**Program.** The float32 image x is read in units of q / 2^16, rounded to nearest: S(x) = q (k + w), with k an integer
and -1/2 <= w < 1/2 for each pixel; the float32 number next to k q is read as k q, for levels up to 255. The classifier
sees q (k + Z), Z = round(w + s z), s = sigma / q, where the law of Z is that of the real number z up to a total
variation distance of t an image. Where w = 0 for every pixel, Z comes from a table of its law, elsewhere from the
quantile of each number (`science.noise`): two ways to draw from one law. k + Z is exact in float32, and the one
division is rounded alike on every device. Random bits are taken for uniform and independent, as everywhere.

**Theorem.** Let a certificate say, for ideal noise, that the class A is the most probable one everywhere in the open
ball of radius R around S(x), of sigma(x') with |log(sigma(x') / sigma(x))| <= e(distance), e non-decreasing, whenever
P(A) >= L and P(c) <= U at S(x) for every other class c. If it says so for L - 3 t and U + 3 t, with t the larger of the
distances at x and x', then in the open ball of radius R - 2 m around x the class A is the most probable one for the
program, where L and U are bounds for the program at x, and m bounds the distance of any S(x) from x.

Proof. *Places.* ||S(x') - S(x)|| <= ||x' - x|| + 2 m < R. The pair of noise levels is one that e allows at the distance
D = ||x' - x|| + 2 m < R, and what holds for it at distance D holds at smaller distances (`worst_case`, item 2; the
bounds of `renyi`, `l1` and `cohen` grow with the distance).

*Probabilities.* For the two laws at S(x) and S(x'), let a(p) be the least probability at S(x') of a region that has
probability p at S(x), and b(p) = 1 - a(1 - p) the largest. By the lemma of Neyman and Pearson a is convex, with
a(0) = 0, so its slope at p is at least a(p) / p >= a(p), and b is concave, with slope at least 1 - b(p). The regions of
A, of the runner-up and of the rest can be made the worst ones at once, so what the certificate says means
a(L - 3 t) >= b(U + 3 t). Between 3 t and t the difference a - b grows with slope at least
a(L - 3 t) + 1 - b(U + 3 t) >= 1, hence a(L - t) - b(U + t) >= 2 t. The ideal probabilities at S(x) are at least L - t
and at most U + t; so at S(x') that of A exceeds the others by 2 t, and for the program, t away in both, it is not below
them. (With more room than the certificate needs at distance D < R the inequality is strict.)

**Distance.** t = d t1, for d independent numbers. For one, P(Z <= j) is the probability of z up to (j + 1/2 - w) / s;
half the sum of the errors of P(Z = j) is at most the sum over j of the errors e_j of that. Random numbers have 64 bits:
2^-64 each, for fewer than 20 s + 2 boundaries.

- Table (w = 0): the lower tail is computed in float64, with relative error below 2^-50 (1 + c^2) at c standard
  deviations (measured against 50-digit arithmetic: at most 0.4 of that); summed over c = (j + 1/2) / s, both sides, it
  is at most 2^-50 (1.4 s + 2).
- Quantile: the program computes w + s z with an error of at most r = 2^-49 s (1 + |z|) + 2^-53, of which the
  quantile's own is half (measured: a quarter of that), and errs in e_j only if w + s z is that close to j + 1/2: the
  sum is at most that of 2 r / s times the normal density over the boundaries, below 2^-49 (3.6 s + 2.2) +
  2^-52 (1 + 0.8 / s).

Uniform noise: the tail is linear, and both errors are smaller. So t1 <= 2^-47 (1 + s) + 2^-52 / s covers all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from jaxtyping import Float

from certsmooth._internal.checks import check_number, store_integer
from certsmooth.errors import ConfigError

SUBSTEPS = 2**16
"""Parts of a step in which images are read."""

LARGEST = 2**22
"""Of the integers that the base classifier sees as multiples of the step: all of them are float32 numbers."""

_MOST_LEVELS = 999_999
_STEP = re.compile(r"1/([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class PixelGrid:
    """The multiples of a step, 1 / ``levels`` in pixel coordinates.

    Attributes:
        levels: steps from 0 to 1: 255 for images of 8 bits.

    Raises:
        ConfigError: levels is not a whole number from 1 to 999,999.
    """

    levels: int

    def __post_init__(self) -> None:
        store_integer(self, "levels", minimum=1, maximum=_MOST_LEVELS)

    @classmethod
    def of_step(cls, step: float | str) -> PixelGrid:
        """Return the grid of a step, given as a number or as text like 1/255.

        Raises:
            ConfigError: the step is not 1 divided by a whole number up to 999,999.
        """
        right = f"must be 1 divided by a whole number up to {_MOST_LEVELS}, as 1/255"
        if isinstance(step, str):
            if (found := _STEP.fullmatch(step)) is None:
                raise ConfigError(f"step: {step!r}; {right}")
            return cls(int(found[1]))
        number = check_number("step", step, above=0)
        if not 0.5 / _MOST_LEVELS < number <= 1 or abs(round(1 / number) * number - 1) > 1e-9:
            raise ConfigError(f"step: {step!r}; {right}")
        return cls(round(1 / number))

    def total_variation(self, sigma: Float[np.ndarray, " N"], dimension: int) -> Float[np.ndarray, " N"]:
        """Return t: how far the law of the noise of an image is from that of ideal noise at most, rounded up.

        Args:
            sigma: scale of the noise, in pixel coordinates.
            dimension: numbers per image.
        """
        s = sigma * float(self.levels)
        return np.minimum(dimension * (2.0**-47 * (1 + s) + 2.0**-52 / s) * (1 + 2.0**-40), 1.0)

    def displacement(self, dimension: int, *, norm: Literal["l1", "l2"]) -> float:
        """Return m: how far an image is from where it is read at most, rounded up, in pixel coordinates.

        Args:
            dimension: numbers per image.
            norm: of the distance.
        """
        factor = float(dimension) if norm == "l1" else sqrt(dimension)
        return factor / (2 * SUBSTEPS * self.levels) * (1 + 2.0**-40)

    def holds(self, pixels: Float[np.ndarray, " N"]) -> bool:
        """Return whether pixels, float32, are read as multiples of the step: w is 0 for each."""
        read = (pixels.astype(np.float64) * (self.levels * SUBSTEPS)).round()
        return bool((read % SUBSTEPS == 0).all())


def grid_of(step: float | str | None) -> PixelGrid | None:
    """Return the grid of a step, as `PixelGrid.of_step`; None for None, float32 noise."""
    return None if step is None else PixelGrid.of_step(step)
