"""Exact confidence bounds and tests for a binomial proportion, rounded to the safe side.

All three functions rest on the regularised incomplete beta function I_x(a, b), through the identity
``P(Binomial(n, p) >= k) = I_p(k, n - k + 1)``, and on the relative error of `scipy.special.betainc`: compared
with 50-digit arithmetic at random n up to `MAX_SAMPLES`, k and p, it was at most 2e-10 (2e-11 up to n = 1e7)
wherever the probability is 1e-200 or more. Results leave room for `SLACK`, 1e-9. (Below 1e-240 `betainc` can be
wrong by any factor, hence `_internal.checks.MIN_ALPHA`.) The inverse function only guesses; a guess that fails the
check against `betainc` is replaced by bisection.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy.special import betainc, betaincinv

from certsmooth._internal.checks import MAX_SAMPLES, check_alpha
from certsmooth.errors import ConfigError

SLACK = 1e-9
"""Relative slack, in probability, that covers the numerical error of the incomplete beta function."""

_SMALLEST_P_VALUE = 1e-200
_BISECTIONS = 64


def clopper_pearson_lower(
    successes: npt.ArrayLike, trials: npt.ArrayLike, *, alpha: float
) -> Float[np.ndarray, " *shape"]:
    """Return lower confidence bounds on success probabilities: one-sided, level 1 - alpha.

    The bound of Clopper and Pearson (Biometrika 26, 1934) for k successes in n trials is the p that solves
    P(Binomial(n, p) >= k) = alpha, and 0 for k = 0. Whatever the true p, the bound exceeds it with
    probability at most alpha. The value returned is never above the exact one, and for alpha <= 1/2
    below it by less than 2e-9 / sqrt(n) + 1e-11.

    Args:
        successes: integers k, any shape; 0 <= k <= n.
        trials: integers n, of a shape that broadcasts with ``successes``; 1 <= n <= `MAX_SAMPLES`.
        alpha: the probability of error, in (0, 1), and at least `certsmooth._internal.checks.MIN_ALPHA`.

    Returns:
        float64, of the common shape, in [0, 1).

    Raises:
        ConfigError: an argument is out of range or not an integer.
    """
    alpha = check_alpha(alpha)
    k, n = checked_trials(successes, trials)
    lower = np.zeros(k.shape)
    some = k > 0
    lower[some] = _solve(k[some].astype(np.float64), n[some].astype(np.float64), alpha)
    return lower


def clopper_pearson_upper(
    successes: npt.ArrayLike, trials: npt.ArrayLike, *, alpha: float
) -> Float[np.ndarray, " *shape"]:
    """Return upper confidence bounds on success probabilities: one-sided, level 1 - alpha.

    One minus the lower bound on the probability of failure, rounded up; see `clopper_pearson_lower` for the
    arguments, the precision and the errors.
    """
    k, n = checked_trials(successes, trials)
    complement = 1.0 - clopper_pearson_lower(n - k, n, alpha=alpha)
    return np.minimum(np.nextafter(complement, 2.0), 1.0)


def binomial_p_value(successes: npt.ArrayLike, trials: npt.ArrayLike) -> Float[np.ndarray, " *shape"]:
    """Return p-values of the exact two-sided test that a success probability is 1/2.

    The test of PREDICT in Cohen et al. (ICML 2019, Section 3.2.1; Hung and Fithian, Annals of Statistics 47,
    2019). The binomial distribution with p = 1/2 is symmetric, so the outcomes that are at most as probable
    as k are the two tails beyond max(k, n - k), and the p-value is twice one tail. Rounded up: by at most
    2e-9 of the value, and to 1e-200 below that.

    Args and errors are those of `clopper_pearson_lower`.

    Returns:
        float64, of the common shape, in (0, 1].
    """
    k, n = checked_trials(successes, trials)
    most = np.maximum(k, n - k).astype(np.float64)
    tail = betainc(most, n - most + 1.0, 0.5)
    p_value: npt.NDArray[np.float64] = np.clip(2.0 * tail * (1.0 + SLACK), _SMALLEST_P_VALUE, 1.0)
    return p_value


def checked_trials(
    successes: npt.ArrayLike, trials: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return successes and trials of one shape, int64.

    Raises:
        ConfigError: one is out of range or not an integer.
    """
    k, n = np.asarray(successes), np.asarray(trials)
    for name, value in (("successes", k), ("trials", n)):
        if not np.issubdtype(value.dtype, np.integer):
            raise ConfigError(f"{name}: values of type {value.dtype}; must be integers")
    if n.size and (n.min() < 1 or n.max() > MAX_SAMPLES):
        raise ConfigError(f"trials: values from {n.min()} to {n.max()}; must be in 1 .. {MAX_SAMPLES}")
    k, n = np.broadcast_arrays(k.astype(np.int64), n.astype(np.int64))
    wrong = (k < 0) | (k > n)
    if wrong.any():
        raise ConfigError(f"successes: {k[wrong][0]} of {n[wrong][0]} trials; must be in 0 .. trials")
    return k, n


def _solve(k: npt.NDArray[np.float64], n: npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.float64]:
    """Return p, as large as the numerical error allows, with P(Binomial(n, p) >= k) <= alpha for certain."""
    accept = alpha * (1.0 - SLACK)
    guess = betaincinv(k, n - k + 1.0, alpha * (1.0 - 2.0 * SLACK))
    p: npt.NDArray[np.float64] = np.minimum(guess, np.nextafter(1.0, 0.0)).astype(np.float64)
    failed = ~(betainc(k, n - k + 1.0, p) <= accept)  # true for NaN as well
    if failed.any():
        p[failed] = _bisect(k[failed], n[failed], accept)
    return p


def _bisect(k: npt.NDArray[np.float64], n: npt.NDArray[np.float64], accept: float) -> npt.NDArray[np.float64]:
    low, high = np.zeros(k.shape), np.ones(k.shape)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        below = betainc(k, n - k + 1.0, middle) <= accept
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low
