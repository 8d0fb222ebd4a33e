"""Sigma by the distance to border images, against sorting all distances, closed forms, and points at its thresholds."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from certsmooth.errors import ConfigError
from certsmooth.science.sigma import border_distance
from certsmooth.science.sigma.border_distance import BorderDistanceSigma

INFINITE = {"rate": math.inf, "lower": 0.6, "upper": 1.2}


def sigma(policy, x):
    return policy(torch.nn.Identity(), x, torch.full((len(x),), policy.sigma0, dtype=torch.float64), None)


def naive_margins(x, labels, k):
    """Half of the mean distance to the k nearest of other classes, less that to the k nearest others of its own."""
    distances = cdist(x, x)
    np.fill_diagonal(distances, np.inf)
    same = labels[:, None] == labels
    own, other = (np.sort(np.where(kept, distances, np.inf), axis=1)[:, :k].mean(1) for kept in (same, ~same))
    return (other - own) / 2


def naive_border(x, labels, k, share):
    order = np.argsort(naive_margins(x, labels, k), kind="stable")
    return np.sort(order[: max(2, math.ceil(share * len(x)))])


def naive_distances(x, border):
    """Distance of each training image to the nearest border image other than itself."""
    distances = cdist(x, x[border])
    distances[border, np.arange(len(border))] = np.inf
    return distances.min(axis=1)


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    return (bunch.images[:500] * 15).astype(np.uint8), bunch.target[:500]


@pytest.fixture(scope="module")
def flat(digits):
    """The images as a base classifier sees them."""
    return (digits[0].reshape(500, -1).astype(np.float32) / np.float32(255)).astype(np.float64)


def as_images(x):
    return torch.from_numpy(np.asarray(x, dtype=np.float64)).view(-1, 8, 8)


@pytest.mark.parametrize(("k", "share"), [(1, 0.1), (5, 0.1), (5, 0.3), (20, 1.0), (3, 1e-6)])
def test_is_the_distance_to_the_nearest_image_of_smallest_margin(digits, flat, k, share):
    policy = BorderDistanceSigma(sigma=0.5, rate=0.3, neighbours=k, share=share, offset=1.0).fit(*digits)
    x = np.random.default_rng(0).random((20, 64))
    nearest = cdist(x, flat[naive_border(flat, digits[1], k, share)]).min(axis=1)
    expected = 0.5 * np.exp(0.3 * (nearest - 1))
    torch.testing.assert_close(sigma(policy, as_images(x)), torch.from_numpy(expected), rtol=1e-12, atol=0)


def test_by_hand():
    """Class 0 at 0, 1, 5 and class 1 at 6, 9, 10: with k = 1 margins are 2.5, 2, -1.5, -1, 1.5, 1.5; border 5 and 6."""
    training = np.array([[0.0], [1.0], [5.0], [6.0], [9.0], [10.0]], dtype=np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1])
    policy = BorderDistanceSigma(sigma=0.5, rate=0.1, neighbours=1, share=0.3, offset=2.0, lower=0.9, upper=1.5).fit(
        training, labels
    )
    found = sigma(policy, torch.tensor([[5.5], [5.0], [3.0], [4.0], [9.0], [100.0]]))
    expected = [0.5 * math.exp(-0.15 / 1), 0.5 * math.exp(-0.2), 0.5, 0.5 * math.exp(-0.1), 0.5 * math.exp(0.1), 0.75]
    expected = [max(value, 0.45) for value in expected]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    within = policy.constant_within(torch.tensor([[5.5], [3.0], [100.0]]))
    # Thresholds: 2 + 10 log 0.9 = 0.946 and 2 + 10 log 1.5 = 6.05.
    exact = torch.tensor([2 + 10 * math.log(0.9) - 0.5, 0.0, 94 - 2 - 10 * math.log(1.5)], dtype=torch.float64)
    torch.testing.assert_close(within, exact, rtol=1e-8, atol=0)
    assert (within <= exact).all()


def test_only_some_images_are_looked_at_where_there_are_many(digits, flat, monkeypatch):
    monkeypatch.setattr(border_distance, "CANDIDATES", 250)
    policy = BorderDistanceSigma(sigma=0.5, rate=0.3, share=0.2, offset=0.0).fit(*digits)
    margins = naive_margins(flat, digits[1], 5)[::2]  # against all
    border = flat[::2][np.argsort(margins, kind="stable")[:50]]
    x = np.random.default_rng(0).random((20, 64))
    expected = torch.from_numpy(0.3 * cdist(x, border).min(axis=1))
    torch.testing.assert_close((sigma(policy, as_images(x)) / 0.5).log(), expected, rtol=1e-12, atol=0)


def test_a_border_image_is_at_distance_0_from_itself(digits, flat):
    """Training images are images like others: sigma is one function, continuous at them as well."""
    policy = BorderDistanceSigma(sigma=0.5, rate=0.3, offset=1.0).fit(*digits)
    border = flat[naive_border(flat, digits[1], 5, 0.1)]
    expected = torch.full((len(border),), 0.5 * math.exp(-0.3), dtype=torch.float64)
    torch.testing.assert_close(sigma(policy, as_images(border)), expected, rtol=1e-12, atol=0)
    near = 0.3 * np.linalg.norm(np.full(64, 1e-3))
    torch.testing.assert_close(sigma(policy, as_images(border + 1e-3)), expected * math.exp(near), rtol=1e-12, atol=0)


class TestOffset:
    @pytest.mark.parametrize(
        "options",
        [
            {"rate": 0.3},
            {"rate": 40.0},
            {"rate": 0.3, "lower": 0.9, "upper": 1.02},
            {"rate": 3.0, "upper": 1.001},
            {"rate": 3.0, "lower": 0.999, "factor": 1.3},
        ],
    )
    def test_makes_sigma_b_the_average_of_the_training_images(self, digits, flat, options):
        policy = BorderDistanceSigma(sigma=0.5, **options).fit(*digits)
        distances = naive_distances(flat, naive_border(flat, digits[1], 5, 0.1))
        found = np.exp(policy.rate * (distances - policy.m)).clip(options.get("lower", 0), options.get("upper", np.inf))
        assert policy.sigma0 == 0.5 * options.get("factor", 1)
        assert found.mean() == pytest.approx(1, rel=1e-9)
        assert found.std() > 1e-3

    @pytest.mark.parametrize("upper", [1.01, 1.2, 3.0])
    def test_with_an_infinite_rate_but_for_a_step(self, digits, flat, upper):
        policy = BorderDistanceSigma(**(INFINITE | {"sigma": 0.5, "upper": upper})).fit(*digits)
        distances = naive_distances(flat, naive_border(flat, digits[1], 5, 0.1))
        found = np.where(distances < policy.m, 0.6, upper)
        assert found.mean() == pytest.approx(1, abs=(upper - 0.6) / 500 * 1.01)

    def test_makes_sigma_b_the_average_of_other_images(self, digits):
        images, labels = digits
        policy = BorderDistanceSigma(sigma=0.5, rate=0.3).fit(images[::2], labels[::2])
        found = sigma(policy, torch.from_numpy(images[1::2].astype(np.float32) / 255))
        assert found.mean().item() == pytest.approx(0.5, rel=0.05)
        assert found.std() > 0.02

    def test_where_all_distances_are_equal(self):
        training = np.eye(8, dtype=np.float32)
        policy = BorderDistanceSigma(sigma=0.5, rate=2.0, neighbours=1).fit(training, np.arange(8) % 2)
        assert policy.m == pytest.approx(math.sqrt(2), rel=1e-9)

    def test_may_be_given(self, digits):
        given = BorderDistanceSigma(sigma=0.5, rate=0.1, offset=1.5)
        assert given.m == given.fit(*digits).m == 1.5

    def test_is_unknown_before_the_fit(self):
        with pytest.raises(ConfigError, match="fit"):
            _ = BorderDistanceSigma(sigma=0.5, rate=0.1).m


class TestInfiniteRate:
    def test_takes_two_values(self, digits):
        policy = BorderDistanceSigma(sigma=0.5, factor=1.5, **INFINITE).fit(*digits)
        x = torch.from_numpy(digits[0].astype(np.float32) / 255)
        assert set(sigma(policy, x).tolist()) == {1.5 * 0.5 * 0.6, 1.5 * 0.5 * 1.2}
        assert policy.semi_elasticity == math.inf

    def test_is_constant_up_to_the_threshold_and_no_farther(self):
        """In the plane, border images at 0 and 1 on an axis; other images on it, toward the far one."""
        training = np.array([[0, 0], [1, 0], [9, 0], [10, 0], [20, 0], [30, 0]], dtype=np.float32)
        labels = np.array([0, 1, 0, 0, 1, 1])
        policy = BorderDistanceSigma(sigma=1.0, neighbours=1, share=0.3, offset=3.0, **INFINITE).fit(training, labels)
        inside, outside = torch.tensor([[-1.0, 0]]).double(), torch.tensor([[-7.0, 0]]).double()
        for x, c in ((inside, 2.0), (outside, 4.0)):
            (found,) = policy.constant_within(x).tolist()
            assert c * (1 - 1e-9) <= found < c
            toward = torch.tensor([[-1.0 if x is inside else 1.0, 0]]).double()
            assert sigma(policy, x + found * toward) == sigma(policy, x)
            assert sigma(policy, x + (c + 1e-9) * toward) != sigma(policy, x)

    def test_at_the_threshold_itself(self):
        training, labels = np.array([[0], [1], [10], [11]], dtype=np.float32), np.array([0, 1, 0, 1])
        policy = BorderDistanceSigma(sigma=1.0, neighbours=1, share=0.5, offset=3.0, **INFINITE).fit(training, labels)
        x = torch.tensor([[-3.0]])
        assert sigma(policy, x).item() == 1.2
        assert policy.constant_within(x).item() == 0.0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(1e-3, 1e3),
    rate=st.one_of(st.floats(1e-2, 10), st.just(math.inf)),
    lower=st.floats(0.5, 0.99),
    upper=st.floats(1.01, 2),
)
def test_is_the_same_number_where_it_says_so(seed, scale, rate, lower, upper):
    """At the end of c, along the line to or from the nearest border image: where f changes the fastest."""
    generator = np.random.default_rng(seed)
    training = (scale * generator.random((30, 6))).astype(np.float32)
    labels = np.arange(30) % 3
    options = {"rate": rate / scale, "lower": lower, "upper": upper, "neighbours": 2, "share": 0.2}
    policy = BorderDistanceSigma(sigma=0.5, **options).fit(training, labels)
    border = naive_border(training.astype(np.float64), labels, 2, 0.2)
    x = scale * generator.random((20, 6)) * generator.choice([0.1, 1, 10])
    nearest = training[border][cdist(x, training[border]).argmin(axis=1)]
    direction = (nearest - x) / np.linalg.norm(nearest - x, axis=1, keepdims=True)
    constant = policy.constant_within(torch.from_numpy(x)).numpy()[:, None]
    before = sigma(policy, torch.from_numpy(x))
    for sign in (1, -1):
        moved = x + sign * (1 - 1e-15) * constant * direction
        assert torch.equal(sigma(policy, torch.from_numpy(moved)), before)


def test_the_batch_and_the_order_of_training_images_change_nothing(digits):
    images, labels = digits
    x = torch.rand(30, 8, 8, generator=torch.Generator().manual_seed(0))
    policy = BorderDistanceSigma(sigma=0.5, rate=0.3).fit(images, labels)
    expected = sigma(policy, x)
    assert torch.equal(torch.cat([sigma(policy, one) for one in x.split(1)]), expected)
    backwards = BorderDistanceSigma(sigma=0.5, rate=0.3, offset=policy.m).fit(images[::-1], labels[::-1])
    assert torch.equal(sigma(backwards, x), expected)
    assert torch.equal(sigma(pickle.loads(pickle.dumps(policy)), x), expected)  # noqa: S301


class TestBadInput:
    training = np.random.default_rng(0).random((12, 2, 2), dtype=np.float32)
    labels = np.arange(12) % 3
    policy = BorderDistanceSigma(sigma=0.5, rate=0.1, neighbours=3)

    def test_no_labels(self):
        with pytest.raises(ConfigError, match="labels: None; must be the classes"):
            self.policy.fit(self.training)

    def test_labels_of_other_images(self):
        with pytest.raises(ConfigError, match=r"labels: shape \(11,\); must be one for each image, \(12,\)"):
            self.policy.fit(self.training, self.labels[1:])

    def test_one_class(self):
        with pytest.raises(ConfigError, match="labels: 1 classes; must be 2 or more"):
            self.policy.fit(self.training, 0 * self.labels)

    def test_too_few_images_of_a_class(self):
        self.policy.fit(self.training, self.labels)
        with pytest.raises(ConfigError, match=r"neighbours: 3 others .* class 2 has 3 training images, must be more"):
            self.policy.fit(self.training[:-1], self.labels[:-1])

    def test_images_of_another_shape_or_type(self):
        fitted = self.policy.fit(self.training, self.labels)
        for use in (fitted.constant_within, lambda x: sigma(fitted, x)):
            with pytest.raises(ConfigError, match=r"shape \[2, 2, 3\]; must be \[b, 2, 2\]"):
                use(torch.zeros(2, 2, 3))
            with pytest.raises(ConfigError, match=r"torch\.uint8; must be floating point"):
                use(torch.zeros(2, 2, 2, dtype=torch.uint8))

    def test_an_infinite_rate_without_bounds(self):
        for bounds in ({}, {"lower": 0.5}, {"upper": 1.5}):
            with pytest.raises(ConfigError, match=r"rate: inf.*must be finite, or both given"):
                BorderDistanceSigma(sigma=0.5, rate=math.inf, **bounds)

    def test_sigma_out_of_range(self):
        steep = BorderDistanceSigma(sigma=0.5, rate=1e4, neighbours=1, offset=0.0).fit(self.training, self.labels)
        with pytest.raises(ConfigError, match=r"rate: 10000.0; must be smaller"):
            sigma(steep, 9 * torch.ones(1, 2, 2))
