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

from certsmooth.noise import gaussian
from certsmooth.registry import member, names

LAWS = {"gaussian": stats.norm()}
"""The law of each member at scale 1."""

SIZE = 2**18
WORDS = np.iinfo(np.int32)
EXTREMES = (0, -1, 1, WORDS.min, WORDS.max, WORDS.max // 2)


@pytest.fixture(params=names("noise"))
def name(request):
    assert request.param in LAWS, "give the law of this noise in LAWS"
    return request.param


def words_of(seed, rows, columns):
    raw = np.random.PCG64(seed).random_raw(rows * columns).astype(np.uint32)
    return torch.from_numpy(raw.view(np.int32).reshape(rows, columns).copy())


def from_words(name, words):
    out = torch.full(words.shape, math.nan)
    member("noise", name).from_words(words, out)
    return out


def from_generator(name, seed, size):
    out = torch.full((size,), math.nan)
    member("noise", name).from_generator(torch.Generator().manual_seed(seed), out)
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
    assert not torch.equal(from_generator(name, 5, 1000), from_generator(name, 6, 1000))


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
    gaussian.from_words(torch.from_numpy(words), noise)
    expected, bound = box_muller(words)
    assert (np.abs(noise.numpy() - expected) <= bound).all()


def test_gaussian_noise_of_random_and_extreme_words_is_box_mullers():
    words = np.concatenate([words_of(7, 1, 40_000).numpy(), np.resize(np.array(EXTREMES, np.int32), (1, 40_000))], 1)
    noise = torch.empty(words.shape)
    gaussian.from_words(torch.from_numpy(words), noise)
    expected, bound = box_muller(words)
    assert (np.abs(noise.numpy() - expected) <= bound).all()


def test_gaussian_tail_is_that_of_32_bits():
    words = torch.tensor([[0, 0], [-1, 0]], dtype=torch.int32)
    out = torch.empty(2, 2)
    gaussian.from_words(words, out)
    assert out[:, 0].tolist() == pytest.approx([math.sqrt(64 * math.log(2))] * 2, rel=1e-6)  # 6.66
    assert out[:, 1].tolist() == [0.0, 0.0]
