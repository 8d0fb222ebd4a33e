"""What every certificate must do, whatever its formula; a new member is covered by being in the folder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certsmooth import registry
from certsmooth.certificates import ABSTAIN, certify, guarantee
from certsmooth.errors import ConfigError

MEMBERS = registry.names("certificates")
pytestmark = pytest.mark.parametrize("name", MEMBERS)


def multinomial(seed, *, images=40, classes=5, n0=60, n=2000):
    """Counts of images from hopeless to certain, each with one most frequent class among the selection samples."""
    generator = np.random.default_rng(seed)
    top = np.linspace(0.2, 1, images)
    probabilities = generator.dirichlet(np.ones(classes), images) * (1 - top)[:, None]
    probabilities[np.arange(images), generator.integers(0, classes, images)] += top
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    selection = generator.multinomial(n0, probabilities)
    selection[np.arange(images), selection.argmax(axis=1)] += 1
    return selection, generator.multinomial(n, probabilities), generator.uniform(0.1, 1, images)


seeds = st.integers(0, 2**32 - 1)
several = settings(max_examples=25, deadline=None)


@several
@given(seed=seeds)
def test_shapes_types_and_abstention(name, seed):
    selection, estimation, sigma = multinomial(seed)
    bound = certify(name, selection, estimation, sigma, alpha=0.001)
    assert bound.predict.shape == bound.radius.shape == bound.p_a_lower.shape == sigma.shape
    assert (bound.predict.dtype, bound.radius.dtype) == (np.int64, np.float64)
    assert bound.p_a_lower.dtype == np.float64
    assert (bound.p_a_lower >= 0).all()
    assert (bound.p_a_lower < 1).all()
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
    selection, estimation, sigma = multinomial(seed)
    bound = certify(name, selection, estimation, sigma, alpha=0.001)
    part = np.array([30, 3, 39])
    alone = certify(name, selection[part], estimation[part], sigma[part], alpha=0.001)
    np.testing.assert_array_equal(alone.predict, bound.predict[part])
    np.testing.assert_array_equal(alone.radius, bound.radius[part])
    assert len(certify(name, selection[:0], estimation[:0], sigma[:0], alpha=0.001).radius) == 0


@several
@given(seed=seeds)
def test_more_votes_for_the_selected_class_never_shrink_the_radius(name, seed):
    selection, estimation, sigma = multinomial(seed)
    selected, rows = selection.argmax(axis=1), np.arange(len(selection))
    others = np.where(np.arange(selection.shape[1]) == selected[:, None], -1, estimation)
    loser = others.argmax(axis=1)
    more = estimation.copy()
    moved = np.minimum(1 + np.random.default_rng(seed).integers(0, 50, len(rows)), others.max(axis=1))
    more[rows, selected] += moved
    more[rows, loser] -= moved
    fewer_votes = certify(name, selection, estimation, sigma, alpha=0.001).radius
    more_votes = certify(name, selection, more, sigma, alpha=0.001).radius
    assert (more_votes >= fewer_votes).all()
    assert (more_votes > fewer_votes).any()


@several
@given(seed=seeds, factor=st.integers(2, 100))
def test_fewer_samples_of_the_same_proportions_never_enlarge_the_radius(name, seed, factor):
    selection, estimation, sigma = multinomial(seed, n=50)
    few = certify(name, selection, estimation, sigma, alpha=0.001).radius
    many = certify(name, selection, estimation * factor, sigma, alpha=0.001).radius
    assert (many >= few).all()
    assert (many > few).any()


@several
@given(seed=seeds, alpha=st.floats(1e-9, 0.2))
def test_a_smaller_alpha_gives_smaller_radii(name, seed, alpha):
    selection, estimation, sigma = multinomial(seed)
    large = certify(name, selection, estimation, sigma, alpha=alpha).radius
    small = certify(name, selection, estimation, sigma, alpha=alpha / 10).radius
    assert (small[large > 0] < large[large > 0]).all()
    assert (small[large == 0] == 0).all()


@several
@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_the_radius_of_a_constant_sigma_is_proportional_to_it(name, seed, factor):
    if registry.member("certificates", name).MAX_SEMI_ELASTICITY != 0:
        pytest.skip("its theorem is about a sigma(x) that varies")
    selection, estimation, sigma = multinomial(seed)
    once = certify(name, selection, estimation, sigma, alpha=0.001)
    scaled = certify(name, selection, estimation, sigma * factor, alpha=0.001)
    np.testing.assert_allclose(scaled.radius, once.radius * factor, rtol=1e-14)
    np.testing.assert_array_equal(scaled.predict, once.predict)


@several
@given(seed=seeds)
def test_renaming_the_classes_renames_the_predictions(name, seed):
    selection, estimation, sigma = multinomial(seed)
    old = np.random.default_rng(seed).permutation(selection.shape[1])  # new class j was class old[j]
    bound = certify(name, selection, estimation, sigma, alpha=0.001)
    renamed = certify(name, selection[:, old], estimation[:, old], sigma, alpha=0.001)
    sure = bound.predict != ABSTAIN
    np.testing.assert_array_equal(old[renamed.predict[sure]], bound.predict[sure])
    np.testing.assert_array_equal(renamed.predict[~sure], ABSTAIN)
    np.testing.assert_array_equal(renamed.radius, bound.radius)


def test_the_arguments_stay_as_they_were(name):
    arguments = multinomial(0)
    for array in arguments:
        array.setflags(write=False)
    certify(name, *arguments, alpha=0.001)


def bad(argument, **change):
    """Valid arguments for two images, but one."""
    arguments = {
        "selection": np.array([[3, 1], [0, 4]]),
        "estimation": np.array([[30, 10], [1, 40]]),
        "sigma": np.array([0.25, 0.5]),
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
    bad("alpha", to=0.0, why="zero"),
    bad("alpha", to=1.0, why="one"),
    bad("alpha", to=float("nan"), why="NaN"),
]


@pytest.mark.parametrize(("arguments", "culprit"), BAD)
def test_a_bad_argument_is_named(name, arguments, culprit):
    with pytest.raises(ConfigError, match=f"^{culprit}: "):
        certify(name, **arguments)


def test_the_guarantee_is_global_up_to_the_largest_semi_elasticity(name):
    largest = registry.member("certificates", name).MAX_SEMI_ELASTICITY
    assert largest >= 0
    assert guarantee(name, 0.0) == "global"
    assert guarantee(name, largest) == "global"
    assert guarantee(name, np.nextafter(largest, np.inf)) == "none"
    assert guarantee(name, None) == "none"
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ConfigError, match="semi_elasticity"):
            guarantee(name, wrong)


def test_a_misspelt_name_is_told_the_right_one(name):
    with pytest.raises(ConfigError, match=f"did you mean '{name}'"):
        certify(name + "x", *multinomial(0), alpha=0.001)
    with pytest.raises(ConfigError, match=f"did you mean '{name}'"):
        guarantee(name + "x", 0.0)
