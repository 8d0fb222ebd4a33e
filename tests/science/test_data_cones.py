"""The toy problem: each class is where it should be, with the distribution that is documented."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from certsmooth.errors import ConfigError
from certsmooth.science import datasets
from certsmooth.science.datasets.cones import CONE, REST, cone_directions, rest_directions


def _angles(points: np.ndarray) -> np.ndarray:
    return np.arctan2(np.linalg.norm(points[:, 1:], axis=1), points[:, 0])


@settings(max_examples=40, deadline=None)
@given(
    dimension=st.one_of(st.integers(2, 6), st.sampled_from([18, 60, 180, 400])),
    half_angle=st.floats(1e-3, 1.57),
    seed=st.integers(0, 2**63 - 1),
)
def test_classes_lie_on_their_sides_of_the_cone(dimension: int, half_angle: float, seed: int) -> None:
    options = {"dimension": dimension, "half_angle": half_angle, "seed": seed, "train_per_class": 50}
    split = datasets.load("cones", options=options).train()
    angles = _angles(split.images.astype(np.float64))
    tolerance = 1e-5  # points are rounded to float32
    assert (angles[split.labels == CONE] <= half_angle + tolerance).all()
    assert (angles[split.labels == REST] >= half_angle - tolerance).all()
    assert (split.labels == CONE).sum() == (split.labels == REST).sum() == 50


@pytest.mark.parametrize("dimension", [2, 3, 4, 18, 60])
@pytest.mark.parametrize("half_angle", [0.05, math.pi / 12, 1.3])
def test_directions_in_the_cone_are_uniform(dimension: int, half_angle: float) -> None:
    # For a uniform unit vector of a half-sphere, sin(angle)**2 has a beta((d-1)/2, 1/2) distribution.
    directions = cone_directions(4000, dimension, half_angle, rng=np.random.default_rng(3))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-12)
    beta = stats.beta((dimension - 1) / 2, 0.5)
    whole = beta.cdf(math.sin(half_angle) ** 2)

    def cdf(angle: np.ndarray) -> np.ndarray:
        return beta.cdf(np.sin(np.minimum(angle, half_angle)) ** 2) / whole

    assert stats.kstest(_angles(directions), cdf).pvalue > 1e-3
    around = directions[:, 1:] / np.linalg.norm(directions[:, 1:], axis=1, keepdims=True)
    assert np.abs(around.mean(axis=0)).max() < 5 / math.sqrt(4000)


def test_in_two_dimensions_both_angles_are_uniform_in_their_sectors() -> None:
    half_angle = math.pi / 12
    rng = np.random.default_rng(5)
    inside = cone_directions(4000, 2, half_angle, rng=rng)
    signed = np.arctan2(inside[:, 1], inside[:, 0])
    assert stats.kstest(signed, stats.uniform(-half_angle, 2 * half_angle).cdf).pvalue > 1e-3
    outside = rest_directions(4000, 2, half_angle, rng=rng)
    turned = np.arctan2(outside[:, 1], outside[:, 0]) % (2 * math.pi)
    sector = stats.uniform(half_angle, 2 * (math.pi - half_angle))
    assert stats.kstest(turned, sector.cdf).pvalue > 1e-3


def test_no_underflow_where_the_cone_has_no_measurable_part_of_the_sphere() -> None:
    directions = cone_directions(1000, 400, 0.01, rng=np.random.default_rng(0))
    angles = _angles(directions)
    assert (angles <= 0.01).all()
    # density ~ angle**398: the mean is about 399/400 of the half-angle
    assert angles.mean() == pytest.approx(0.01 * 399 / 400, rel=1e-3)


@pytest.mark.parametrize(("dimension", "scale"), [(2, 1.0), (60, 7.0)])
def test_distances_are_half_normal(dimension: int, scale: float) -> None:
    options = {"dimension": dimension, "scale": scale, "train_per_class": 3000}
    split = datasets.load("cones", options=options).train()
    distances = np.linalg.norm(split.images.astype(np.float64), axis=1)
    expected = stats.halfnorm(scale=scale * math.sqrt(dimension))
    for label in (CONE, REST):
        assert stats.kstest(distances[split.labels == label], expected.cdf).pvalue > 1e-3
    assert np.sqrt((distances**2).mean()) == pytest.approx(scale * math.sqrt(dimension), rel=0.05)


def test_sizes_of_the_paper_and_stream_of_each_split() -> None:
    dataset = datasets.load("cones")
    assert (len(dataset.train()), len(dataset.test())) == (1000, 200)
    longer = datasets.load("cones", options={"test_per_class": 300})
    assert longer.train().fingerprint == dataset.train().fingerprint
    assert datasets.load("cones", options={"seed": 1}).test().fingerprint != dataset.test().fingerprint


def test_classes_are_mixed() -> None:
    labels = datasets.load("cones").train().labels
    assert 350 < labels[:800].sum() < 450


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dimension", 1),
        ("half_angle", 0.0),
        ("half_angle", math.pi / 2),
        ("half_angle", math.nan),
        ("scale", 0.0),
        ("scale", math.inf),
        ("train_per_class", 0),
        ("test_per_class", 0),
        ("seed", -1),
    ],
)
def test_refuses_an_option_out_of_range(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^cones: {key}: {value!r}; must be"):
        datasets.load("cones", options={key: value})


def test_refuses_a_source(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match=r"cones: source = .*must be empty"):
        datasets.load("cones", source=tmp_path)
