"""The certificate of IDRS from counts; the worst case itself is tested with `certsmooth.science.theory.worst_case`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certsmooth.errors import ConfigError
from certsmooth.science.certificates import FLOAT32_ROUNDING, cohen, guarantee, semi_elastic
from certsmooth.science.theory.worst_case import constant_radius, semi_elastic_radius, xi
from factories import GRID, certify_two_classes

SIGMA = np.random.default_rng(0).uniform(0.1, 1, 201)


def certify(certificate, rate, **settings):
    return certify_two_classes(certificate, np.arange(201), 200, sigma=SIGMA, rate=rate, alpha=0.001, **settings)


def test_a_constant_sigma_has_the_certificate_of_cohen():
    ours, theirs = (certify(make(), 0.0) for make in (semi_elastic.SemiElasticCertificate, cohen.CohenCertificate))
    for name in ("predict", "radius", "p_a_lower", "p_b_upper"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_the_radius_is_that_of_the_worst_case():
    for rate, within, dimension in ((0.01, 0.0, 784), (0.2, 0.3, 2)):
        bound = certify(semi_elastic.SemiElasticCertificate(), rate, within=within, dimension=dimension)
        radius = semi_elastic_radius(
            bound.p_a_lower, SIGMA, rate, dimension, constant_within=within, rounding=FLOAT32_ROUNDING
        )
        np.testing.assert_allclose(bound.radius, radius, rtol=1e-12)
        np.testing.assert_array_equal(bound.predict, np.where(bound.radius > 0, 0, -1))
        constant = certify(cohen.CohenCertificate(), 0.0).radius
        assert (bound.radius <= constant).all()
        assert (bound.radius[constant > 0.5] < constant[constant > 0.5]).all()


def test_it_promises_its_certificate_for_every_known_semi_elasticity():
    assert (
        guarantee(semi_elastic.SemiElasticCertificate(), 0.0, GRID)
        == guarantee(semi_elastic.SemiElasticCertificate(), 100.0, GRID)
        == "global"
    )


@given(sigma=st.floats(1e-3, 10), change=st.floats(-1, 1))
def test_rounding_two_sigmas_to_float32_changes_their_ratio_by_less_than_is_allowed_for(sigma, change):
    other = sigma * np.exp(change)
    rounded = np.log(float(np.float32(other))) - np.log(float(np.float32(sigma)))
    assert abs(rounded - change) < FLOAT32_ROUNDING


@pytest.mark.parametrize(("rate", "dimension"), [(1e-6, 150_528), (0.01, 784), (0.5, 2)])
def test_the_radius_leaves_room_for_rounded_sigmas(rate, dimension):
    p_a = np.linspace(0.51, 0.9999, 20)
    ideal = semi_elastic_radius(p_a, 0.3, rate, dimension)
    radius = semi_elastic_radius(p_a, 0.3, rate, dimension, rounding=1e-4)
    assert (radius < ideal).all()
    p_a, radius = p_a[radius > 0], radius[radius > 0]
    assert len(radius) > 15
    for sign in (-1, 1):
        allowed = np.exp(sign * (rate * radius + 1e-4))
        assert (xi(radius, 0.3, 0.3 * allowed, dimension, p_a) < 0.5).all()
    beyond = radius * (1 + 1e-6)
    worst = np.maximum(*(xi(beyond, 0.3, 0.3 * np.exp(s * (rate * beyond + 1e-4)), dimension, p_a) for s in (-1, 1)))
    assert (worst > 0.5).all()


def test_rounding_costs_nothing_where_sigma_is_constant():
    p_a = np.linspace(0.5, 0.9999, 20)
    within = semi_elastic_radius(p_a, 0.3, 0.1, 784, constant_within=0.3, rounding=1e-4)
    assert (within >= np.minimum(constant_radius(p_a, 0.3), 0.3)).all()
    np.testing.assert_array_equal(semi_elastic_radius(p_a, 0.3, 0.0, 784, rounding=1e-4), constant_radius(p_a, 0.3))


# --- the authors' thresholds


def test_the_thresholds_are_those_that_the_paper_prints():
    """IDRS, Appendix D: sigma_t(p_A) = 0.9993 + 0.001 log10(p_B) on CIFAR-10, 0.9988 + ... on MNIST."""
    p_a = np.array([0.5, 0.9, 0.99, 0.999])
    for threshold in (0.9993, 0.9988):
        change = semi_elastic.SemiElasticCertificate(threshold=threshold)._least_change(p_a)
        expected = [threshold - 0.0003010299956639812, threshold - 0.001, threshold - 0.002, threshold - 0.003]
        np.testing.assert_allclose(np.exp(-change), expected, rtol=1e-14)
    assert semi_elastic.SemiElasticCertificate(threshold=1.0)._least_change(np.array([0.0, 1.0])) == pytest.approx(
        [0, -np.log(1 - 0.307653)], rel=1e-3
    )  # finite at p_B = 0 as well


def worst(distance, sigma, rate, change, dimension, p_a):
    """Algorithm 3 of IDRS at one distance: the larger xi of both noise levels, each at its threshold or beyond."""
    low = sigma * min(np.exp(-change), np.exp(-rate * distance))
    high = sigma * max(np.exp(change), np.exp(rate * distance))
    return max(float(xi(distance, sigma, level, dimension, p_a)) for level in (low, high))


@pytest.mark.parametrize(("dimension", "threshold"), [(64, 0.9988), (784, 0.9988), (3072, 0.9993)])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_the_radius_with_thresholds_is_that_of_algorithm_3(dimension, threshold, rate):
    p_a, sigma = np.array([0.501, 0.52, 0.6, 0.9, 0.999, 1 - 1e-7]), 0.5
    certificate = semi_elastic.SemiElasticCertificate(threshold=threshold)
    change = certificate._least_change(p_a)
    radius = semi_elastic_radius(p_a, sigma, rate, dimension, least_change=change)
    without = semi_elastic_radius(p_a, sigma, rate, dimension)
    assert (radius <= without).all()
    for p, t, found, most in zip(p_a, change, radius, without, strict=True):
        if found > 0:
            assert worst(found, sigma, rate, t, dimension, p) < 0.5
        assert worst(found + 1e-6, sigma, rate, t, dimension, p) > 0.5
        if rate * most >= t:  # beyond the threshold's reach: at this distance r allows more
            assert found == pytest.approx(most, rel=1e-9)
    assert (radius < without * (1 - 1e-6)).any() == (rate * without < change).any()


def test_thresholds_certify_nothing_where_they_alone_can_change_the_class():
    # The change of sigma at no distance: xi(0) >= 1/2.
    p_a, change = 0.505, 0.0025
    assert xi(0.0, 0.5, 0.5 * np.exp(-change), 3072, p_a) > 0.5
    assert (
        semi_elastic_radius(p_a, 0.5, 0.01, 3072, least_change=change) == 0 < semi_elastic_radius(p_a, 0.5, 0.01, 3072)
    )


def test_thresholds_cost_nothing_where_sigma_is_constant():
    for make in (semi_elastic.SemiElasticCertificate, lambda: semi_elastic.SemiElasticCertificate(threshold=0.9993)):
        bound = certify(make(), 0.0)
        np.testing.assert_array_equal(bound.radius, certify(cohen.CohenCertificate(), 0.0).radius)
    assert guarantee(semi_elastic.SemiElasticCertificate(threshold=0.9993), 0.01, GRID) == "global"


def test_a_certificate_with_thresholds_is_never_larger():
    with_, without = (
        certify(make, 0.01, dimension=3072)
        for make in (semi_elastic.SemiElasticCertificate(threshold=0.9993), semi_elastic.SemiElasticCertificate())
    )
    assert (with_.radius <= without.radius).all() and (with_.radius < without.radius).any()


@pytest.mark.parametrize("threshold", [0.5, 1.0000001, -1.0, np.nan])
def test_a_threshold_that_is_no_ratio_below_one_is_refused(threshold):
    with pytest.raises(ConfigError, match=f"threshold: {threshold!r}; must be"):
        semi_elastic.SemiElasticCertificate(threshold=threshold)
