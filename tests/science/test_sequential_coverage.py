"""Whoever looks after every block, and stops where the bound stands highest, errs with probability at most alpha."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from certsmooth._internal import registry
from certsmooth.science.certificates import ABSTAIN, Smoothing, guarantee
from certsmooth.science.theory.bounds import clopper_pearson_lower
from certsmooth.science.theory.sequential import FIXED, StoppedTrials, mixture_lower
from factories import GRID

pytestmark = pytest.mark.slow

ALPHA = 0.05
TIMES = 100_000
GLOBAL = [
    name
    for name in registry.names("certificates")
    if guarantee(registry.member("certificates", name)(), 0.0, GRID) == "global"
]


def probability_of_error(looks, p, *, alpha):
    """Of a bound above p at any look, by the law of the successes of those who were not wrong so far.

    Args:
        looks: the number of trials, rising, and how they came about, of each.
        p: of success.
        alpha: of each bound.
    """
    chance, n, error = np.ones(1), 0, 0.0
    for until, trials in looks:
        chance = np.convolve(chance, binom.pmf(np.arange(until - n + 1), until - n, p))
        n = until
        possible = np.flatnonzero(chance > 1e-30)
        wrong = possible[trials.lower(possible, np.full(len(possible), n), alpha=alpha) > p]
        error += chance[wrong].sum()
        chance[wrong] = 0
    return error


def every(step, n_max, trials):
    return [(n, trials) for n in range(step, n_max + 1, step)]


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("p", [0.5, 0.6, 0.9, 0.99, 0.999])
def test_a_look_after_every_block(p, alpha):
    error = probability_of_error(every(100, 10_000, StoppedTrials(10_000)), p, alpha=alpha)
    assert 0.1 * alpha < error <= alpha


def only_just_wrong(trials, k, n, alpha):
    """The p that is below the bound for k of n, which is where errors at the end are most frequent."""
    return float(trials.lower(k, n, alpha=alpha)) - 1e-9


WORST = [
    (1, 30, 100),
    (1, 80, 100),
    (1, 95, 100),
    (1, 100, 100),
    (10, 550, 1_000),
    (10, 980, 1_000),
    (10, 1_000, 1_000),
]
"""Samples from look to look, and (k, n) of `only_just_wrong`."""


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize(("step", "k", "n"), WORST)
def test_many_looks_where_the_last_bound_is_only_just_wrong(step, k, n, alpha):
    p = only_just_wrong(StoppedTrials(n), k, n, alpha)
    error = probability_of_error(every(step, n, StoppedTrials(n)), p, alpha=alpha)
    assert binom.sf(k - 1, n, p) * (1 - 1e-9) <= error <= alpha


@dataclass(frozen=True)
class TwiceAlpha(StoppedTrials):
    """Both bounds at level alpha, instead of parts of it."""

    def lower(self, successes, trials, *, alpha):
        at_end = clopper_pearson_lower(successes, self.most, alpha=alpha)
        return np.maximum(mixture_lower(successes, trials, alpha=alpha), at_end)


@pytest.mark.parametrize(("step", "k", "n"), [case for case in WORST if case[1] < case[2]])
def test_these_cases_would_show_that_alpha_was_spent_twice(step, k, n):
    trials = TwiceAlpha(n)
    p = only_just_wrong(trials, k, n, ALPHA)
    assert probability_of_error(every(step, n, trials), p, alpha=ALPHA) > 1.1 * ALPHA


def test_going_on_beyond_the_end_that_was_fixed():
    for p in (0.5, 0.9, 0.99):
        first = every(100, 1_000, StoppedTrials(1_000))
        looks = first + [(n, StoppedTrials(None)) for n in range(1_100, 5_001, 100)]
        error = probability_of_error(looks, p, alpha=ALPHA)
        assert probability_of_error(first, p, alpha=ALPHA) < error <= ALPHA


@pytest.mark.parametrize("p", [0.5, 0.6, 0.9])
def test_clopper_and_pearson_looked_at_repeatedly_err_six_times_as_often(p):
    assert 0.27 < probability_of_error(every(100, 10_000, FIXED), p, alpha=ALPHA) < 0.32


@pytest.mark.parametrize("p", [0.5, 0.6, 0.9])
def test_one_look_errs_at_most_alpha(p):
    assert probability_of_error([(1_000, FIXED)], p, alpha=ALPHA) <= ALPHA


@dataclass(frozen=True)
class Case:
    """An image and the classifier around it.

    probabilities: of the classes under noise at the image, of which the smoothed classifier returns 0.
    distance: to the nearest image that it gives another class.
    rate: semi-elasticity of sigma(x), of which the distance does not depend.
    """

    noise: str
    probabilities: tuple[float, ...]
    distance: float
    rate: float = 0.0


SIGMA, N0, STEP, N_MAX = 0.5, 9, 100, 600


def slabs(p_a, p_b):
    """Class 0, then 2, then 1 along one axis: of three classes the worst order, if class 2 has least at the end."""
    distance = SIGMA / 2 * (ndtri(p_a) - ndtri(p_b))
    assert 1 - 2 * ndtr(ndtri(p_a) - distance / SIGMA) < ndtr(ndtri(p_a) - distance / SIGMA)
    return Case("gaussian", (p_a, p_b, 1 - p_a - p_b), distance)


CASES = [
    *(Case("gaussian", (p, 1 - p), SIGMA * ndtri(p), rate) for p in (0.6, 0.9, 0.99) for rate in (0.0, 0.3)),
    slabs(0.5, 0.3),
    slabs(0.6, 0.38),
    *(Case("uniform", (p, 1 - p), SIGMA * (2 * p - 1)) for p in (0.6, 0.9, 0.99)),  # a half-space
]


def suitable(certificate):
    return [case for case in CASES if case.noise == certificate.noise and case.rate <= certificate.max_semi_elasticity]


def ever_wrong(certificate, case, trials, *, seed):
    """The share of simulated images whose certificate is wrong at any look; each outcome is certified once."""
    generator = np.random.default_rng(seed)
    selection = generator.multinomial(N0, case.probabilities, TIMES).argmax(axis=1)
    estimation, wrong = np.zeros((TIMES, len(case.probabilities)), np.int64), np.zeros(TIMES, bool)
    for n in range(STEP, N_MAX + 1, STEP):
        estimation += generator.multinomial(STEP, case.probabilities, TIMES)
        code = np.ravel_multi_index((selection, *estimation.T[1:]), [n + 1] * len(case.probabilities))
        _, first, place = np.unique(code, return_index=True, return_inverse=True)
        one, selected = np.ones(len(first)), np.eye(len(case.probabilities), dtype=np.int64)[selection[first]]
        smoothing = Smoothing(SIGMA * one, 1, case.rate, 0 * one, trials=trials)
        bound = certificate(selected, estimation[first], smoothing, alpha=ALPHA)
        false = (bound.predict > 0) | (bound.radius > case.distance * (1 + 1e-9))
        wrong |= (false & (bound.predict != ABSTAIN))[place]
    return wrong.mean()


def test_these_certificates_are_global():
    assert {"cohen", "two_sided", "two_sided_grid", "l1", "semi_elastic", "renyi"} <= set(GLOBAL)


@pytest.mark.parametrize("name", GLOBAL)
def test_false_certificates_at_any_look_are_at_most_alpha(name):
    certificate = registry.member("certificates", name)()
    assert certificate.may_stop
    cases = suitable(certificate)
    assert len(cases) >= 3
    assert certificate.max_semi_elasticity == 0 or any(case.rate > 0 for case in cases)
    for seed, case in enumerate(cases):
        found = ever_wrong(certificate, case, StoppedTrials(N_MAX), seed=seed)
        assert found <= binom.ppf(1 - 1e-6, TIMES, ALPHA) / TIMES, case


@pytest.mark.parametrize("name", ["cohen", "two_sided", "l1"])
def test_these_cases_show_what_bounds_for_a_fixed_number_do(name):
    certificate = registry.member("certificates", name)()
    found = [ever_wrong(certificate, case, FIXED, seed=seed) for seed, case in enumerate(suitable(certificate))]
    assert max(found) > 1.2 * ALPHA
