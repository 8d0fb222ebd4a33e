"""What every smoothing noise keeps: its exact law at scale 1, from uniform words and from a generator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from certsmooth._internal.registry import member, names
from certsmooth.science.noise import gaussian, uniform
from factories import LAWS

SIZE = 2**18
WORDS = np.iinfo(np.int32)
EXTREMES = (0, -1, 1, WORDS.min, WORDS.max, WORDS.max // 2)


@pytest.fixture(params=names("noise"))
def name(request):
    assert request.param in LAWS, "give the law of this noise in tests/factories/noise.py"
    return request.param


def words_of(seed, rows, columns):
    raw = np.random.PCG64(seed).random_raw(rows * columns).astype(np.uint32)
    return torch.from_numpy(raw.view(np.int32).reshape(rows, columns).copy())


def from_words(name, words):
    out = torch.full(words.shape, math.nan)
    member("noise", name)().from_words(words, out)
    return out


def from_generator(name, seed, *shape, dtype=torch.float32):
    out = torch.full(shape, math.nan, dtype=dtype)
    member("noise", name)().from_generator(torch.Generator().manual_seed(seed), out)
    return out


def check_law(sample, law):
    """Five standard errors for the moments; the level of the Kolmogorov-Smirnov test is 1e-3."""
    sample = sample.double().numpy().ravel()
    for order in (1, 2, 3, 4):
        error = math.sqrt((law.moment(2 * order) - law.moment(order) ** 2) / len(sample))
        assert abs((sample**order).mean() - law.moment(order)) < 5 * error
    assert stats.kstest(sample, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_noise_of_uniform_words_has_the_law(name, seed):
    check_law(from_words(name, words_of(seed, 64, SIZE // 64)), LAWS[name])


@pytest.mark.parametrize("seed", range(3))
def test_noise_of_a_generator_has_the_law(name, seed):
    check_law(from_generator(name, seed, SIZE), LAWS[name])


def test_no_correlation_within_a_block(name):
    noise = from_words(name, words_of(3, 4, SIZE // 4)).double()
    half = noise.shape[1] // 2
    bound = 5 / math.sqrt(noise.numel() / 2)
    for power in (1, 2):  # numbers made of one radius may be uncorrelated where their squares are not
        first, second = noise[:, :half] ** power, noise[:, half:] ** power
        assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < bound
        neighbours = noise[:, :-1] ** power, noise[:, 1:] ** power
        assert abs(np.corrcoef(*(n.flatten() for n in neighbours))[0, 1]) < bound


def test_every_word_gives_finite_noise(name):
    pairs = torch.tensor([(a, b) for a in EXTREMES for b in EXTREMES], dtype=torch.int32)
    assert from_words(name, pairs).isfinite().all()


def test_is_a_function_of_the_words_and_leaves_them_alone(name):
    words = words_of(4, 3, 200)
    before = words.clone()
    together = from_words(name, words)
    assert torch.equal(together, from_words(name, words))
    assert torch.equal(words, before)
    for row in range(3):
        assert torch.equal(together[row : row + 1], from_words(name, words[row : row + 1]))


def test_is_a_function_of_the_generator(name):
    assert torch.equal(from_generator(name, 5, 1000), from_generator(name, 5, 1000))
    assert torch.equal(from_generator(name, 5, 10, 4, 25).flatten(), from_generator(name, 5, 1000))
    assert not torch.equal(from_generator(name, 5, 1000), from_generator(name, 6, 1000))


def test_a_generator_gives_float64_as_well(name):
    check_law(from_generator(name, 9, SIZE, dtype=torch.float64), LAWS[name])


def box_muller(words):
    """Box and Muller's transform in float64, and how far float32 may be from it."""
    first, second = np.split(words.astype(np.float64), 2, axis=1)
    square = -2 * np.log(np.abs(first + 0.5) * 2.0**-31)
    radius, angle = np.sqrt(square), second * (np.pi * 2.0**-31)
    noise = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    # The uniform number and its logarithm err by 2^-24 of their values; the angle by as much, up to pi.
    error = 4 * 2.0**-24 * (1 + square)
    bound = np.minimum(np.sqrt(error), error / np.maximum(radius, 1e-30)) + 8 * 2.0**-24 * radius
    return noise, np.tile(bound, 2)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 3), st.sampled_from([2, 4, 10, 34]))))
def test_gaussian_noise_is_box_mullers(words):
    noise = torch.empty(words.shape)
    gaussian.Gaussian().from_words(torch.from_numpy(words), noise)
    expected, bound = box_muller(words)
    assert (np.abs(noise.numpy() - expected) <= bound).all()


def test_gaussian_noise_of_random_and_extreme_words_is_box_mullers():
    words = np.concatenate([words_of(7, 1, 40_000).numpy(), np.resize(np.array(EXTREMES, np.int32), (1, 40_000))], 1)
    noise = torch.empty(words.shape)
    gaussian.Gaussian().from_words(torch.from_numpy(words), noise)
    expected, bound = box_muller(words)
    assert (np.abs(noise.numpy() - expected) <= bound).all()


def test_gaussian_tail_is_that_of_32_bits():
    words = torch.tensor([[0, 0], [-1, 0]], dtype=torch.int32)
    out = torch.empty(2, 2)
    gaussian.Gaussian().from_words(words, out)
    assert out[:, 0].tolist() == pytest.approx([math.sqrt(64 * math.log(2))] * 2, rel=1e-6)  # 6.66
    assert out[:, 1].tolist() == [0.0, 0.0]


def uniform_of(words):
    out = torch.empty(words.shape)
    uniform.Uniform().from_words(torch.from_numpy(words), out)
    return out.numpy()


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 3), st.integers(1, 40))))
def test_uniform_noise_is_the_nearest_float32_of_a_middle_of_equal_cells(words):
    middles = (words.astype(np.float64) // 2 * 2 + 1) / 2.0**31
    np.testing.assert_array_equal(uniform_of(words), middles.astype(np.float32))


def test_the_cells_of_uniform_noise_fill_the_interval():
    # Two words each, of width 2^-30, from -1 to 1.
    words = np.array([[WORDS.min, WORDS.min + 1, WORDS.min + 2, -2, -1, 0, 1, WORDS.max - 1, WORDS.max]], np.int32)
    cell = (words.astype(np.float64) // 2 + 2.0**30) * 2.0**-30 - 1
    assert (cell[0, 0], cell[0, -1] + 2.0**-30) == (-1, 1)
    error = np.abs(uniform_of(words) - (cell + 2.0**-31))
    assert (error <= 2.0**-25).all()


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.int32, (2, 33)))
def test_uniform_noise_is_exactly_symmetric(words):
    np.testing.assert_array_equal(uniform_of(~words), -uniform_of(words))  # ~ is a bijection of the words


def test_uniform_noise_reaches_both_ends_and_nothing_beyond():
    words = np.array([EXTREMES], np.int32)
    assert uniform_of(words)[0].tolist() == [2.0**-31, -(2.0**-31), 2.0**-31, -1, 1, 0.5]
    last = np.arange(WORDS.max - 200, WORDS.max, dtype=np.int32)[None]
    assert (uniform_of(last) == 1).sum() == 63  # of the 64 words, with WORDS.max: 2^-26 of all, as rounding has it


def test_uniform_noise_of_a_generator_is_that_of_words():
    noise = from_generator("uniform", 3, SIZE, dtype=torch.float64).numpy()
    odd = noise * 2.0**31
    assert (np.abs(odd) < 2.0**31).all()
    assert (odd % 2 == 1).all()
