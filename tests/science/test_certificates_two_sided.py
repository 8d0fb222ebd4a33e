"""T-CERTIFY: the exact probability of error with three classes, the paper's equation 14, and its forms compared."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import gammaln, ndtri, xlogy
from scipy.stats import beta, binom

from certsmooth.errors import ConfigError
from certsmooth.science.certificates import (
    ABSTAIN,
    Smoothing,
    cohen,
    guarantee,
    t_certify,
    two_sided,
    two_sided_adaptive,
    two_sided_grid,
)
from factories import GRID

ALPHA = 0.05


def certify(certificate, estimation, *, alpha=ALPHA, sigma=1.0):
    """The certificates of these counts where class 0 was selected."""
    selection = np.tile(np.eye(1, estimation.shape[1], dtype=np.int64), (len(estimation), 1))
    same = np.ones(len(estimation))
    return certificate(selection, estimation, Smoothing(sigma * same, 2, 0.0, 0 * same), alpha=alpha)


def every_outcome(n):
    """All counts of three classes in n samples."""
    first, second = np.meshgrid(np.arange(n + 1), np.arange(n + 1))
    possible = first + second <= n
    return np.stack([first[possible], second[possible], (n - first - second)[possible]], axis=1)


OUTCOMES = every_outcome(30)
WAYS = gammaln(31) - gammaln(OUTCOMES + 1).sum(axis=1)


def random_counts(seed, *, images=60, classes=6, n=400):
    """Class 0 leads."""
    generator = np.random.default_rng(seed)
    return -np.sort(-generator.multinomial(n, generator.dirichlet(np.full(classes, 0.4), images)), axis=1)


@settings(max_examples=200, deadline=None)
@given(
    weights=st.tuples(st.floats(0.3, 1), st.floats(0.01, 1), st.floats(0, 1)),
    split=st.sampled_from([0.02, 0.3, 0.5, 0.9]),
)
def test_a_certificate_is_wrong_with_probability_at_most_alpha_exactly(weights, split):
    # Slabs in the worst order (see the coverage tests): the radius of the theorem for the true p_A and p_B is the
    # distance to the nearest point with another answer, and 0 where class 0 is not the answer.
    p = np.array(weights) / sum(weights)
    distance = max(0.0, (ndtri(p[0]) - ndtri(p[1:].max())) / 2)
    radius = certify(two_sided.TwoSidedCertificate(split=split), OUTCOMES).radius
    wrong = radius > distance * (1 + 1e-12)
    assert np.exp(WAYS + xlogy(OUTCOMES, p).sum(axis=1))[wrong].sum() <= ALPHA


def test_errors_do_happen():
    # Two classes: both bounds are about one count, the one on p_A at level alpha / 2 decides.
    found = []
    for first in range(16, 30):
        bound = certify(two_sided.TwoSidedCertificate(), np.array([[first, 30 - first, 0]])).p_a_lower[0]
        p = np.array([bound - 1e-9, 1 - bound + 1e-9, 0])
        if p[0] > 0.5:
            wrong = certify(two_sided.TwoSidedCertificate(), OUTCOMES).radius > ndtri(p[0])
            found.append(np.exp(WAYS + xlogy(OUTCOMES, p).sum(axis=1))[wrong].sum())
    assert ALPHA / 2 * 0.999 < max(found) <= ALPHA / 2 * 1.001


def equation_14(others, n, level):
    """The p at which the binomial tails of all other classes sum to the level (ADRE, equation 14)."""
    return brentq(lambda p: binom.cdf(others, n, p).sum() - level, 1e-12, 1, xtol=1e-15)


def test_the_bound_on_p_b_is_never_above_equation_14():
    n, strictly = 400, 0
    for split in (0.1, 0.5):
        counts = random_counts(3)
        bound = certify(two_sided.TwoSidedCertificate(split=split), counts)
        for row, ours in zip(counts, bound.p_b_upper, strict=True):
            if row[1:].max() < n:
                theirs = equation_14(row[1:], n, (1 - split) * ALPHA)
                assert ours <= theirs * (1 + 1e-8)
                strictly += ours < theirs * (1 - 1e-3)
    assert strictly > 10


def test_the_bound_on_the_only_other_class_is_that_of_equation_14():
    other = np.arange(1000)
    bound = certify(two_sided.TwoSidedCertificate(), np.stack([1000 - other, other], axis=1))
    exact = [equation_14(np.array([count]), 1000, ALPHA / 2) for count in other]
    np.testing.assert_allclose(bound.p_b_upper, exact, rtol=1e-8)


@pytest.mark.parametrize("split", [0.1, 0.5, 0.99])
def test_the_radius_is_the_formula_rounded_down(split):
    bound = certify(two_sided.TwoSidedCertificate(split=split), random_counts(0), sigma=0.25)
    certified = 0
    for p_a, p_b, radius in zip(bound.p_a_lower, bound.p_b_upper, bound.radius, strict=True):
        with mp.workdps(40):
            quantiles = [mp.sqrt(2) * mp.erfinv(2 * mp.mpf(float(p)) - 1) for p in (p_a, p_b)]
            exact = mp.mpf(0.125) * (quantiles[0] - quantiles[1])
            assert radius <= max(exact, 0)
            assert radius >= exact - mp.mpf(10) ** -13
        certified += radius > 0
    assert certified > 10


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), split=st.floats(0.01, 0.99))
def test_it_is_never_below_cohen_at_the_level_of_its_split(seed, split):
    counts = random_counts(seed)
    ours, theirs = (
        certify(certificate, counts, alpha=alpha).radius
        for certificate, alpha in (
            (two_sided.TwoSidedCertificate(split=split), ALPHA),
            (cohen.CohenCertificate(), split * ALPHA),
        )
    )
    assert (ours >= theirs * (1 - 1e-12)).all()
    assert (ours > theirs * 1.01).any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), grid=st.integers(2, 12))
def test_no_division_of_alpha_over_a_grid_beats_the_half_and_half_split(seed, grid):
    counts = random_counts(seed)
    divided = certify(two_sided_grid.TwoSidedGridCertificate(grid=grid), counts).radius
    half = certify(two_sided.TwoSidedCertificate(split=0.5), counts).radius
    assert (divided <= half).all()
    assert (divided > 0).any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_adaptive_form_is_the_largest_of_its_splits_at_full_alpha(seed):
    counts = random_counts(seed)
    each = [certify(two_sided.TwoSidedCertificate(split=j / 10), counts).radius for j in range(1, 10)]
    each.append(certify(cohen.CohenCertificate(), counts).radius)
    np.testing.assert_allclose(
        certify(two_sided_adaptive.TwoSidedAdaptiveCertificate(), counts).radius, np.max(each, axis=0), rtol=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), grid=st.integers(1, 10))
def test_algorithm_2_to_the_letter(seed, grid):
    counts, n = random_counts(seed, images=12), 400
    found = certify(t_certify.TCertifyCertificate(grid=grid), counts)
    for row, predict, radius in zip(counts, found.predict, found.radius, strict=True):
        radii = [0.0]
        for share in np.arange(1, grid + 1) / grid:
            p_a = beta.ppf(share * ALPHA, row[0], n - row[0] + 1)
            all_tails_vanish = share == 1
            p_b = 1 - p_a if all_tails_vanish else equation_14(row[1:], n, (1 - share) * ALPHA)
            radii.append((ndtri(p_a) - ndtri(p_b)) / 2 if p_a > 0.5 else 0.0)
        assert radius == pytest.approx(max(radii), rel=1e-7, abs=1e-8)
        assert radius <= max(radii) + 1e-12
        assert predict == (0 if max(radii) > 0 else ABSTAIN)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_to_the_letter_lies_between_certify_and_the_tighter_bounds(seed):
    counts = random_counts(seed)
    theirs, letter, ours = (
        certify(certificate, counts).radius
        for certificate in (
            cohen.CohenCertificate(),
            t_certify.TCertifyCertificate(),
            two_sided_adaptive.TwoSidedAdaptiveCertificate(),
        )
    )
    assert (theirs <= letter * (1 + 1e-12)).all()
    assert (letter <= ours * (1 + 1e-12)).all()
    assert (ours > letter).any()


@pytest.mark.parametrize("others", [[0, 0, 0], [400, 0, 0], [0, 399, 0], [200, 200, 0], [130, 130, 140]])
def test_equation_14_at_the_ends_and_among_equals(others):
    row = np.array([0, *others])  # the first class is the selected one
    found = t_certify.all_tails_upper(row[None], np.array([400]), alpha=0.01).item()
    exact = 1.0 if max(others) == 400 else equation_14(np.array(others), 400, 0.01)
    assert exact * (1 - 1e-12) <= found <= exact * (1 + 1e-8)


def test_a_class_that_leads_without_a_majority_is_certified():
    counts = np.array([[4500, 2000, 2000, 1500], [4500, 4400, 600, 500]])
    assert (certify(cohen.CohenCertificate(), counts).predict == ABSTAIN).all()
    bound = certify(two_sided.TwoSidedCertificate(), counts)
    np.testing.assert_array_equal(bound.predict, [0, ABSTAIN])
    assert (certify(t_certify.TCertifyCertificate(), counts).predict == ABSTAIN).all()
    assert bound.p_a_lower[0] < 0.5
    assert bound.radius[0] > 0.3


def test_only_what_is_proved_is_promised():
    assert (
        guarantee(two_sided.TwoSidedCertificate(), 0.0, GRID)
        == guarantee(two_sided_grid.TwoSidedGridCertificate(), 0.0, GRID)
        == "global"
    )
    assert (
        guarantee(two_sided_adaptive.TwoSidedAdaptiveCertificate(), 0.0, GRID)
        == guarantee(t_certify.TCertifyCertificate(), 0.0, GRID)
        == "none"
    )
    assert guarantee(two_sided.TwoSidedCertificate(), 0.01, GRID) == "none"


@pytest.mark.parametrize("split", [0, 1, -0.1, 1.5, float("nan"), True, "half"])
def test_a_split_outside_alpha_is_refused(split):
    with pytest.raises(ConfigError, match=r"^split: .*; must be a finite number > 0 and < 1"):
        two_sided.TwoSidedCertificate(split=split)


@pytest.mark.parametrize(
    "certificate",
    [
        two_sided_grid.TwoSidedGridCertificate,
        two_sided_adaptive.TwoSidedAdaptiveCertificate,
        t_certify.TCertifyCertificate,
    ],
)
@pytest.mark.parametrize("grid", [0, -1, 2.5])
def test_a_grid_without_splits_is_refused(certificate, grid):
    with pytest.raises(ConfigError, match=r"^grid: "):
        certificate(grid=grid)
