"""Certificates from the Renyi divergence (IDRS, Appendix B.1), for an r-semi-elastic sigma(x).

Li et al. (NeurIPS 2019) certify with divergences of two Gaussians of one sigma; IDRS (Theorem B.5) lets sigma differ.
The radius is below that of `semi_elastic`, which is the best possible; it is here for comparison (IDRS, Figure 11).

**Divergence** (IDRS, Lemmas B.1 to B.3). For an order o > 0, o != 1, P = N(x1, s1^2 I) and Q = N(x0, s0^2 I) in N
dimensions, D(P || Q) = log(int p^o q^(1-o)) / (o - 1). Completing the square in the Gaussian integral, with
a = ||x1 - x0|| / s0, u = log(s1 / s0) and w = (1 - o) e^(2u) + o, gives for w > 0

    D = h(a, u) = o a^2 / (2 w) + N (log(w) / (2 (1 - o)) - u)

and infinity for w <= 0. The lemmas agree, where "sigma_1^1" is read as sigma_1^2. In Theorem B.5's proof the last
inequality must be "<=", and its set of orders leaves out o = s1^2 / (s1^2 - s0^2), at which w = 0.

**Threshold** (Lemma B.4, which IDRS cites). Let q be a distribution on the classes with q_A <= q_B for some B, and p
one with p_A > p_B. Then D(q || p) >= T(p_A, p_B) = -log(1 - p_A - p_B + 2 M), M = ((p_A^e + p_B^e) / 2)^(1/e),
e = 1 - o. Proof for o > 1 (for o < 1 all inequalities and the sign of 1 / (o - 1) turn around): with t = q_A + q_B,
the sum of q_c^o p_c^e over the other classes is at least (1 - t)^o (1 - p_A - p_B)^e by Hoelder. The part of A and B
is convex in q_A at fixed t, with its minimum where q_A / q_B = p_A / p_B > 1, so under q_A <= q_B it is least at
q_A = q_B = t / 2, with the value t^o (2 M)^e. By Hoelder again, the two parts sum to at least
(1 - p_A - p_B + 2 M)^e.

**Bounds instead of probabilities.** T grows with p_A and falls with p_B while p_A > p_B: the derivative of
1 - p_A - p_B + 2 M by p_A is (M / p_A)^o - 1 < 0, by p_B it is (M / p_B)^o - 1 > 0. So T(L, U) <= T(p_A, p_c) for every
class c if L <= p_A, U >= p_c and L > U; any number of classes is covered.

**Certificate of a pair.** The classes under noise at x1 and x0 are functions of the two Gaussians, so their divergence
is at most h(a, u) (data processing). If h(a, u) < T for *some* order o, then A is the most likely class at x1. So a
poor maximum over the orders costs radius, never soundness.

**Certificate of a ball.** At distance s sigma0, |u| <= v(s) = r sigma0 max(0, s - c). For each order, h(a, u) falls and
then rises in u, as its derivative has the sign of a quadratic in z = e^(2u) on w > 0,
N o ((1 - o) z^2 + (2 o - 1) z - o) - o a^2 (1 - o) z, which for o < 1 is convex and negative at z = 0; for o > 1 both
terms of h are convex in u. So on [0, v] it is at most max(h(a, 0), h(a, v)), on [-v, 0] likewise, and both maxima grow
with s: a and v do, h rises in a, and the interval widens. So one order for each side, good at distance s, is good at
all smaller distances: it is enough to find one for each side for the radius that is returned.

**Rounding.** Each of the two sides of h < T is a sum of terms with relative errors of a few hundred units in the last
place as long as w >= 1/64, to which the orders are confined; the comparison leaves 2^-40 of all magnitudes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from certsmooth._internal.checks import check_integer
from certsmooth.errors import ConfigError
from certsmooth.science.certificates import Smoothing, known_semi_elasticity
from certsmooth.science.certificates._one_sided import OneSided

Array = npt.NDArray[np.float64]

_ROUNDING = 2.0**-40
_SMALLEST_ORDER, _LARGEST_ORDER = 1e-3, 1e3
_SMALLEST_W = 1 / 64
_SMALLEST_PROBABILITY = 1e-300
_LARGEST_CHANGE = 50.0
"""Of log sigma; more is not certified."""
_LARGEST_RATE = 1e300
_GOLDEN = (5**0.5 - 1) / 2
_STEPS = 24
"""Of the golden-section search for an order: a ten-thousandth of log(order), whose effect on the radius is of second
order."""
_BISECTIONS = 40
_ROUNDS = 6


@dataclass(frozen=True)
class RenyiCertificate(OneSided):
    """The Renyi certificate with p_B = 1 - p_a_lower, or abstention."""

    max_semi_elasticity: ClassVar[float | None] = inf

    def radius(self, p_a_lower: Float[np.ndarray, " N"], smoothing: Smoothing) -> Float[np.ndarray, " N"]:
        """Return the radius of the ball of this module's docstring.

        Raises:
            ConfigError: the semi-elasticity is not known.
        """
        rate = known_semi_elasticity(smoothing)
        sigma = smoothing.sigma.astype(np.float64)
        p_a = np.maximum(p_a_lower, 0.5)
        p_b = 1.0 - p_a
        radius = renyi_radius(p_a, p_b, sigma, sigma, smoothing.dimension)
        if rate > 0:
            within = smoothing.constant_within / sigma
            slope, extra = rate * sigma, smoothing.rounding
            sides = (_reach(p_a, p_b, radius / sigma, slope, within, extra, smoothing.dimension, u) for u in (-1, 1))
            radius = np.minimum(sigma * np.minimum(*sides), radius)  # the quotient above may have been rounded up
        return radius


def renyi_radius(
    p_a_lower: npt.ArrayLike, p_b_upper: npt.ArrayLike, sigma0: npt.ArrayLike, sigma1: npt.ArrayLike, dimension: int
) -> Float[np.ndarray, " *shape"]:
    """Return the distance below which x1, smoothed with sigma1, has the class of x0, smoothed with sigma0.

    IDRS, Theorem B.5: the square is the largest 2 w sigma0^2 / o (T - h(0, u)) over the orders o, by golden section.

    Args:
        p_a_lower: lower bound on the probability of the class at x0, any shape.
        p_b_upper: upper bound on the probability of every other class at x0, of a shape that broadcasts; more than
            1 - p_a_lower counts as that.
        sigma0: standard deviation of the noise at x0, likewise; pixel coordinates.
        sigma1: that at x1.
        dimension: numbers per image.

    Returns:
        float64, of the common shape; 0 where p_a_lower <= p_b_upper, or no order certifies any distance.

    Raises:
        ConfigError: an argument is out of range.
    """
    dimension = check_integer("dimension", dimension, minimum=1)
    p_a, p_b, s0, s1 = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (p_a_lower, p_b_upper, sigma0, sigma1)))
    for name, p in (("p_a_lower", p_a), ("p_b_upper", p_b)):
        if not ((p >= 0) & (p <= 1)).all():
            raise ConfigError(f"{name}: {p[~((p >= 0) & (p <= 1))][0]}; must be in [0, 1]")
    for name, sigma in (("sigma0", s0), ("sigma1", s1)):
        if not (np.isfinite(sigma) & (sigma > 0)).all():
            raise ConfigError(f"{name}: {sigma[~(np.isfinite(sigma) & (sigma > 0))][0]}; must be finite and above 0")
    p_b = np.maximum(np.minimum(p_b, 1 - p_a), _SMALLEST_PROBABILITY)
    u = np.log(s1 / s0)

    def square(order: Array) -> Array:
        return 2 * _w(order, u) / order * _slack(order, p_a, p_b, np.zeros_like(u), u, dimension)

    best = np.maximum(square(_best_order(square, u)), 0.0)
    return np.where(p_a > p_b, s0 * np.sqrt(best) * (1 - _ROUNDING), 0.0)


def _reach(
    p_a: Array, p_b: Array, largest: Array, rate: Array, within: Array, extra: float, dimension: int, side: int
) -> Array:
    """Return up to which distance s <= ``largest`` all u from 0 to side * v(s) are certified, in units of sigma0.

    For one order it is found by bisection; the order that leaves most slack there is the next one. The distance never
    falls from one order to the next, and stops changing after a few.
    """
    rate = np.minimum(rate, _LARGEST_RATE)  # where it is infinite, 0 * rate is still 0

    def change_at(s: Array) -> Array:
        return np.where(s > within, rate * np.maximum(s - within, 0.0) + extra, 0.0)

    def slack(order: Array, s: Array) -> Array:
        change = change_at(s)
        u = side * np.minimum(change, _LARGEST_CHANGE)
        worse = np.minimum(_slack(order, p_a, p_b, s, 0 * u, dimension), _slack(order, p_a, p_b, s, u, dimension))
        return np.where((change < _LARGEST_CHANGE) & (_w(order, u) >= _SMALLEST_W), worse / order, -inf)

    reach = np.zeros_like(p_a)
    for _ in range(_ROUNDS):
        u = side * np.minimum(change_at(reach), _LARGEST_CHANGE)
        order = _best_order(partial(slack, s=reach), u)
        low, high = reach, largest
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            good = slack(order, middle) > 0
            low, high = np.where(good, middle, low), np.where(good, high, middle)
        reach = low
    return reach


def _slack(order: Array, p_a: Array, p_b: Array, a: Array, u: Array, dimension: int) -> Array:
    """Return T - h(a, u), less what may be rounding."""
    order = np.where(order == 1, 1 + _ROUNDING, order)
    e = 1 - order
    half = 0.5 * np.log(p_a / p_b)
    log_cosh = np.abs(e * half) + np.log1p(0.5 * np.expm1(-2 * np.abs(e * half)))
    twice_mean = 2 * np.sqrt(p_a * p_b) * np.exp(log_cosh / e)
    threshold = -np.log(np.maximum(1 - p_a - p_b, 0.0) + twice_mean)
    w = np.maximum(_w(order, u), _SMALLEST_W)
    shift = order * a * a / (2 * w)
    growth = np.log1p(np.maximum(e * np.expm1(2 * u), _SMALLEST_W - 1)) / (2 * e)
    magnitude = 1 - np.log(p_b) + shift + dimension * (np.abs(growth) + np.abs(u))
    slack: Array = threshold - shift - dimension * (growth - u) - _ROUNDING * magnitude
    return slack


def _w(order: Array, u: Array) -> Array:
    return 1 + (1 - order) * np.expm1(2 * u)


def _best_order(value: Callable[[Array], Array], u: Array) -> Array:
    """Return orders where ``value`` is large, by golden section on log(order) among those with w >= 1/64 at u."""
    excess = np.maximum(np.expm1(2 * u), (1 - _SMALLEST_W) / (_LARGEST_ORDER - 1))
    low = np.full_like(u, np.log(_SMALLEST_ORDER))
    high = np.log(1 + (1 - _SMALLEST_W) / excess)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = value(np.exp(left)), value(np.exp(right))
    for _ in range(_STEPS):
        up = at_left < at_right
        low, high = np.where(up, left, low), np.where(up, high, right)
        new = np.where(up, low + _GOLDEN * (high - low), high - _GOLDEN * (high - low))
        at_new = value(np.exp(new))
        left, right = np.where(up, right, new), np.where(up, new, left)
        at_left, at_right = np.where(up, at_right, at_new), np.where(up, at_new, at_left)
    return np.exp(np.where(at_left < at_right, right, left))
