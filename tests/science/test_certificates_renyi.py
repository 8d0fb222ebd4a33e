"""The Renyi certificate against numerical integration, the lemma it rests on, and the best possible radius."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ndtri
from scipy.stats import norm

from certsmooth.errors import ConfigError
from certsmooth.science.certificates import renyi
from certsmooth.science.certificates.renyi import renyi_radius
from certsmooth.science.theory.worst_case import semi_elastic_radius
from factories import certify_two_classes

ORDERS = [0.05, 0.3, 0.7, 0.95, 1.05, 1.2, 1.4, 1.6, 2, 3, 5, 10]


def divergence(order, mean, s1, s0):
    """Of N(mean, s1^2) from N(0, s0^2) by the definition; infinite where the integral is."""
    if (1 - order) * s1**2 + order * s0**2 <= 0:
        return np.inf
    centre = order * s0**2 * mean / ((1 - order) * s1**2 + order * s0**2)  # where the integrand is largest

    def integrand(x):
        return np.exp(order * norm.logpdf(x, mean, s1) + (1 - order) * norm.logpdf(x, 0, s0))

    return np.log(
        sum(quad(integrand, *ends)[0] for ends in ((centre - 30 * s0, centre), (centre, centre + 30 * s0)))
    ) / (order - 1)


def threshold(order, p_a, p_b):
    """Of Lemma B.4, as it is written there."""
    mean = ((p_a ** (1 - order) + p_b ** (1 - order)) / 2) ** (1 / (1 - order))
    return -np.log(1 - p_a - p_b + 2 * mean)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), order=st.sampled_from(ORDERS), classes=st.integers(2, 5))
def test_no_distribution_with_another_answer_is_closer_than_the_threshold(seed, order, classes):
    generator = np.random.default_rng(seed)
    p = np.sort(generator.dirichlet(np.ones(classes)))[::-1]
    q = np.where(
        generator.random() < 0.5, generator.dirichlet(np.ones(classes)), p * generator.uniform(0.8, 1, classes)
    )
    other = int(generator.integers(1, classes))
    q[0], q[other] = min(q[0], q[other]), max(q[0], q[other])
    assume(p[-1] > 1e-6)
    found = np.log((p ** (1 - order) * (q / q.sum()) ** order).sum()) / (order - 1)
    assert found >= threshold(order, p[0], p[1]) - 1e-12
    # Bounds on the probabilities, instead of the probabilities, only lower it.
    low, high = p[0] - 0.3 * (p[0] - p[1]), p[1] + 0.3 * (p[0] - p[1]) * generator.random()
    assume(low > high)
    assert threshold(order, low, high) <= threshold(order, p[0], p[1]) + 1e-12


@pytest.mark.parametrize("order", ORDERS)
def test_the_threshold_is_attained(order):
    p = np.array([0.5, 0.2, 0.2, 0.1])
    mean = (np.mean(p[:2] ** (1 - order))) ** (1 / (1 - order))
    q = np.array([mean, mean, 0.2, 0.1])
    found = np.log((p ** (1 - order) * (q / q.sum()) ** order).sum()) / (order - 1)
    assert found == pytest.approx(threshold(order, 0.5, 0.2), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p_a", "p_b", "s0", "s1", "dimension"),
    [
        (0.99, 0.01, 1.0, 0.8, 1),
        (0.99, 0.01, 1.0, 0.8, 10),
        (0.99, 0.01, 0.8, 1.0, 10),
        (0.6, 0.1, 0.5, 0.5, 100),
        (0.45, 0.2, 0.5, 0.51, 100),
        (0.999999, 1e-6, 1.0, 1.3, 5),
    ],
)
def test_the_radius_is_the_largest_over_the_orders(p_a, p_b, s0, s1, dimension):
    # The divergence grows with the squared distance, so two integrals give it at every distance.
    squares = [0.0]
    for order in np.concatenate([ORDERS, np.linspace(1.02, 2.5, 38)]):
        at_rest, moved = divergence(order, 0, s1, s0), divergence(order, 0.5, s1, s0)
        if np.isfinite(moved):
            slope = (moved - at_rest) / 0.25
            squares.append((threshold(order, p_a, p_b) - dimension * at_rest) / slope)
    assert (
        np.sqrt(max(squares)) * (1 - 1e-9) <= renyi_radius(p_a, p_b, s0, s1, dimension) <= 1.003 * max(squares) ** 0.5
    )


def test_figure_11_the_radius_falls_to_zero_with_the_dimension():
    radii = [float(renyi_radius(0.99, 0.01, 1.0, 0.8, dimension)) for dimension in (1, 2, 5, 10, 20, 30, 60, 100)]
    assert all(more > less or more == 0 for more, less in pairwise(radii))
    assert radii[-1] == 0
    assert 2 < radii[0] < ndtri(0.99)
    assert renyi_radius(0.99, 0.01, 1.0, 1.0, 1) == renyi_radius(0.99, 0.01, 1.0, 1.0, 150_528)


def certify(p_a_counts, n, *, rounding=0.0, **settings):
    return certify_two_classes(renyi.RenyiCertificate(), p_a_counts, n, alpha=0.001, rounding=rounding, **settings)


@pytest.mark.parametrize("dimension", [1, 2, 30, 3072, 150_528])
@pytest.mark.parametrize("rate", [0.0, 1e-4, 0.01, 0.3, 3.0])
@pytest.mark.parametrize("within", [0.0, 0.1])
def test_it_is_below_the_best_possible_radius_but_not_far(dimension, rate, within):
    bound = certify(np.arange(5300, 10_001, 100), 10_000, sigma=0.5, rate=rate, dimension=dimension, within=within)
    best = semi_elastic_radius(bound.p_a_lower, 0.5, rate, dimension, constant_within=within)
    assert (bound.radius < best).all()
    assert (bound.radius > 0.5 * best).all()


@pytest.mark.parametrize("rounding", [0.0, 1e-3])
@pytest.mark.parametrize(
    ("dimension", "rate", "within"), [(1, 1.0, 0.0), (20, 0.3, 0.0), (20, 0.3, 0.2), (3072, 0.01, 0.1)]
)
def test_every_point_of_the_ball_and_every_sigma_there_is_certified(dimension, rate, within, rounding):
    about = {"sigma": 0.5, "rate": rate, "dimension": dimension, "within": within, "rounding": rounding}
    bound = certify(np.array([6000, 8000, 9900, 10_000]), 10_000, **about)
    assert (bound.radius > within).sum() >= 2
    for p_a, radius in zip(bound.p_a_lower, bound.radius, strict=True):
        distance = radius * np.linspace(0, 1, 21)[:, None]
        largest = rate * np.maximum(distance - within, 0) + rounding * (distance > within)
        pair = renyi_radius(p_a, 1 - p_a, 0.5, 0.5 * np.exp(largest * np.linspace(-1, 1, 21)), dimension)
        assert (pair >= distance * (1 - 1e-9)).all()


def test_more_dimensions_or_less_certainty_never_help():
    p = np.linspace(0.5, 0.9999, 50)
    radius = renyi_radius(p, 1 - p, 0.5, 0.45, 10)
    assert (np.diff(radius) >= 0).all()
    assert (renyi_radius(p, 1 - p, 0.5, 0.45, 11) <= radius).all()
    assert (renyi_radius(p, 0.5 * (1 - p), 0.5, 0.45, 10) >= radius).all()
    assert radius[0] == 0 < radius[-1]
    assert renyi_radius(0.3, 0.4, 0.5, 0.5, 10) == 0
    assert np.isfinite(renyi_radius(1.0, 0.0, 0.5, 0.5, 10))


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"p_a_lower": 1.1}, "p_a_lower"),
        ({"p_a_lower": float("nan")}, "p_a_lower"),
        ({"p_b_upper": -0.1}, "p_b_upper"),
        ({"sigma0": 0.0}, "sigma0"),
        ({"sigma1": float("inf")}, "sigma1"),
        ({"dimension": 0}, "dimension"),
        ({"dimension": 1.5}, "dimension"),
    ],
)
def test_a_bad_argument_is_named(change, culprit):
    arguments = {"p_a_lower": 0.9, "p_b_upper": 0.1, "sigma0": 0.5, "sigma1": 0.5, "dimension": 3}
    with pytest.raises(ConfigError, match=f"^{culprit}: "):
        renyi_radius(**arguments | change)
