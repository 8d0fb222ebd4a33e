"""The bounds against the definition, evaluated in exact or 50-digit arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from certsmooth._internal.checks import MIN_ALPHA
from certsmooth.errors import ConfigError
from certsmooth.science.theory import bounds
from certsmooth.science.theory.bounds import binomial_p_value, clopper_pearson_lower, clopper_pearson_upper

ALPHAS = (1e-12, 1e-3, 0.01, 0.05, 0.5, 0.999)


def exact_tail(k: int, n: int, p: float) -> Fraction:
    """P(Binomial(n, p) >= k) by the definition."""
    q = Fraction(p)
    return sum((comb(n, j) * q**j * (1 - q) ** (n - j) for j in range(k, n + 1)), Fraction(0))


def precise_tail(k: int, n: int, p: float) -> mp.mpf:
    """P(Binomial(n, p) >= k) to about 40 digits: the terms of the shorter tail, until they no longer count."""
    with mp.workdps(50):
        x = mp.mpf(p)
        up = k >= n * p
        j, last = (k, n) if up else (k - 1, 0)
        log_term = mp.loggamma(n + 1) - mp.loggamma(j + 1) - mp.loggamma(n - j + 1)
        term = mp.exp(log_term + j * mp.log(x) + (n - j) * mp.log(1 - x))
        total, ratio = mp.mpf(0), x / (1 - x)
        while term > total * mp.mpf(10) ** -42:
            total += term
            if j == last:
                break
            term *= ratio * (n - j) / (j + 1) if up else j / (ratio * (n - j + 1))
            j += 1 if up else -1
        return total if up else 1 - total


def room(n: int) -> float:
    return 2e-9 / n**0.5 + 1e-11


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_lower_bound_solves_its_equation_from_below(alpha):
    for n in (1, 2, 3, 7, 20):
        k = np.arange(1, n + 1)
        lower = clopper_pearson_lower(k, n, alpha=alpha)
        for successes, p in zip(k.tolist(), lower.tolist(), strict=True):
            assert exact_tail(successes, n, p) <= Fraction(alpha)
            if alpha <= 0.5:
                assert exact_tail(successes, n, p + room(n)) > Fraction(alpha)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("n", [100, 1000, 100_000, 3_000_000])
def test_the_lower_bound_of_many_trials_solves_its_equation_from_below(n, alpha):
    for k in sorted({1, 2, n // 50, n // 2, n - n // 100, n - 1, n}):
        p = float(clopper_pearson_lower(k, n, alpha=alpha))
        assert precise_tail(k, n, p) <= alpha
        if alpha <= 0.5 and p + room(n) < 1:
            assert precise_tail(k, n, p + room(n)) > alpha


def test_the_lower_bound_holds_at_the_largest_number_of_trials():
    n, alpha = 10**9, 0.001
    for k in (n // 1000, n - 1000):
        p = float(clopper_pearson_lower(k, n, alpha=alpha))
        assert precise_tail(k, n, p) <= alpha < precise_tail(k, n, p + room(n))


@pytest.mark.parametrize(("k", "n"), [(2, 10), (3, 10), (9, 10), (95, 100), (971, 1000), (85_376, 85_392)])
def test_the_lower_bound_holds_at_the_smallest_alpha(k, n):
    p = float(clopper_pearson_lower(k, n, alpha=MIN_ALPHA))
    assert 0 <= p < 1
    assert precise_tail(k, n, p) <= MIN_ALPHA < precise_tail(k, n, p + room(n))


@pytest.mark.parametrize("wrong", [np.nan, 0.0, 0.7, 1.0])
def test_a_wrong_guess_is_replaced(monkeypatch, wrong):
    right = clopper_pearson_lower([4, 60], [8, 100], alpha=0.01)
    monkeypatch.setattr(bounds, "betaincinv", lambda a, b, y: np.full(a.shape, wrong))
    found = clopper_pearson_lower([4, 60], [8, 100], alpha=0.01)
    if wrong == 0.0:  # a bound, if a poor one
        np.testing.assert_array_equal(found, [0, 0])
    else:
        np.testing.assert_allclose(found, right, rtol=0, atol=2e-9)
        assert all(precise_tail(k, n, p) <= 0.01 for k, n, p in zip([4, 60], [8, 100], found, strict=True))


@pytest.mark.parametrize("alpha", [1e-12, 0.001, 0.05, 0.5])
def test_the_upper_bound_solves_its_equation_from_above(alpha):
    for n in (1, 2, 9, 20):
        upper = clopper_pearson_upper(np.arange(n), n, alpha=alpha)
        for k, p in enumerate(upper.tolist()):
            assert 1 - exact_tail(k + 1, n, p) <= Fraction(alpha)
            assert 1 - exact_tail(k + 1, n, p - room(n)) > Fraction(alpha)


def test_no_success_and_no_failure():
    np.testing.assert_array_equal(clopper_pearson_lower([0, 0], [1, 10**9], alpha=0.001), [0, 0])
    np.testing.assert_array_equal(clopper_pearson_upper([1, 10**9], [1, 10**9], alpha=0.001), [1, 1])
    assert clopper_pearson_lower(100_000, 100_000, alpha=0.001) == pytest.approx(0.001**1e-5, abs=1e-13)
    assert clopper_pearson_lower(10**9, 10**9, alpha=1 - 1e-12) < 1


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 10**6), share=st.floats(0, 1), alpha=st.sampled_from([1e-6, 0.001, 0.05, 0.3]))
def test_equal_to_statsmodels(n, share, alpha):
    k = round(share * n)
    low, high = proportion_confint(k, n, alpha=2 * alpha, method="beta")
    assert clopper_pearson_lower(k, n, alpha=alpha) == pytest.approx(low, rel=1e-7, abs=1e-11)
    assert clopper_pearson_upper(k, n, alpha=alpha) == pytest.approx(high, rel=1e-7, abs=1e-11)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 1000), alpha=st.floats(1e-9, 0.9))
def test_the_bounds_grow_with_successes_and_enclose_more_at_a_smaller_alpha(n, alpha):
    k = np.arange(n + 1)
    lower, upper = (bound(k, n, alpha=alpha) for bound in (clopper_pearson_lower, clopper_pearson_upper))
    assert (np.diff(lower) > 0).all()
    assert (np.diff(upper) > 0).all()
    assert (clopper_pearson_lower(k, n, alpha=alpha / 2)[1:] < lower[1:]).all()
    assert (clopper_pearson_upper(k, n, alpha=alpha / 2)[:-1] > upper[:-1]).all()


def test_the_arguments_broadcast():
    lower = clopper_pearson_lower(np.arange(3)[:, None], np.array([2, 5]), alpha=0.05)
    assert lower.shape == (3, 2)
    assert lower.dtype == np.float64
    assert lower[1, 1] == clopper_pearson_lower(1, 5, alpha=0.05)
    assert clopper_pearson_lower(np.zeros(0, np.int64), 5, alpha=0.05).shape == (0,)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 15, 60])
def test_the_p_value_is_the_probability_of_outcomes_at_most_as_likely(n):
    weights = [comb(n, j) for j in range(n + 1)]
    p_values = binomial_p_value(np.arange(n + 1), n)
    for k, found in enumerate(p_values.tolist()):
        exact = Fraction(sum(w for w in weights if w <= weights[k]), 2**n)
        assert exact <= Fraction(found) <= exact * (1 + Fraction(3, 10**9))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 2000), share=st.floats(0, 1))
def test_the_p_value_equals_scipys(n, share):
    k = round(share * n)
    assert binomial_p_value(k, n) == pytest.approx(binomtest(k, n, 0.5).pvalue, rel=1e-7)


def test_a_p_value_is_never_0():
    assert binomial_p_value(100_000, 100_000) == 1e-200


@pytest.mark.parametrize(
    ("k", "n", "alpha", "names"),
    [
        (1, 0, 0.1, "trials: values from 0"),
        (1, 10**9 + 1, 0.1, "trials"),
        (1.0, 2, 0.1, "successes: values of type float64"),
        (1, 2.0, 0.1, "trials: values of type float64"),
        (-1, 2, 0.1, "successes: -1 of 2"),
        ([1, 3], 2, 0.1, "successes: 3 of 2"),
        (1, 2, 0.0, "alpha: 0.0"),
        (1, 2, 1e-101, "alpha: 1e-101"),
        (1, 2, 1.0, "alpha: 1.0"),
        (1, 2, float("nan"), "alpha: nan"),
    ],
)
def test_errors_name_the_argument(k, n, alpha, names):
    for bound in (clopper_pearson_lower, clopper_pearson_upper):
        with pytest.raises(ConfigError, match=names):
            bound(k, n, alpha=alpha)
    if not names.startswith("alpha"):
        with pytest.raises(ConfigError, match=names):
            binomial_p_value(k, n)
