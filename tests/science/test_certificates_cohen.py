"""The certificate of Cohen et al. where the truth is known, and against what its authors published."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import mpmath as mp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import binom, binomtest
from statsmodels.stats.proportion import proportion_confint

from certsmooth.errors import ConfigError
from certsmooth.science.certificates import ABSTAIN, Smoothing, cohen, guarantee
from certsmooth.science.theory.bounds import clopper_pearson_lower
from factories import GRID, REFERENCE, certify_two_classes, needs_reference, two_class_counts

ALPHA = 0.01


def certify(selection, estimation, sigma, *, alpha):
    """The certificates for a constant sigma."""
    smoothing = Smoothing(sigma, dimension=784, semi_elasticity=0.0, constant_within=np.full(len(sigma), np.inf))
    return cohen.CohenCertificate()(selection, estimation, smoothing, alpha=alpha)


def every_outcome(n, *, selected=0, sigma=1.0, alpha=ALPHA):
    """The certificates of all n + 1 outcomes of the estimation, class 0 being drawn k = 0 .. n times."""
    settings = {"sigma": sigma, "within": np.inf, "selected": selected, "alpha": alpha}
    return certify_two_classes(cohen.CohenCertificate(), np.arange(n + 1), n, **settings)


def exact_error(n, p, sigma=0.5):
    """The larger probability, given the selected class, that a certificate is wrong.

    The base classifier is linear with two classes, so that class 0 has probability p >= 1/2 under noise if and only
    if the decision boundary of g is sigma Phi^-1(p) away, which is the largest true radius.
    """
    weights = [comb(n, k) * Fraction(p) ** k * (1 - Fraction(p)) ** (n - k) for k in range(n + 1)]
    with mp.workdps(40):
        true_radius = mp.mpf(sigma) * mp.sqrt(2) * mp.erfinv(2 * mp.mpf(p) - 1)
        wrong = [
            every_outcome(n, selected=0, sigma=sigma).radius > true_radius,
            every_outcome(n, selected=1, sigma=sigma).radius > 0,
        ]
    return max(sum((w for w, is_wrong in zip(weights, some, strict=True) if is_wrong), Fraction(0)) for some in wrong)


@pytest.mark.parametrize("n", [5, 20, 100, 300])
@pytest.mark.parametrize("p", [0.5, 0.5001, 0.55, 0.6, 0.75, 0.9, 0.99, 0.9999])
def test_a_certificate_is_wrong_with_probability_at_most_alpha_exactly(n, p):
    assert exact_error(n, p) <= Fraction(ALPHA)


@pytest.mark.parametrize(("n", "k"), [(20, 17), (100, 64), (100, 100), (300, 200), (300, 299)])
def test_the_bound_on_the_error_is_attained(n, k):
    # The worst p lies just below the bound of some outcome.
    worst = float(np.nextafter(clopper_pearson_lower(k, n, alpha=ALPHA), 0)) - 1e-12
    assert worst > 0.5
    assert Fraction(ALPHA) * Fraction(999_999, 1_000_000) < exact_error(n, worst) <= Fraction(ALPHA)


def simulate(p, n, *, times, seed, n0=10):
    generator = np.random.default_rng(seed)
    selection = two_class_counts(generator.binomial(n0, p, times), n0)
    estimation = two_class_counts(generator.binomial(n, p, times), n)
    return selection, estimation


def just_below_the_bound(k, n):
    return float(clopper_pearson_lower(k, n, alpha=ALPHA)) - 1e-9


@pytest.mark.parametrize(
    ("p", "n"),
    [
        (0.5, 100),
        (0.5, 10_000),
        (0.51, 1000),
        (0.9, 100_000),
        (0.999, 1000),
        (just_below_the_bound(64, 100), 100),
        (just_below_the_bound(990, 1000), 1000),
        (just_below_the_bound(100_000, 100_000), 100_000),
    ],
)
def test_coverage_in_simulated_certifications(p, n):
    times, sigma = 20_000, 0.25
    selection, estimation = simulate(p, n, times=times, seed=round(p * 1e6) + n)
    bound = certify(selection, estimation, np.full(times, sigma), alpha=ALPHA)
    margin = sigma * ndtri(p)
    right = (bound.predict == ABSTAIN) | ((bound.predict == 0) & (bound.radius <= margin * (1 + 1e-12)))
    assert (~right).sum() <= binom.ppf(1 - 1e-6, times, ALPHA)


def test_coverage_of_a_linear_classifier_under_real_noise():
    # f(x) = 1 if <w, x> > b: under noise it is class 1 with probability Phi(distance to the boundary / sigma).
    generator, sigma, times, n = np.random.default_rng(3), 0.5, 2000, 200
    w = np.array([3.0, -4.0]) / 5
    points = generator.normal(size=(times, 2)) * 0.7
    signed = points @ w - 0.1
    sigmas = np.full(times, sigma)

    def count(samples):
        noise = generator.standard_normal((times, samples, 2)) * sigma
        ones = ((points[:, None] + noise) @ w > 0.1).sum(axis=1)
        return two_class_counts(samples - ones, samples)

    bound = certify(count(20), count(n), sigmas, alpha=ALPHA)
    wrong = (bound.predict != ABSTAIN) & ((bound.radius > abs(signed)) | (bound.predict != (signed > 0)))
    assert wrong.sum() <= binom.ppf(1 - 1e-6, times, ALPHA)
    assert (bound.predict != ABSTAIN).mean() > 0.5


def test_selecting_on_the_estimation_samples_breaks_the_bound():
    # The documented trap: the leading of 10 equal classes is the one whose estimate errs most.
    generator, times, n = np.random.default_rng(0), 5000, 1000
    counts = generator.multinomial(n, np.full(10, 0.1), times)
    fresh = generator.multinomial(n, np.full(10, 0.1), times)
    sigma = np.full(times, 0.5)
    reused = certify(counts, counts, sigma, alpha=ALPHA).p_a_lower > 0.1
    separate = certify(fresh, counts, sigma, alpha=ALPHA).p_a_lower > 0.1
    assert reused.mean() > 5 * ALPHA
    assert separate.sum() <= binom.ppf(1 - 1e-6, times, ALPHA)


def test_selecting_on_the_estimation_samples_certifies_wrong_classes_too_often():
    # Two equal classes: g is on its decision boundary and every certificate is wrong. Exactly, not by simulation.
    n = 100
    certified = every_outcome(n).radius > 0
    either = certified | certified[::-1]
    reused = Fraction(sum(comb(n, k) for k in range(n + 1) if either[k]), 2**n)
    separate = Fraction(sum(comb(n, k) for k in range(n + 1) if certified[k]), 2**n)
    assert separate <= Fraction(ALPHA) < reused == 2 * separate


def test_the_radius_is_the_formula_rounded_down():
    n = 1000
    bound = every_outcome(n, sigma=0.25, alpha=0.001)
    for p, radius in zip(bound.p_a_lower.tolist(), bound.radius.tolist(), strict=True):
        with mp.workdps(40):
            exact = mp.mpf(0.25) * mp.sqrt(2) * mp.erfinv(2 * mp.mpf(max(p, 0.5)) - 1)
            assert exact * (1 - mp.mpf(10) ** -13) <= radius <= exact
    low, _ = proportion_confint(np.arange(n + 1), n, alpha=2 * 0.001, method="beta")
    np.testing.assert_allclose(bound.p_a_lower, low, rtol=3e-9)
    np.testing.assert_array_equal(bound.predict, np.where(low > 0.5, 0, ABSTAIN))


def test_ties_select_the_smallest_class():
    counts = np.array([[0, 5, 5]])
    estimation = np.array([[0, 1000, 0]])
    assert certify(counts, estimation, np.array([1.0]), alpha=0.001).predict[0] == 1


def test_it_promises_nothing_about_a_sigma_that_varies():
    assert guarantee(cohen.CohenCertificate(), 0.0, GRID) == "global"
    assert guarantee(cohen.CohenCertificate(), 1e-9, GRID) == guarantee(cohen.CohenCertificate(), None, GRID) == "none"


def published_files():
    """Each published file with the alpha that its radii show: 0.01 for three of Cohen et al., 0.001 for all others."""
    for file in sorted((REFERENCE / "certificates").glob("*.tsv")):
        authors, training, certification = (
            part for part in file.stem.split("_") if part[:5] in {"cohen", "smoot", "train", "certi"}
        )
        sigma, same = float(certification[7:]), training[5:] == certification[7:]
        alpha = 0.01 if authors == "cohen2019" and same and sigma >= 0.25 else 0.001
        digits = ".3" if authors == "cohen2019" else ".4f"
        yield pytest.param(file, sigma, alpha, digits, id=file.stem)


@needs_reference
@pytest.mark.parametrize(("file", "sigma", "alpha", "digits"), published_files())
def test_the_radii_that_the_authors_published_come_out(file, sigma, alpha, digits):
    # No counts were published: every radius must be that of some count out of 100,000, to the printed digits.
    count = np.arange(50_000, 100_001)
    ones = np.tile([1, 0], (len(count), 1))
    estimation = two_class_counts(count, 100_000)
    possible = certify(ones, estimation, np.full(len(count), sigma), alpha=alpha).radius
    table = pd.read_csv(file, sep="\t")
    found = {format(radius, digits) for radius in table["radius"][table["predict"] != ABSTAIN]}
    assert len(found) > 100
    assert found <= {format(radius, digits) for radius in possible}


def test_predict_is_the_two_sided_test_of_the_two_most_frequent_classes():
    counts = np.random.default_rng(1).multinomial(60, [0.5, 0.3, 0.15, 0.05], 200)
    found = cohen.predict(counts, alpha=0.05)
    for row, answer in zip(counts.tolist(), found.tolist(), strict=True):
        second, first = sorted(row)[-2:]
        sure = binomtest(first, first + second, 0.5).pvalue <= 0.05
        assert answer == (row.index(first) if sure else ABSTAIN)
    assert found.dtype == np.int64
    assert 0 < (found == ABSTAIN).mean() < 1


@pytest.mark.parametrize("n", [6, 25, 100])
def test_predict_errs_with_probability_at_most_alpha_exactly(n):
    # Two classes, the second one as likely as can be without being right.
    found = cohen.predict(two_class_counts(np.arange(n + 1), n), alpha=0.05)
    assert Fraction(sum(comb(n, k) for k in range(n + 1) if found[k] == 1), 2**n) <= Fraction(1, 40)
    assert (found == 1).any()
    assert cohen.predict(np.array([[n, n]]), alpha=0.999)[0] == ABSTAIN


@pytest.mark.parametrize(
    ("counts", "alpha", "names"),
    [
        ([[1, -1]], 0.1, "counts: a count of -1"),
        ([[0, 0]], 0.1, "counts: no sample of image 0"),
        ([[1.0, 2.0]], 0.1, "counts: values of type float64"),
        ([[1]], 0.1, "counts: shape"),
        ([[1, 2]], 1.0, "alpha"),
    ],
)
def test_predict_names_a_bad_argument(counts, alpha, names):
    with pytest.raises(ConfigError, match=names):
        cohen.predict(np.array(counts), alpha=alpha)


@given(alpha=st.floats(1e-90, 0.99))
def test_predict_can_succeed_from_the_n_on_whose_exact_p_value_is_at_most_alpha(alpha):
    """All n samples of one class have the p-value 2 / 2^n."""
    needed = next(n for n in range(1, 400) if Fraction(2, 2**n) <= Fraction(alpha) / Fraction(1 + 2e-9))
    cohen.check_can_predict(n=needed, alpha=alpha)
    if Fraction(2, 2 ** (needed - 1)) > Fraction(alpha):
        with pytest.raises(ConfigError, match=rf"^n: {needed - 1}; .*must be at least {needed}$"):
            cohen.check_can_predict(n=needed - 1, alpha=alpha)
