"""Bounds for trials that stop by what they show: exact arithmetic, exact error probabilities, and properties."""

from functools import cache

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certsmooth.errors import ConfigError
from certsmooth.science.theory.bounds import clopper_pearson_lower, clopper_pearson_upper
from certsmooth.science.theory.sequential import FIXED, SHARE, StoppedTrials, log_mixture, mixture_lower

ALPHAS = (0.2, 0.05, 0.001)


def exact_log_mixture(k, n, p):
    """log M of the module's docstring, in 50 digits, from the integral and not from the beta function."""
    with mpmath.workdps(50):
        k, rest, p = mpmath.mpf(int(k)), mpmath.mpf(int(n - k)), mpmath.mpf(float(p))
        beta = mpmath.betainc(k + 0.5, rest + 0.5, p, 1)
        prior = mpmath.betainc(0.5, 0.5, p, 1)
        return float(mpmath.log(beta / prior) - k * mpmath.log(p) - rest * mpmath.log1p(-p))


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_the_logarithm_is_exact_and_rounded_down(data):
    n = data.draw(st.integers(1, 2000))
    k = data.draw(st.integers(1, n))
    p = data.draw(st.floats(0.01, 1)) * (k - 0.5) / n  # where the root lies
    found = float(log_mixture(*(np.array([float(v)]) for v in (k, n, p)))[0])
    right = exact_log_mixture(k, n, p)
    assert found <= right + 1e-9  # of the incomplete beta function
    assert found == pytest.approx(right, abs=1e-8)


LARGE = [(99_990, 100_000), (70_000, 100_000), (1, 10**6), (10**9 - 5, 10**9), (10**9, 10**9)]


@pytest.mark.parametrize(("k", "n"), LARGE)
def test_the_logarithm_is_rounded_down_where_terms_are_large(k, n):
    p = float(mixture_lower(k, n, alpha=0.001))
    with mpmath.workdps(50):
        a, b, x = mpmath.mpf(k) + 0.5, mpmath.mpf(n - k) + 0.5, mpmath.mpf(p)
        # The tail above p is that of a beta distribution far in its upper part: between 1 - 1e-3 and 1.
        whole = mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(n + 1)
        ratio = whole - mpmath.log(2 * mpmath.asin(mpmath.sqrt(1 - x)))
        upper = ratio - k * mpmath.log(x) - (n - k) * mpmath.log1p(-x)
    assert np.log(1000) <= upper <= np.log(1000) + 0.02


@cache
def bounds_to(most, alpha, *, end):
    """The bound of every (k, n) with n <= most, as most + 1 rows."""
    trials = StoppedTrials(most if end else None)
    return [trials.lower(np.arange(n + 1), n, alpha=alpha) if n else np.zeros(1) for n in range(most + 1)]


def error_at(p, bounds):
    """The exact probability that the bound is above p at any time: dynamic programming over the other paths."""
    alive, wrong = np.array([1.0]), 0.0
    for lower in bounds[1:]:
        alive = np.concatenate([alive * (1 - p), [0.0]]) + np.concatenate([[0.0], alive * p])
        wrong += alive[lower > p].sum()
        alive = np.where(lower > p, 0.0, alive)
    return wrong


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("end", [False, True])
def test_the_bound_is_too_high_at_any_time_with_probability_at_most_alpha(alpha, end):
    """At the p just below each value that the bound can take: the error grows with p up to there."""
    bounds = bounds_to(60, alpha, end=end)
    every = np.unique(np.concatenate(bounds))
    errors = [error_at(np.nextafter(p, 0), bounds) for p in every[every > 0]]
    assert max(errors) <= alpha
    assert max(errors) > alpha / 4  # not by giving everything away


def test_what_is_looked_at_again_and_again_errs_with_clopper_and_pearson():
    bounds = [clopper_pearson_lower(np.arange(n + 1), max(n, 1), alpha=0.05) for n in range(201)]
    assert error_at(0.5, bounds) > 0.2


@given(st.integers(1, 100_000), st.sampled_from(ALPHAS), st.data())
@settings(deadline=None)
def test_the_bound_is_the_root(n, alpha, data):
    k = data.draw(st.integers(1, n))
    lower = float(mixture_lower(k, n, alpha=alpha))
    args = (np.array([float(k)]), np.array([float(n)]))
    assert 0 < lower < k / n
    assert log_mixture(*args, np.array([lower]))[0] >= -np.log(alpha)
    above = min(lower + 1e-8 + 1e-6 * lower, (k - 0.5) / n)
    assert log_mixture(*args, np.array([above]))[0] <= -np.log(alpha) + 1e-8


@given(st.integers(2, 5000), st.sampled_from(ALPHAS))
@settings(deadline=None, max_examples=30)
def test_more_successes_and_a_larger_alpha_give_a_higher_bound(n, alpha):
    k = np.arange(n + 1)
    lower = mixture_lower(k, n, alpha=alpha)
    assert (np.diff(lower) > 0).all()
    assert (mixture_lower(k, n, alpha=alpha / 2)[1:] < lower[1:]).all()
    assert (lower[1:] < clopper_pearson_lower(k, n, alpha=alpha)[1:]).all()  # what the freedom to stop costs


def test_an_end_gives_back_what_the_freedom_costs():
    most, alpha = 100_000, 0.001
    stopped, fixed = StoppedTrials(most), clopper_pearson_lower(most, most, alpha=alpha)
    assert stopped.lower(most, most, alpha=alpha) >= clopper_pearson_lower(most, most, alpha=(1 - SHARE) * alpha)
    assert 1 - stopped.lower(most, most, alpha=alpha) < 1.25 * (1 - fixed)
    # Having the successes, the rest may be failures.
    assert stopped.lower(60_000, 99_000, alpha=alpha) >= clopper_pearson_lower(60_000, most, alpha=(1 - SHARE) * alpha)
    assert StoppedTrials(None).lower(900, 1000, alpha=alpha) == mixture_lower(900, 1000, alpha=SHARE * alpha)


def test_upper_bounds_are_those_of_failures():
    k, trials = np.arange(101), StoppedTrials(100)
    np.testing.assert_allclose(trials.upper(k, 100, alpha=0.01), 1 - trials.lower(100 - k, 100, alpha=0.01), atol=1e-15)
    assert (trials.upper(k, 100, alpha=0.01) >= 1 - trials.lower(100 - k, 100, alpha=0.01)).all()
    np.testing.assert_array_equal(FIXED.upper(k, 100, alpha=0.01), clopper_pearson_upper(k, 100, alpha=0.01))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mixture_lower(1, 2, alpha=0.5), ["alpha: 0.5", "below 1/2"]),
        (lambda: mixture_lower(3, 2, alpha=0.1), ["successes: 3 of 2 trials"]),
        (lambda: StoppedTrials(10).lower(3, 11, alpha=0.1), ["trials: 11", "at most n_max, 10"]),
        (lambda: StoppedTrials(0), ["n_max: 0"]),
    ],
)
def test_what_is_wrong_is_named(call, words):
    with pytest.raises(ConfigError) as caught:
        call()
    assert all(word in str(caught.value) for word in words)
