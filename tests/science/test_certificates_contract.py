"""What every certificate must do, whatever its formula; a new member is covered by being in the folder."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certsmooth._internal import registry
from certsmooth.errors import ConfigError
from certsmooth.science.certificates import ABSTAIN, Norm, Smoothing, check_can_certify, guarantee
from certsmooth.science.theory.pixel_grid import PixelGrid
from factories import GRID

MEMBERS = registry.names("certificates")
SLOW = {"renyi", "t_certify"}  # they search: for an order, and for the root of a sum of tails
pytestmark = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MEMBERS]
)


def member(name):
    """The certificate with its default options."""
    return registry.member("certificates", name)()


def smoothed(name, sigma, *, rate=0.2, dimension=20):
    """A sigma(x) as variable as the certificate allows, up to ``rate``, and constant close to some of the images."""
    rate = min(member(name).max_semi_elasticity or 0.0, rate)
    within = np.where(np.arange(len(sigma)) % 3 == 0, 0.1, 0.0) if rate else np.full(len(sigma), inf)
    return Smoothing(sigma, dimension, rate, within)


def multinomial(name, seed, *, images=40, classes=5, n0=60, n=2000):
    """Counts of images from hopeless to certain, each with one most frequent class among the selection samples."""
    generator = np.random.default_rng(seed)
    top = np.linspace(0.2, 1, images)
    probabilities = generator.dirichlet(np.ones(classes), images) * (1 - top)[:, None]
    probabilities[np.arange(images), generator.integers(0, classes, images)] += top
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[0] = 1 / classes
    selection = generator.multinomial(n0, probabilities)
    selection[np.arange(images), selection.argmax(axis=1)] += 1
    return selection, generator.multinomial(n, probabilities), smoothed(name, generator.uniform(0.1, 1, images))


def part(smoothing, images):
    return replace(smoothing, sigma=smoothing.sigma[images], constant_within=smoothing.constant_within[images])


seeds = st.integers(0, 2**32 - 1)
several = settings(max_examples=15, deadline=None)


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.4])
def test_an_n_is_refused_exactly_where_all_counts_abstain(name, alpha):
    for n in range(1, 14):
        first, second = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
        estimation = np.stack([first, second, n - first - second], axis=1)[first + second <= n]
        selection = np.tile([1, 0, 0], (len(estimation), 1))
        bound = member(name)(selection, estimation, smoothed(name, np.full(len(estimation), 0.5), rate=0), alpha=alpha)
        if (bound.predict == ABSTAIN).all():
            with pytest.raises(ConfigError, match=rf"^n: {n}; every image would abstain .*must be at least ") as caught:
                check_can_certify(member(name), n=n, alpha=alpha)
            check_can_certify(member(name), n=int(str(caught.value).split()[-1]), alpha=alpha)
        else:
            check_can_certify(member(name), n=n, alpha=alpha)


def test_the_smallest_alpha_can_succeed(name):
    check_can_certify(member(name), n=10**9, alpha=1e-95)


@several
@given(seed=seeds)
def test_shapes_types_and_abstention(name, seed):
    selection, estimation, smoothing = multinomial(name, seed)
    bound = member(name)(selection, estimation, smoothing, alpha=0.001)
    for values in (bound.predict, bound.radius, bound.p_a_lower, bound.p_b_upper):
        assert values.shape == (len(selection),)
    assert (bound.predict.dtype, bound.radius.dtype) == (np.int64, np.float64)
    assert bound.p_a_lower.dtype == np.float64
    assert (bound.p_a_lower >= 0).all()
    assert (bound.p_a_lower < 1).all()
    assert (bound.p_b_upper > 0).all()
    assert (bound.p_a_lower + bound.p_b_upper <= 1 + 1e-15).all()
    abstains = bound.predict == ABSTAIN
    np.testing.assert_array_equal(abstains, bound.radius == 0)
    assert np.isfinite(bound.radius).all()
    assert (bound.radius[~abstains] > 0).all()
    assert abstains.any()
    assert not abstains.all()
    np.testing.assert_array_equal(bound.predict[~abstains], selection.argmax(axis=1)[~abstains])


@several
@given(seed=seeds)
def test_each_image_is_certified_by_itself(name, seed):
    selection, estimation, smoothing = multinomial(name, seed)
    bound = member(name)(selection, estimation, smoothing, alpha=0.001)
    some = np.array([30, 3, 39])
    alone = member(name)(selection[some], estimation[some], part(smoothing, some), alpha=0.001)
    np.testing.assert_array_equal(alone.predict, bound.predict[some])
    np.testing.assert_allclose(alone.radius, bound.radius[some], rtol=1e-9)
    none = np.arange(0)
    assert len(member(name)(selection[none], estimation[none], part(smoothing, none), alpha=0.001).radius) == 0


@several
@given(seed=seeds)
def test_more_votes_for_the_selected_class_never_shrink_the_radius(name, seed):
    selection, estimation, smoothing = multinomial(name, seed)
    selected, rows = selection.argmax(axis=1), np.arange(len(selection))
    others = np.where(np.arange(selection.shape[1]) == selected[:, None], -1, estimation)
    loser = others.argmax(axis=1)
    more = estimation.copy()
    moved = np.minimum(1 + np.random.default_rng(seed).integers(0, 50, len(rows)), others.max(axis=1))
    more[rows, selected] += moved
    more[rows, loser] -= moved
    fewer_votes = member(name)(selection, estimation, smoothing, alpha=0.001).radius
    more_votes = member(name)(selection, more, smoothing, alpha=0.001).radius
    grown = moved > 0
    assert (more_votes >= fewer_votes)[grown].all()
    assert (more_votes > fewer_votes).any()
    # The rows of a certificate share the nodes of its quadrature: the last bits are those of their company.
    np.testing.assert_allclose(more_votes[~grown], fewer_votes[~grown], rtol=1e-11)


@several
@given(seed=seeds, factor=st.integers(2, 100))
def test_fewer_samples_of_the_same_proportions_never_enlarge_the_radius(name, seed, factor):
    selection, estimation, smoothing = multinomial(name, seed, n=50)
    few = member(name)(selection, estimation, smoothing, alpha=0.001).radius
    many = member(name)(selection, estimation * factor, smoothing, alpha=0.001).radius
    assert (many >= few).all()
    assert (many > few).any()


@several
@given(seed=seeds, alpha=st.floats(1e-9, 0.2))
def test_a_smaller_alpha_gives_smaller_radii(name, seed, alpha):
    selection, estimation, smoothing = multinomial(name, seed)
    large = member(name)(selection, estimation, smoothing, alpha=alpha).radius
    small = member(name)(selection, estimation, smoothing, alpha=alpha / 10).radius
    assert (small[large > 0] < large[large > 0]).all()
    assert (small[large == 0] == 0).all()


@several
@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_the_unit_of_length_does_not_matter(name, seed, factor):
    selection, estimation, smoothing = multinomial(name, seed)
    stretched = Smoothing(
        smoothing.sigma * factor,
        smoothing.dimension,
        smoothing.semi_elasticity / factor,
        smoothing.constant_within * factor,
    )
    once = member(name)(selection, estimation, smoothing, alpha=0.001)
    scaled = member(name)(selection, estimation, stretched, alpha=0.001)
    np.testing.assert_allclose(scaled.radius, once.radius * factor, rtol=1e-7)
    np.testing.assert_array_equal(scaled.predict, once.predict)


@several
@given(seed=seeds)
@example(seed=70)  # where sigma * (radius / sigma) > radius
def test_a_radius_of_a_sigma_that_may_vary_is_never_larger(name, seed):
    selection, estimation, smoothing = multinomial(name, seed)
    if smoothing.semi_elasticity == 0:
        pytest.skip("its theorem is about a constant sigma")
    less, more, jumps, constant = (
        member(name)(selection, estimation, replace(smoothing, **change), alpha=0.001).radius
        for change in (
            {"semi_elasticity": 0.1 * smoothing.semi_elasticity},
            {"constant_within": np.zeros(len(selection))},
            {"semi_elasticity": inf},
            {"semi_elasticity": 0.0},
        )
    )
    radius = member(name)(selection, estimation, smoothing, alpha=0.001).radius
    slightly = 1 + 1e-9  # the end of a search
    assert (jumps <= np.minimum(radius, smoothing.constant_within) * slightly).all()
    assert (more <= radius * slightly).all()
    assert (radius <= less * slightly).all()
    assert (less <= constant).all()
    assert (more < constant).any()


def test_rounding_costs_radius_where_sigma_varies_and_nowhere_else(name):
    selection, estimation, smoothing = multinomial(name, 0)
    exact, rounded = (
        member(name)(selection, estimation, replace(smoothing, rounding=rounding), alpha=0.001).radius
        for rounding in (0.0, 1e-3)
    )
    beyond = exact > smoothing.constant_within
    assert beyond.any() == (smoothing.semi_elasticity > 0)
    assert (rounded[beyond] < exact[beyond] * (1 - 1e-7)).all()
    assert (rounded[beyond] >= smoothing.constant_within[beyond] * (1 - 1e-9)).all()
    np.testing.assert_array_equal(rounded[~beyond], exact[~beyond])


@several
@given(seed=seeds)
def test_renaming_the_classes_renames_the_predictions(name, seed):
    selection, estimation, smoothing = multinomial(name, seed)
    old = np.random.default_rng(seed).permutation(selection.shape[1])  # new class j was class old[j]
    bound = member(name)(selection, estimation, smoothing, alpha=0.001)
    renamed = member(name)(selection[:, old], estimation[:, old], smoothing, alpha=0.001)
    sure = bound.predict != ABSTAIN
    np.testing.assert_array_equal(old[renamed.predict[sure]], bound.predict[sure])
    np.testing.assert_array_equal(renamed.predict[~sure], ABSTAIN)
    np.testing.assert_array_equal(renamed.radius, bound.radius)


def test_a_class_without_votes_among_the_estimation_samples_is_not_certified(name):
    estimation = np.array([[0, 10_000, 0], [0, 1, 0], [1, 0, 0], [10_000, 0, 0]])
    bound = member(name)(np.tile([1, 0, 0], (4, 1)), estimation, smoothed(name, np.ones(4)), alpha=0.001)
    np.testing.assert_array_equal(bound.predict, [ABSTAIN, ABSTAIN, ABSTAIN, 0])
    np.testing.assert_array_equal(bound.radius[:3], 0)
    assert 0 < bound.radius[3] < np.inf


def test_the_arguments_stay_as_they_were(name):
    selection, estimation, smoothing = multinomial(name, 0)
    for array in (selection, estimation, smoothing.sigma, smoothing.constant_within):
        array.setflags(write=False)
    member(name)(selection, estimation, smoothing, alpha=0.001)


def bad(argument, **change):
    """Valid arguments for two images, but one."""
    arguments = {
        "selection": np.array([[3, 1], [0, 4]]),
        "estimation": np.array([[30, 10], [1, 40]]),
        "sigma": np.array([0.25, 0.5]),
        "constant_within": np.zeros(2),
        "rounding": 1e-7,
        "alpha": 0.001,
    }
    return pytest.param(arguments | {argument: change["to"]}, argument, id=f"{argument}-{change['why']}")


BAD = [
    bad("selection", to=np.array([[3, -1], [0, 4]]), why="negative"),
    bad("estimation", to=np.array([[30, -1], [1, 40]]), why="negative"),
    bad("estimation", to=np.array([[30, 10]]), why="fewer rows"),
    bad("estimation", to=np.array([[30, 10, 0], [1, 40, 0]]), why="more classes"),
    bad("selection", to=np.array([[3, 1], [0, 0]]), why="no samples"),
    bad("estimation", to=np.array([[30, 10], [0, 0]]), why="no samples"),
    bad("selection", to=np.array([[3.0, 1.0], [0.0, 4.0]]), why="floats"),
    bad("selection", to=np.array([[3], [4]]), why="one class"),
    bad("selection", to=np.array([3, 4]), why="one axis"),
    bad("sigma", to=np.array([0.25, 0.0]), why="zero"),
    bad("sigma", to=np.array([0.25, -0.5]), why="negative"),
    bad("sigma", to=np.array([np.nan, 0.5]), why="NaN"),
    bad("sigma", to=np.array([np.inf, 0.5]), why="infinite"),
    bad("sigma", to=np.array([0.25]), why="one for all"),
    bad("constant_within", to=np.array([0.1, -0.1]), why="negative"),
    bad("constant_within", to=np.array([0.1, np.nan]), why="NaN"),
    bad("constant_within", to=np.array([0.1]), why="one for all"),
    bad("rounding", to=-1e-9, why="negative"),
    bad("rounding", to=float("nan"), why="NaN"),
    bad("alpha", to=0.0, why="zero"),
    bad("alpha", to=1.0, why="one"),
    bad("alpha", to=float("nan"), why="NaN"),
]


@pytest.mark.parametrize(("arguments", "culprit"), BAD)
def test_a_bad_argument_is_named(name, arguments, culprit):
    smoothing = Smoothing(arguments["sigma"], 20, 0.0, arguments["constant_within"], arguments["rounding"])
    with pytest.raises(ConfigError, match=f"^{culprit}: "):
        member(name)(arguments["selection"], arguments["estimation"], smoothing, alpha=arguments["alpha"])


def test_a_certificate_about_a_varying_sigma_has_to_know_how_it_varies(name):
    if not member(name).max_semi_elasticity:
        pytest.skip("its radius does not depend on it")
    selection, estimation, smoothing = multinomial(name, 0)
    for wrong in (None, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=r"^semi_elasticity: "):
            member(name)(selection, estimation, replace(smoothing, semi_elasticity=wrong), alpha=0.001)
    for wrong in (0, -1, 2.5):
        with pytest.raises(ConfigError, match=r"^dimension: "):
            member(name)(selection, estimation, replace(smoothing, dimension=wrong), alpha=0.001)
    with pytest.raises(ConfigError, match=f"^certificate: {name} needs"):
        guarantee(member(name), None, GRID)


def test_the_guarantee_is_global_up_to_the_largest_semi_elasticity(name):
    certificate = member(name)
    largest = certificate.max_semi_elasticity
    for rate in (0.0, 0.01, largest or 0.0):
        covered = largest is not None and rate <= largest
        assert guarantee(certificate, rate, GRID) == ("global" if covered else "none")
        assert guarantee(certificate, rate, None) == ("global (real arithmetic)" if covered else "none")
    if not largest:
        assert guarantee(certificate, None, GRID) == "none"
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ConfigError, match="semi_elasticity"):
            guarantee(certificate, wrong, GRID)


@several
@given(seed=seeds, levels=st.sampled_from([1, 16, 255]), dimension=st.sampled_from([20, 3072]))
def test_on_the_grid_the_distances_of_its_theorem_are_taken_off(name, seed, levels, dimension):
    """3 t off the probability, and 2 m off the radius that what is left of it gives (`science.theory.pixel_grid`)."""
    selection, estimation, smoothing = multinomial(name, seed)
    smoothing = replace(smoothing, dimension=dimension)
    grid, norm = PixelGrid(levels), member(name).norm
    ideal = member(name)(selection, estimation, smoothing, alpha=0.001)
    real = member(name)(selection, estimation, replace(smoothing, grid=grid), alpha=0.001)
    assert ((real.predict == ideal.predict) | (real.predict == ABSTAIN)).all()
    t, m = grid.total_variation(smoothing.sigma, dimension), grid.displacement(dimension, norm=norm)
    off = ideal.p_a_lower - real.p_a_lower
    some = (ideal.p_a_lower > 1e-6) & (real.radius > 0)
    assert (off[some] >= 3 * t[some] - 1e-16).all()
    rate = smoothing.semi_elasticity or 0.0
    assert (off[some] <= 3.01 * t[some] * np.exp(rate * ideal.radius[some]) + 1e-15).all()
    search = 1e-7 if name == "renyi" else 0.0  # its search for an order does not end at the same place
    assert (real.radius <= np.maximum(ideal.radius - 2 * m, 0) + search).all()
    lost = ideal.radius - real.radius - 2 * m
    assert (lost[some & (ideal.p_a_lower < 0.99)] < 1e-6).all()


def test_its_noise_and_norm_exist(name):
    assert member(name).noise in registry.names("noise")
    assert member(name).norm in get_args(Norm)
