"""Bounds on a probability from trials that stopped when one had seen enough; and how trials came about.

`clopper_pearson_lower` holds for a number of trials that was fixed before the first one. Whoever looks, and goes on
where the result is not good enough, errs more often than alpha: 6 times as often after the looks of 1, 2, 4, ...
thousand samples. Here only (k, n) enters, k successes of n trials, and any rule may have stopped them.

**At any time.** Let the trials be independent with probability q, and let g(p) = p^k (1 - p)^(n - k) be the likelihood
of (k, n). For each p0, with the prior w of Beta(1/2, 1/2) restricted to (p0, 1] and normalised, let

    M(p0) = int_{p0}^1 g(p) / g(p0) w(p) dp
          = B(k + 1/2, n - k + 1/2) J(p0; k + 1/2, n - k + 1/2) / (pi J(p0; 1/2, 1/2) g(p0)),

where J(p; a, b) = P(Beta(a, b) > p). If q = p0, each ratio g(p) / g(p0) is a non-negative martingale in n with mean 1,
so their mixture M(q) is one: by Ville's inequality P(M(q) >= 1 / alpha for some n) <= alpha. Let L be the supremum of
the p0 such that M >= 1 / alpha on all of (0, p0), and 0 if there is none. Where L > q, M(q) >= 1 / alpha. So L is above
q at *any* n with probability at most alpha. (The restriction to p > p0 is what one-sided bounds gain against the usual
mixture with the whole prior: up to a factor of 2 in M near p0 = 1/2, more above. Priors that depend on p0 but not on
the trials are allowed, as the argument is about the one p0 that is q.)

**L is a root.** For alpha < 1/2, M falls on (0, (k - 1/2) / n], and M < 1 / alpha for larger p, so L is the one p there
with M(p) = 1 / alpha, if M(0+) > 1 / alpha, which holds for k >= 1.

*It falls*: with S = J(.; 1/2, 1/2) and h = -S' / S, the hazard rate of the prior, differentiation gives
M' / M = h (1 - 1 / M) - g' / g < h - g' / g where h > 0. As S(p) = (2 / pi) arcsin(sqrt(1 - p)) >=
(2 / pi) sqrt(1 - p), h(p) = 1 / (pi sqrt(p (1 - p)) S(p)) <= 1 / (2 sqrt(p) (1 - p)). And g' / g =
(k - n p) / (p (1 - p)), which is at least h(p) if k - n p >= sqrt(p) / 2, hence for all p <= (k - 1/2) / n.

*It is below 2 on the rest*: for p between (k - 1/2) / n and k / n, M is at most the largest ratio,
g(k / n) / g(p) <= (k / (n p))^k <= (k / (k - 1/2))^k <= 2, as the second factor of g is larger at p; for p >= k / n,
g falls, each ratio is at most 1, and so is M.

**With an end.** Where the largest n, n_max, was fixed beforehand, a part of alpha is spent on Clopper and Pearson at
n_max. The bound CP(k', n_max) at level (1 - SHARE) alpha, k' the successes of all n_max trials (made or not), is above
q with probability at most (1 - SHARE) alpha. It grows with k', and k' >= k at every earlier time, so CP(k, n_max) is
not above it: having k successes, one may stop and take the rest for failures. The larger of this and of L at level
SHARE alpha is above q, at the time of stopping, with probability at most alpha (union bound).

SHARE was chosen by simulation (docs/sequential.md): more saves few samples, and loses radii that n_max just certifies.

**More than one end.** Whoever changes n_max after looking has not fixed it beforehand. What holds then is L alone, at
level SHARE alpha, as before: the rest of alpha was spent at the first end.

**Rounding.** log M is a sum of terms as large as n log n; `_SLACK` times their magnitudes is taken off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy.special import betainc, gammaln

from certsmooth._internal.checks import check_alpha, check_samples
from certsmooth.errors import ConfigError
from certsmooth.science.theory.bounds import checked_trials, clopper_pearson_lower

SHARE = 0.7
"""Of alpha, for the bound that holds at any time; the rest is for the end."""

_SLACK = 2.0**-48
"""Relative, of each term of log M: eight times the error of the logarithms and of the gamma function."""

_NEWTON_STEPS = (5, 2, 2)
"""Each time with the tails at the p so far."""
_BISECTIONS = 64

Array = npt.NDArray[np.float64]


class Trials(ABC):
    """How the number of trials came about, and so which bounds hold."""

    def without_end(self) -> Trials:
        """Return how it came about where the largest number was chosen after a look."""
        return self

    @abstractmethod
    def lower(self, successes: npt.ArrayLike, trials: npt.ArrayLike, *, alpha: float) -> Float[np.ndarray, " *shape"]:
        """Return lower confidence bounds on success probabilities, as `bounds.clopper_pearson_lower`."""

    def upper(self, successes: npt.ArrayLike, trials: npt.ArrayLike, *, alpha: float) -> Float[np.ndarray, " *shape"]:
        """Return upper confidence bounds: one minus the lower bound on the probability of failure, rounded up."""
        k, n = checked_trials(successes, trials)
        complement = 1.0 - self.lower(n - k, n, alpha=alpha)
        upper: Array = np.minimum(np.nextafter(complement, 2.0), 1.0)
        return upper


@dataclass(frozen=True)
class FixedTrials(Trials):
    """Their number was fixed before the first one: Clopper and Pearson."""

    def lower(self, successes: npt.ArrayLike, trials: npt.ArrayLike, *, alpha: float) -> Float[np.ndarray, " *shape"]:
        """Return lower confidence bounds on success probabilities."""
        return clopper_pearson_lower(successes, trials, alpha=alpha)


FIXED = FixedTrials()


@dataclass(frozen=True)
class StoppedTrials(Trials):
    """They may have stopped because of what they showed; the bounds of this module.

    Attributes:
        most: n_max, that was fixed before the first trial; None if it was chosen after a look.
    """

    most: int | None

    def __post_init__(self) -> None:
        if self.most is not None:
            object.__setattr__(self, "most", check_samples("n_max", self.most))

    def without_end(self) -> Trials:
        """Return trials whose largest number was not fixed beforehand."""
        return StoppedTrials(None)

    def lower(self, successes: npt.ArrayLike, trials: npt.ArrayLike, *, alpha: float) -> Float[np.ndarray, " *shape"]:
        """Return lower confidence bounds on success probabilities.

        Raises:
            ConfigError: an argument is not valid, or there are more trials than ``most``.
        """
        alpha = check_alpha(alpha)
        k, n = checked_trials(successes, trials)
        anytime = mixture_lower(k, n, alpha=SHARE * alpha)
        if self.most is None:
            return anytime
        if n.size and n.max() > self.most:
            raise ConfigError(f"trials: {n.max()}; must be at most n_max, {self.most}")
        at_end = clopper_pearson_lower(k, self.most, alpha=(1.0 - SHARE) * alpha)
        return np.where(at_end > anytime, at_end, anytime)


def mixture_lower(successes: npt.ArrayLike, trials: npt.ArrayLike, *, alpha: float) -> Float[np.ndarray, " *shape"]:
    """Return lower confidence bounds on success probabilities that hold at all numbers of trials at once.

    Args:
        successes: integers k, any shape; 0 <= k <= n.
        trials: integers n, of a shape that broadcasts with ``successes``; 1 <= n <= `MAX_SAMPLES`.
        alpha: the probability that any of the bounds, one at each n, is too high; below 1/2.

    Returns:
        float64, of the common shape, in [0, 1): never above L of the module's docstring.

    Raises:
        ConfigError: an argument is out of range or not an integer.
    """
    alpha = check_alpha(alpha)
    if alpha >= 0.5:
        raise ConfigError(f"alpha: {alpha:g}; must be below 1/2 where trials may stop by what they show")
    k, n = checked_trials(successes, trials)
    lower = np.zeros(k.shape)
    some = k > 0
    lower[some] = _root(k[some].astype(np.float64), n[some].astype(np.float64), -log(alpha))
    return lower


def log_mixture(k: Array, n: Array, p: Array) -> Array:
    """Return log M(p), rounded down but for the error of betainc; k >= 1 and p in (0, k / n)."""
    value, magnitude = _beta_terms(k, n)
    for term in (-k * np.log(p), -(n - k) * np.log1p(-p)):
        value, magnitude = value + term, magnitude + term  # which are positive
    prior = np.log(2.0 * np.arcsin(np.sqrt(1.0 - p)))  # pi J of the prior
    total: Array = value + _log_tail(k, n, p) - prior - _SLACK * magnitude
    return total


def _beta_terms(k: Array, n: Array) -> tuple[Array, Array]:
    """Return log B(k + 1/2, n - k + 1/2), and the sum of the magnitudes of its terms."""
    a, b, both = gammaln(k + 0.5), gammaln(n - k + 0.5), gammaln(n + 1.0)
    return a + b - both, np.abs(a) + np.abs(b) + np.abs(both) + 8.0


def _log_tail(k: Array, n: Array, p: Array) -> Array:
    """Return log J(p; k + 1/2, n - k + 1/2)."""
    with np.errstate(divide="ignore"):
        tail: Array = np.log(betainc(n - k + 0.5, k + 0.5, 1.0 - p))
    return tail


def _root(k: Array, n: Array, threshold: float) -> Array:
    """Return the largest p that is certain to have log M >= threshold: Newton's method, or bisection."""
    threshold += 2e-9  # of betainc, see `bounds`
    end, share, (fixed, magnitude) = (k - 0.5) / n, k / n, _beta_terms(k, n)
    spread = np.sqrt((2 * threshold + np.log(n)) * np.maximum(share * (1 - share), 1 / n) / n)
    p = np.clip(share - spread, 1e-3 * share, end)
    for steps in _NEWTON_STEPS:
        missing = threshold - fixed - _log_tail(k, n, p) + 1.01 * _SLACK * (2 * magnitude)
        for _ in range(steps):
            angle, scale = np.arcsin(np.sqrt(1.0 - p)), p * (1.0 - p)
            value = -k * np.log(p) - (n - k) * np.log1p(-p) - np.log(2.0 * angle)
            slope = (n * p - k) / scale + 0.5 / (np.sqrt(scale) * angle)
            p = np.clip(p + (missing - value) / slope, 0.5 * p, end)
    p = p * (1.0 - 1e-12)
    failed = ~(log_mixture(k, n, p) >= threshold)
    near = np.minimum(p + 1e-9 + 1e-7 * p, end)  # at the root, M is below its threshold just above
    failed |= log_mixture(k, n, near) >= threshold
    if failed.any():
        p[failed] = _bisect(k[failed], n[failed], threshold)
    return p


def _bisect(k: Array, n: Array, threshold: float) -> Array:
    low, high = np.zeros(k.shape), (k - 0.5) / n
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        above = log_mixture(k, n, middle) >= threshold
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return low
