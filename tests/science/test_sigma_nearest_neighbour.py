"""Equation 1 of IDRS: the mean distance to the k nearest training images, exactly, however it is searched for."""

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

import certsmooth
from certsmooth.errors import ConfigError
from certsmooth.science import datasets
from certsmooth.science.sigma import _neighbours
from certsmooth.science.sigma.nearest_neighbour import OFFSET_IMAGES, NearestNeighbourSigma
from factories import REAL_IMAGES, LazyImages

MNIST = REAL_IMAGES / "mnist"


def as_float(images):
    """The images as a base classifier sees them, [n, d], float32."""
    images = torch.from_numpy(images)
    images = images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
    return images.flatten(1)


def naive(training, x, k):
    """Mean distance by sorting all distances, in float64."""
    distances = cdist(x.flatten(1).double().numpy(), as_float(training).double().numpy())
    return torch.from_numpy(np.sort(distances, axis=1)[:, :k].mean(axis=1))


def sigma(policy, x):
    return policy(torch.nn.Identity(), x, torch.full((len(x),), policy.sigma0, dtype=torch.float64), None)


def mean_distance(training, x, k):
    """The policy's mean distance, from its sigma."""
    policy = NearestNeighbourSigma(sigma=1.0, rate=1.0, neighbours=k, offset=0.0).fit(training)
    return sigma(policy, x).log()


def random_images(generator, n, shape=(1, 4, 4), kind=np.uint8):
    if kind == np.uint8:
        return generator.integers(0, 256, (n, *shape), dtype=np.uint8)
    return generator.random((n, *shape), dtype=np.float32)


def clusters(scale, n=200, d=64):
    """Two tight groups, far from each other and from their common centre: |x|^2 + |y|^2 - 2 x.y cancels."""
    generator = np.random.default_rng(3)
    corner = generator.integers(0, 2, (1, d))
    groups = np.where(np.arange(n)[:, None] % 2, corner, 1 - corner)
    return (groups + scale * generator.standard_normal((n, d))).astype(np.float32)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize(("n", "k"), [(300, 1), (300, 20), (300, 299), (300, 300), (1, 1), (45, 25)])
def test_equals_sorting_all_distances(kind, n, k):
    generator = np.random.default_rng(n + k)
    training = random_images(generator, n, kind=kind)
    x = torch.from_numpy(random_images(generator, 30, kind=np.float32))
    torch.testing.assert_close(mean_distance(training, x, k), naive(training, x, k), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 32, 32)])
def test_equals_sorting_all_distances_in_any_dimension(shape):
    generator = np.random.default_rng(0)
    training = random_images(generator, 2500, shape)
    x = torch.from_numpy(random_images(generator, 5, shape, np.float32)).mul(3).sub(1)  # also outside [0, 1]
    torch.testing.assert_close(mean_distance(training, x, 20), naive(training, x, 20), rtol=1e-12, atol=1e-14)


def test_duplicates_and_ties():
    """Half of the images are one image, 64 copies of it; the others have coordinates 0 and 255: many distances tie."""
    generator = np.random.default_rng(1)
    training = 255 * generator.integers(0, 2, (128, 1, 4, 4), dtype=np.uint8)
    training[::2] = training[0]
    x = torch.cat([as_float(training)[:8], torch.full((1, 16), 0.5)]).view(-1, 1, 4, 4)
    for k in (1, 5, 64, 65, 100):
        torch.testing.assert_close(mean_distance(training, x, k), naive(training, x, k), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_is_exact_where_matrix_products_of_float32_are_not(scale):
    training = clusters(scale)
    x = torch.from_numpy(clusters(scale, n=230)[200:])
    torch.testing.assert_close(mean_distance(training, x, 5), naive(training, x, 5), rtol=1e-12, atol=1e-15)


def test_is_exact_where_the_caller_allows_reduced_precision():
    training, before = clusters(0.01), torch.get_float32_matmul_precision()
    x = torch.from_numpy(clusters(0.01, n=230)[200:])
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = mean_distance(training, x, 5)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(found, naive(training, x, 5), rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_equals_sorting_all_distances_on_mnist():
    if not MNIST.is_dir():
        pytest.skip("shared/data, with real images, is not here")
    dataset = datasets.load("mnist", source=MNIST)
    training, test = dataset.train(), dataset.test()
    x = torch.cat([test.batch(np.arange(160)), training.batch(np.arange(40))])
    x[80:160] += 0.25 * torch.randn(80, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = mean_distance(training.images, x, 20)
    torch.testing.assert_close(found, naive(training.images, x, 20), rtol=1e-12, atol=0)
    assert found[:80].mean() == pytest.approx(5.5, abs=0.5)  # the scale of distances that the offset must have


def test_equation_1_by_hand():
    """Training images at 0, 3 and 7; x = 1: distances 1, 2, 6. At k = 2 and m = 1.5 sigma is sigma_b."""
    training = np.array([[0.0], [3.0], [7.0]], dtype=np.float32)
    policy = NearestNeighbourSigma(sigma=0.5, rate=0.1, neighbours=2, offset=1.5).fit(training)
    found = sigma(policy, torch.tensor([[1.0], [7.0], [-3.0]]))
    expected = [0.5, 0.5 * math.exp(0.1 * (2 - 1.5)), 0.5 * math.exp(0.1 * (4.5 - 1.5))]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)


def test_a_training_image_is_its_own_neighbour_at_distance_0():
    training = random_images(np.random.default_rng(2), 50, (3, 8, 8))
    found = mean_distance(training, as_float(training).view(-1, 3, 8, 8), 1)
    assert torch.equal(found, torch.zeros(50, dtype=torch.float64))


def test_rate_0_is_the_constant():
    training = random_images(np.random.default_rng(2), 50)
    found = sigma(NearestNeighbourSigma(sigma=0.25, rate=0).fit(training), torch.rand(9, 1, 4, 4))
    assert torch.equal(found, torch.full((9,), 0.25, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 60),
    k=st.integers(1, 60),
    rate=st.floats(0, 2),
    step=st.floats(1e-9, 3),
)
def test_log_sigma_is_lipschitz(seed, n, k, rate, step):
    """IDRS, Theorem 4.1, for steps of any length, also from training images and towards them."""
    generator = np.random.default_rng(seed)
    training = random_images(generator, n)
    policy = NearestNeighbourSigma(sigma=0.5, rate=rate, neighbours=min(k, n), offset=1.0).fit(training)
    assert policy.semi_elasticity == rate
    x = torch.from_numpy(generator.random((10, 1, 4, 4)))
    x[:3] = as_float(training)[generator.integers(0, n, 3)].view(-1, 1, 4, 4).double()
    towards = as_float(training)[generator.integers(0, n, 10)].view(-1, 1, 4, 4).double() - x
    towards[5:] = torch.from_numpy(generator.standard_normal((5, 1, 4, 4)))
    moved = x + step * torch.nn.functional.normalize(towards.flatten(1)).view_as(x)
    change = (sigma(policy, moved).log() - sigma(policy, x).log()).abs()
    assert (change <= rate * (moved - x).flatten(1).norm(dim=1) + 1e-12).all()


@pytest.fixture
def searched():
    """Training images, queries, some of which the bound cannot decide, and their sigmas."""
    training = np.concatenate([clusters(1e-3, n=130), clusters(0.3, n=270)])
    x = torch.cat([torch.from_numpy(training[::40]), torch.rand(20, 64, generator=torch.Generator().manual_seed(0))])
    policy = NearestNeighbourSigma(sigma=0.25, rate=0.7, neighbours=7, offset=2.0).fit(training)
    return training, x, policy, sigma(policy, x)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ROWS", 17), ("ROWS", 30), ("TILE", 1), ("DIRECT_TILE", 1), ("DIRECT_TILE", 2**16), ("EXTRA", 0), ("EXTRA", 60)],
)
def test_blocks_change_nothing(searched, monkeypatch, name, value):
    training, x, policy, expected = searched
    monkeypatch.setattr(_neighbours, name, value)
    fitted = NearestNeighbourSigma(sigma=0.25, rate=0.7, neighbours=7, offset=2.0).fit(training)
    assert torch.equal(sigma(fitted, x), expected)
    assert torch.equal(sigma(policy, x), expected)


def test_the_batch_the_order_and_threads_change_nothing(searched):
    training, x, policy, expected = searched
    assert torch.equal(torch.cat([sigma(policy, one) for one in x.split(1)]), expected)
    assert torch.equal(sigma(policy, x.flip(0)).flip(0), expected)
    fitted = NearestNeighbourSigma(sigma=0.25, rate=0.7, neighbours=7, offset=2.0).fit(training[::-1])
    assert torch.equal(sigma(fitted, x), expected)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(sigma(policy, x), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("training", [clusters(1e-3), clusters(1e-2), clusters(0.3), clusters(0.3, d=2000)])
def test_no_other_point_is_nearer_than_the_bound(training):
    """And the bound is that of the farthest candidate, but for d roundings of the squared norms."""
    points = torch.from_numpy(training)
    x = points[:100].double()
    candidates, reach = _neighbours.Neighbours(points)._candidates(x, 10)
    distances = torch.from_numpy(cdist(x.numpy(), points.double().numpy()))
    nearest_other = distances.scatter(1, candidates, math.inf).amin(1)
    assert (reach <= nearest_other).all()
    roundings = 2.0**-24 * (training.shape[1] + 10) * points.double().square().sum(1).max()
    assert (reach.square() >= distances.gather(1, candidates).amax(1).square() - 4 * roundings).all()


def test_images_of_double_precision_are_not_rounded():
    training = np.zeros((1, 2), dtype=np.float32)
    policy = NearestNeighbourSigma(sigma=1.0, rate=1.0, neighbours=1, offset=0.0).fit(training)
    x = torch.tensor([[1 + 1e-12, 0.0]], dtype=torch.float64)
    assert sigma(policy, x).log().item() == pytest.approx(1 + 1e-12, rel=1e-15)


def test_files_are_read_in_blocks():
    generator = np.random.default_rng(0)
    files = LazyImages(random_images(generator, 5000), writable=False)
    x = torch.from_numpy(random_images(generator, 5, kind=np.float32))
    policy = NearestNeighbourSigma(sigma=0.5, rate=0.1)
    assert torch.equal(sigma(policy.fit(files), x), sigma(policy.fit(files.images), x))
    assert max(files.reads) <= 2048


def test_byte_images_stay_bytes():
    points, shape = _neighbours.read_points(random_images(np.random.default_rng(0), 10, (3, 5, 5)))
    assert points.dtype == torch.uint8
    assert points.shape == (10, 75)
    assert shape == (3, 5, 5)


def test_the_policy_does_not_follow_changes_of_the_array():
    training = random_images(np.random.default_rng(0), 30, kind=np.float32)
    x = torch.rand(4, 1, 4, 4)
    policy = NearestNeighbourSigma(sigma=0.5, rate=0.1, offset=1.0).fit(training)
    before = sigma(policy, x)
    training[:] = 0
    assert torch.equal(sigma(policy, x), before)


class TestOffset:
    def test_is_the_average_distance_to_the_nearest_others(self):
        digits = (load_digits().images * 15).astype(np.uint8)  # fewer than OFFSET_IMAGES: all of them
        distances = cdist(*[as_float(digits).double().numpy()] * 2)
        np.fill_diagonal(distances, np.inf)
        expected = np.sort(distances, axis=1)[:, :20].mean()
        assert NearestNeighbourSigma(sigma=0.5, rate=0.01).fit(digits).m == pytest.approx(expected, rel=1e-12)

    def test_is_estimated_on_images_at_equal_intervals(self):
        training = random_images(np.random.default_rng(0), 2 * OFFSET_IMAGES, (2,))
        distances = cdist(as_float(training[::2]).double().numpy(), as_float(training).double().numpy())
        expected = np.sort(distances, axis=1)[:, 1:4].mean()
        assert NearestNeighbourSigma(sigma=0.5, rate=0.01, neighbours=3).fit(training).m == pytest.approx(
            expected, rel=1e-12
        )

    def test_makes_sigma_b_the_average(self):
        """Of images that are not in the training set, to second order in the rate."""
        digits = load_digits().images.astype(np.float32) / 16
        policy = NearestNeighbourSigma(sigma=0.5, rate=0.1).fit(digits[::2])
        average = sigma(policy, torch.from_numpy(digits[1::2])).mean().item()
        assert average == pytest.approx(0.5, rel=0.01)
        assert sigma(policy, torch.from_numpy(digits[1::2])).std() > 0.005

    def test_may_be_given(self):
        training = random_images(np.random.default_rng(0), 30)
        given = NearestNeighbourSigma(sigma=0.5, rate=0.1, offset=1.5)
        assert given.m == given.fit(training).m == 1.5

    def test_is_found_anew_by_another_fit(self):
        training = random_images(np.random.default_rng(0), 30)
        policy = NearestNeighbourSigma(sigma=0.5, rate=0.1).fit(training)
        halved = policy.fit(as_float(training).numpy() / 2)
        assert halved.m == pytest.approx(policy.m / 2, rel=1e-6)

    def test_is_unknown_before_the_fit(self):
        with pytest.raises(ConfigError, match="fit"):
            _ = NearestNeighbourSigma(sigma=0.5, rate=0.1).m


def test_survives_pickling(searched):
    _, x, policy, expected = searched
    assert torch.equal(sigma(pickle.loads(pickle.dumps(policy)), x), expected)  # noqa: S301


def test_is_public():
    assert certsmooth.NearestNeighbourSigma is NearestNeighbourSigma


class TestBadInput:
    policy = NearestNeighbourSigma(sigma=0.5, rate=0.1, neighbours=3, offset=1.0)
    training = np.random.default_rng(0).random((5, 1, 2, 2), dtype=np.float32)

    def test_too_few_training_images(self):
        for n in (0, 2):
            with pytest.raises(ConfigError, match=rf"neighbours: 3; {n} training images, must be >= 3"):
                self.policy.fit(self.training[:n])
        self.policy.fit(self.training[:3])
        with pytest.raises(ConfigError, match=r"neighbours: 3 others .* must be >= 4"):
            NearestNeighbourSigma(sigma=0.5, rate=0.1, neighbours=3).fit(self.training[:3])

    def test_training_images_of_another_type(self):
        with pytest.raises(ConfigError, match="float64; must be uint8 or float32"):
            self.policy.fit(self.training.astype(np.float64))

    @pytest.mark.parametrize("value", [math.nan, math.inf, 1e20])
    def test_pixels_that_cannot_be_compared(self, value):
        images = self.training.copy()
        images[4, 0, 1, 1] = value
        with pytest.raises(ConfigError, match="not finite, or too large"):
            self.policy.fit(images)
        with pytest.raises(ConfigError, match="not finite, or too large"):
            sigma(self.policy.fit(self.training), torch.from_numpy(images))

    def test_images_of_another_shape(self):
        fitted = self.policy.fit(self.training)
        for shape in ((2, 4), (2, 1, 2, 3), (1, 2, 2)):
            with pytest.raises(ConfigError, match=r"must be \[b, 1, 2, 2\]"):
                sigma(fitted, torch.rand(shape))

    def test_bytes_instead_of_pixels(self):
        with pytest.raises(ConfigError, match=r"torch\.uint8; must be floating point"):
            sigma(self.policy.fit(self.training), torch.zeros(2, 1, 2, 2, dtype=torch.uint8))

    def test_sigma_out_of_range(self):
        steep = NearestNeighbourSigma(sigma=0.5, rate=1e4, neighbours=1, offset=0.0).fit(self.training)
        with pytest.raises(ConfigError, match=r"rate: 10000.0; must be smaller"):
            sigma(steep, torch.ones(1, 1, 2, 2))

    def test_more_pixels_than_the_bound_covers(self):
        with pytest.raises(ConfigError, match=f"must be at most {2**22}"):
            NearestNeighbourSigma(sigma=0.5, rate=0.1, neighbours=1, offset=0.0).fit(
                np.zeros((1, 2**22 + 1), dtype=np.uint8)
            )
