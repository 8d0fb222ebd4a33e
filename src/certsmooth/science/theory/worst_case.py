"""The worst case over all classifiers when the noise depends on the input: xi, and the radius it certifies.

Súkeník, Kuvshinov and Günnemann (ICML 2022, "IDRS"), Theorems 2.2 to 3.2. x smooths with N(x, sigma0^2 I), another
point x' at distance a with N(x', sigma1^2 I), both in N dimensions. All classifiers that answer the certified class at
x with probability p or more are considered; the one least likely to at x' answers otherwise on a region B of
probability 1 - p under the first normal law where the ratio of the two densities is largest (Neyman and Pearson), and
`xi` is the probability of B under the second. If xi < 1/2, the smoothed classifier's answer at x' is that of x.

**Coordinates.** z = (x - x0) / sigma0, its first axis toward x', rho = sigma1 / sigma0, t = a / sigma0 and
k = (1 - rho^2) / 2. The logarithm of the ratio is increasing in T = t z_1 - k (|z|^2 - N), so B = {T >= m}: a ball if
rho < 1, the complement of one if rho > 1, a half-space if rho = 1. Under the first law T is t Z_1 - k (|Z|^2 - N);
under the second, T - mu has the same form with rho^3 t and rho^2 k in place of t and k, and
mu = t^2 (1 - k) + 2 k^2 N. `_worst_case_tails` evaluates both for any N and rho.

**Why one pair of noise levels per distance, and one distance, suffice.** Write xi(a, rho); p > 1/2.

1. *If xi(a, rho') >= 1/2 then xi(a, rho) >= 1/2 for every rho further from 1 on the same side.* Let B be the region of
   rho'. For rho' <= 1, B is closed and convex; having probability >= 1/2 under a normal law centred at x', it
   contains x' (a half-space beyond x' would otherwise contain B), so it is star-shaped about x', and less noise makes
   it no less likely. For rho' >= 1 the complement of B is open and convex with probability <= 1/2: if it contains x'
   it is star-shaped about it, and more noise makes it no more likely; if not, a half-space that ends at x' contains
   it, and with any noise its probability is <= 1/2. Either way B has probability >= 1/2 under the second law with rho
   too, and still 1 - p under the first; xi(a, rho) is the largest that such a region can have.
2. *xi(a, rho) does not decrease in a.* rho <= 1: the ball's centre, a / (1 - rho^2) along the axis, lies beyond x0 in
   the direction of x'. Move ball and x' together by the same step away from x0: the probability under the second law
   is the same, and that under the first does not rise (Anderson's inequality), so the largest for that budget is no
   smaller. rho > 1: the centre of the complement lies on the other side of x0, at -a / (rho^2 - 1). Leave B where it is
   and move x' away: the excluded ball gets less likely. rho = 1: a half-space, as in the first case.

Let |log(sigma(x') / sigma(x))| <= e(a) with e non-decreasing, and call R certified if xi(R, exp(-e(R))) and
xi(R, exp(e(R))) are both < 1/2. If R is certified then so is every smaller R' (were it not, xi(R', exp(+-e(R'))) >= 1/2
for one sign, hence xi(R, exp(+-e(R'))) >= 1/2 by 2, hence xi(R, exp(+-e(R))) >= 1/2 by 1). So the certified distances
are an interval from 0, one check at its end covers all of it, and by 1 it covers every noise level in between. By 1
again, with rho' = 1, no radius exceeds Cohen's, and it does not rise with e.

**Rounding.** At its median under the second law, m makes xi = 1/2; so R is certified exactly if P0(T >= m) > 1 - p for
some m with P1(T >= m) <= 1/2. `semi_elastic_radius` returns R only if an m was found whose computed P1 is below
1/2 - `_GAP` and whose computed P0 exceeds (1 - p)(1 + `SLACK`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float
from scipy.special import ndtri

from certsmooth._internal.checks import check_integer
from certsmooth.errors import ConfigError
from certsmooth.science.theory._worst_case_tails import Column, Form, quantile, saddle, score, tails, threshold

Row = Float[np.ndarray, " B"]
Flags = Bool[np.ndarray, "B 1"]

SLACK = 1e-12
"""Relative slack for the numerical error of P0(T >= m), at the m that is used and as a function of t and rho.

Of that error, the part of the quadrature is proved to be below 1e-15 (`_worst_case_tails`), and the rest is rounding:
against 40-digit arithmetic at 2,000 random N from 1 to 10^7, t and rho near the certified radius, and probabilities
from 1e-17 to 1/2, it was at most 6e-14."""

_GAP = 1e-13
"""Slack for the numerical error of P1(T >= m) at the median; it was at most 1e-15."""

_ROUND_DOWN = 1.0 - 2.0**-46
"""Covers the error of ndtri on (1/2, 1), measured as below 2**-50 of the value, and of a few products."""

_FARTHEST = 50.0
"""Where sigma may have changed by exp(50) nothing is certified. Nothing is lost: a ball of probability 1/2 under the
second law then has 1e-21 at most under the first, and 1 - p is 1e-16 or more in float64 unless p = 1."""


def constant_radius(p_a_lower: npt.ArrayLike, sigma: npt.ArrayLike) -> Float[np.ndarray, " *shape"]:
    """Return sigma Phi^-1(p_a_lower), rounded down: the radius of Cohen et al. for one constant sigma.

    Args:
        p_a_lower: lower bounds on the probability of the certified class; up to 1/2 the radius is 0.
        sigma: standard deviations of the noise, in pixel coordinates [0, 1].
    """
    p, s = np.asarray(p_a_lower, np.float64), np.asarray(sigma, np.float64)
    return s * (ndtri(np.maximum(p, 0.5)) * _ROUND_DOWN)


def xi(
    distance: npt.ArrayLike,
    sigma0: npt.ArrayLike,
    sigma1: npt.ArrayLike,
    dimension: int,
    p_a_lower: npt.ArrayLike,
) -> Float[np.ndarray, " *shape"]:
    """Return the largest probability at x1 of a region that has probability 1 - p_a_lower at x0.

    IDRS, Theorem 2.3 (xi_> for sigma0 > sigma1, xi_< for sigma0 < sigma1), and the half-space of Cohen et al. where
    they are equal. Arguments but ``dimension`` broadcast. The error is below 1e-12 (largest seen, against
    40-digit arithmetic: 2e-14).

    Args:
        distance: of x0 and x1, 0 or more, in pixel coordinates [0, 1].
        sigma0: standard deviation of the noise at x0.
        sigma1: standard deviation of the noise at x1.
        dimension: of x0 and x1, at least 1.
        p_a_lower: 1 minus the probability at x0, in [0, 1].

    Returns:
        float64, of the common shape, in [0, 1].

    Raises:
        ConfigError: an argument is out of range or not a number; the message names it.
    """
    dimension = check_integer("dimension", dimension, minimum=1)
    a, s0, s1, p = np.broadcast_arrays(
        _number("distance", distance), _sigma("sigma0", sigma0), _sigma("sigma1", sigma1), _p(p_a_lower)
    )
    near = np.abs(s1 / 2 - s0 / 2) < s0 / 4
    # Beyond these bounds xi is 1 to the last digit, unless p = 1.
    log_rho = np.where(near, np.log1p(np.where(near, s1 - s0, 0.0) / s0), np.log(s1) - np.log(s0)).clip(-100, 100)
    with np.errstate(over="ignore"):
        t = np.minimum(a / s0, 1e10 * np.maximum(1.0, np.exp(log_rho)))
    result = np.array(1.0 - p)
    some = (p > 1e-30) & (p < 1) & ((t > 0) | (log_rho != 0))
    if some.any():
        pair = _Pair(t[some][:, None], log_rho[some][:, None], dimension)
        z = np.where(p > 0.5, -ndtri(1 - p), ndtri(p))[some]
        result[some] = pair.probability(z[:, None])[:, 0]
    return result


def semi_elastic_radius(
    p_a_lower: npt.ArrayLike,
    sigma: npt.ArrayLike,
    semi_elasticity: npt.ArrayLike,
    dimension: int,
    *,
    constant_within: npt.ArrayLike = 0.0,
    rounding: float = 0.0,
    least_change: npt.ArrayLike = 0.0,
) -> Float[np.ndarray, " *shape"]:
    """Return certified radii for a sigma(x) that varies slowly: IDRS, Theorem 3.2, with an inner ball added.

    The policy guarantees |log sigma(x') - log sigma(x)| <= r max(0, |x' - x| - c), plus ``rounding`` beyond c. With c =
    0 that is an r-semi-elastic sigma(x); with c = infinity, or r = 0, sigma is constant and the radius that of Cohen et
    al., bit for bit. The radius is the supremum of the R at which xi < 1/2 for both extreme noise levels (see the
    module), rounded down: by less than 1e-10 of it where p_a_lower >= 0.51, and to 0 where p_a_lower - 1/2 is below
    about 1e-12.

    Args (of shapes that broadcast, but for ``dimension``):
        p_a_lower: lower bounds on the probability of the certified class; up to 1/2 the radius is 0.
        sigma: sigma(x), the standard deviation of the noise, in pixel coordinates [0, 1].
        semi_elasticity: r, 0 or more, per unit of pixel coordinates; infinite where only c is known.
        dimension: of x, at least 1.
        constant_within: c, 0 or more: the distance from x within which sigma(x') is exactly sigma(x).
        rounding: 0 or more; not used where r = 0, as the same number is rounded alike.
        least_change: 0 or more: sigma is taken to change by this at every distance beyond c, in its logarithm, where
            less is guaranteed. With e(a) the guarantee, max(e(a), ``least_change``) does not decrease in a either and
            allows all that e(a) allows, so what it certifies is certified; the radius is smaller or the same. Not used
            where r = 0.

    Returns:
        float64, of the common shape of the arrays: the prediction is that of x in the open ball of this radius.

    Raises:
        ConfigError: an argument is out of range or not a number; the message names it.
    """
    dimension = check_integer("dimension", dimension, minimum=1)
    p, s, r, within, least = np.broadcast_arrays(
        _p(p_a_lower),
        _sigma("sigma", sigma),
        _number("semi_elasticity", semi_elasticity),
        _number("constant_within", constant_within),
        _number("least_change", least_change),
    )
    extra = float(_number("rounding", rounding))
    cohen = constant_radius(p, s)
    sure = np.minimum(cohen, within)
    with np.errstate(over="ignore"):
        slope = r * s
    radius = np.array(np.where(slope > 0, sure, cohen))
    radius[(p == 1) & (slope < np.inf)] = np.inf  # B has probability 0 under both laws
    budget = np.array((1 - p) * (1 + SLACK))  # with it in place of 1 - p, computed probabilities can be taken for exact
    some = (p < 1) & (slope > 0) & (slope < 1e100) & (within < -ndtri(budget) * s * _ROUND_DOWN)
    some &= np.maximum(least, extra) < _FARTHEST
    if some.any():
        c = within[some] / s[some]
        reach = c + _reach(budget[some], c, slope[some], dimension, extra, least[some])
        # The factor also covers the rounding of c and of the slope: at the radius, sigma varies less than was checked.
        radius[some] = np.clip(s[some] * (reach * _ROUND_DOWN), sure[some], cohen[some])
    return radius


class _Pair:
    """The two laws of T, for pairs (t, log rho), as forms of variance 1: T = d0 X0, and T = mu + d1 X1."""

    def __init__(self, t: Column, log_rho: Column, dimension: int) -> None:
        self.rho = np.exp(log_rho)
        k = -np.expm1(2 * log_rho) / 2
        self.first, d0 = _form(t, k, dimension)
        self.second, d1 = _form(self.rho**3 * t, self.rho**2 * k, dimension)
        self.ratio = d1 / d0
        self.mean = (t / d0) * t * (1 - k) + 2 * dimension * (k / d0) * k  # mu / d0

    def probability(self, z: Column) -> Column:
        """Return P1(B) where P0(B) is the normal probability above z."""
        m, q = threshold(self.first, quantile(self.first, z, tolerance=1e-14)[0])
        q = q * (self.rho / self.ratio) ** 2
        form, n = self.second, self.second.dimension
        own = form.tau**2 / 4 + n * form.kappa**2
        with np.errstate(divide="ignore", invalid="ignore"):
            difference, quotient = (m - self.mean) / self.ratio, (own - q) / form.kappa
            # Two ways to the same number; the one whose terms are smaller has lost fewer digits.
            lost, lost_too = (np.abs(m) + np.abs(self.mean)) / self.ratio, (own + q) / np.abs(form.kappa)
        probability: Column = np.exp(tails(form, saddle(form, np.where(lost < lost_too, difference, quotient), q))[0])
        return probability

    def check(self, budget: Column) -> tuple[Column, Flags]:
        """Return by how much, as normal scores, P0(B) exceeds the budget where P1(B) = 1/2; and whether it does."""
        at, there = quantile(self.second, np.full_like(self.mean, 5e-13), tolerance=1e-13)
        m, q = threshold(self.second, at)
        m, q = self.mean + self.ratio * m, q * (self.ratio / self.rho) ** 2
        here = tails(self.first, saddle(self.first, m, q))
        certain: Flags = (there.log_upper < np.log(0.5 - _GAP)) & (here.log_upper > np.log(budget))
        return -ndtri(budget) - score(here), certain


def _form(t: Column, k: Column, dimension: int) -> tuple[Form, Column]:
    deviation = np.hypot(t, k * np.sqrt(2 * dimension))
    return Form(t / deviation, k / deviation, dimension), deviation


def _margin(budget: Row, distance: Row, exponent: Row, dimension: int) -> tuple[Row, Bool[np.ndarray, " B"]]:
    """Return the smaller margin of the two extreme noise levels, exp(+-exponent); and whether both are certain."""
    both = np.concatenate([-exponent, exponent])[:, None]
    pair = _Pair(np.tile(distance, 2)[:, None], both, dimension)
    margin, certain = pair.check(np.tile(budget, 2)[:, None])
    return margin.reshape(2, -1).min(axis=0), np.logical_and(*certain.reshape(2, -1))


def _reach(budget: Row, c: Row, slope: Row, dimension: int, extra: float, least: Row) -> Row:
    """Return the largest d >= 0 such that distance c + d (in units of sigma) is certified; 0 if there is none.

    The noise there is exp(+-max(slope d + extra, least)).

    A root of the margin, by the regula falsi of Anderson and Bjorck. It starts where the root is if T is normal: then
    the margin is z - sqrt((c + d)^2 + 2 N (slope d)^2). Only a d that passed the check is returned.
    """
    z, spread = -ndtri(budget), slope * np.sqrt(2.0 * dimension)
    square = (z - c) * (z + c)
    start = square / (c + np.hypot(z, spread * np.sqrt(square)))
    ends = np.stack([np.zeros_like(c), np.minimum(z - c, _FARTHEST / slope)])
    aim = 1e-12 * z + 1e-13  # so that the root is on the safe side
    values = np.stack([z - c, np.minimum(z - np.hypot(c + ends[1], spread * ends[1]), -aim)])
    d, best, last, rows = start, np.zeros_like(c), np.full(c.shape, -1), np.arange(len(c))
    for _ in range(100):
        d = np.clip(d, *ends[:, rows])
        exponent = np.maximum(slope[rows] * d + extra, least[rows])
        margin, certain = _margin(budget[rows], c[rows] + d, exponent, dimension)
        best[rows] = np.where(certain, np.maximum(best[rows], d), best[rows])
        value = np.maximum(margin - aim[rows], -1 - z[rows])
        end = np.where(value > 0, 0, 1)
        shrink = 1 - value / values[end, rows]
        values[1 - end, rows] *= np.where(last[rows] == end, np.where(shrink > 0, shrink, 0.5), 1.0)
        ends[end, rows], values[end, rows], last[rows] = d, value, end
        found = certain & (np.abs(value) <= aim[rows])
        # If d falls by 1e-9, there is no root: z - c is within the aim.
        open_ = (np.diff(ends[:, rows], axis=0)[0] > 1e-15 * d) & (d > 1e-9 * start[rows])
        rows = rows[open_ & ~found]
        if not len(rows):
            break
        (low, high), (above, below) = ends[:, rows], values[:, rows]
        d = (low * below - high * above) / (below - above)
    return best


def _number(name: str, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
    number = np.asarray(value, np.float64)
    wrong = ~(number >= 0)
    if wrong.any():
        raise ConfigError(f"{name}: {number[wrong][0]}; must be 0 or more")
    return number


def _sigma(name: str, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
    number = np.asarray(value, np.float64)
    wrong = ~(np.isfinite(number) & (number > 0))
    if wrong.any():
        raise ConfigError(f"{name}: {number[wrong][0]}; must be finite and above 0")
    return number


def _p(value: npt.ArrayLike) -> npt.NDArray[np.float64]:
    number = np.asarray(value, np.float64)
    wrong = ~((number >= 0) & (number <= 1))
    if wrong.any():
        raise ConfigError(f"p_a_lower: {number[wrong][0]}; must be in [0, 1]")
    return number
