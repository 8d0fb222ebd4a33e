"""Noise on the grid of the pixels: its exact law, in both ways of drawing it, and what the base classifier sees."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from certsmooth._internal.registry import member
from certsmooth.errors import ConfigError
from certsmooth.science.noise import FloatNoise, GridNoise, NoiseStreams
from certsmooth.science.noise._noisy import Law, standard, words_of
from certsmooth.science.sampling.sampler import BLOCK, SamplingPlan
from certsmooth.science.theory.pixel_grid import LARGEST, PixelGrid, grid_of

NAMES = ("gaussian", "uniform")
SOURCE = ("estimation", 0)
EXACT = {
    "gaussian": mpmath.ncdf,
    "uniform": lambda t: min(max((1 + t) / 2, mpmath.mpf(0)), mpmath.mpf(1)),
}
"""The lower tail of standard noise."""


def exact_tails(name, bounds):
    """Return P(z <= bound) to 50 digits."""
    with mpmath.workdps(50):
        return [EXACT[name](mpmath.mpf(bound)) for bound in bounds]


def exact_law(name, rest, scale, numbers):
    """Return P(round(rest + scale z) = j) for each j of ``numbers``, float64."""
    with mpmath.workdps(50):
        bounds = [(mpmath.mpf(int(j)) - mpmath.mpf(1) / 2 - mpmath.mpf(rest)) / mpmath.mpf(scale) for j in numbers]
        upper = [bound + 1 / mpmath.mpf(scale) for bound in bounds]
        return np.array([float(EXACT[name](b) - EXACT[name](a)) for a, b in zip(bounds, upper, strict=True)])


def streams(name="gaussian", seed=0):
    return NoiseStreams(member("noise", name)(), seed, "test")


def noisy_images(images, sigma, levels, name="gaussian", seed=0):
    plan = SamplingPlan(n0=1, n=1, seed=seed, dataset="test", noise=name, grid=PixelGrid(levels))
    return plan.noisy_images(images, torch.full((len(images),), sigma))


def drawn(noise, position, blocks, pixels):
    out = torch.full((blocks, BLOCK, pixels), math.nan)
    noise.fill(out, position, SOURCE, 0)
    return out


def check_counts(found, name, rest, scale, level=1e-4):
    """Chi-square against the exact probabilities; what is expected fewer than 10 times counts as one cell."""
    reach = int(9.3 * scale) + 2
    numbers = np.arange(-reach, reach + 1)
    assert abs(found).max() <= reach
    observed = np.bincount(found.ravel() + reach, minlength=len(numbers)).astype(float)
    expected = exact_law(name, rest, scale, numbers) * found.size
    assert expected.sum() == pytest.approx(found.size)
    assert not observed[expected < 1e-12].any()
    cell = np.where(expected < 10, 0, np.arange(len(numbers)) + 1)
    observed, expected = np.bincount(cell, observed), np.bincount(cell, expected)
    rare = 0 < expected[0] < 5  # too few to be a cell: to the largest one
    if rare:
        observed[expected.argmax()] += observed[0]
        expected[expected.argmax()] += expected[0]
    cells = (expected > 0) & (np.arange(len(expected)) > rare - 1)
    statistic = ((observed - expected)[cells] ** 2 / expected[cells]).sum()
    assert stats.chi2.sf(statistic, max(cells.sum() - 1, 1)) > level


# --- the law, as numbers


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0, 1.92, 4.0, 30.6, 63.75, 255.0, 800.0])
def test_the_table_has_the_exact_probabilities(name, scale):
    """The sum of what they err by is the total variation distance at most; the bound leaves room for the quantile."""
    law = Law(member("noise", name)(), scale)
    assert len(law.thresholds) == 2 * law.reach
    assert (np.diff(law.thresholds.astype(object)) >= 0).all()
    assert [int(t) + int(u) for t, u in zip(law.thresholds, law.thresholds[::-1], strict=True)] == [2**64] * len(
        law.thresholds
    )
    bounds = [mpmath.mpf(2 * j + 1) / 2 / mpmath.mpf(scale) for j in range(-law.reach, 0)]
    tails = exact_tails(name, bounds)
    with mpmath.workdps(50):
        errors = [abs(mpmath.mpf(int(t)) / 2**64 - p) for t, p in zip(law.thresholds, tails, strict=False)]
        left = exact_tails(name, [mpmath.mpf(-2 * law.reach - 1) / 2 / mpmath.mpf(scale)])[0]
        total = 2 * sum(errors) + 4 * (left + 2**-64)
        rounded = [e - mpmath.mpf(2) ** -64 for e in errors]
        squares = [1 + bound**2 for bound in bounds]
        assert all(e <= p * 2**-50 * c for e, p, c in zip(rounded, tails, squares, strict=True))
    t1 = float(PixelGrid(1).total_variation(np.array([scale]), 1)[0])
    assert float(total) < t1


@pytest.mark.parametrize("name", NAMES)
def test_the_quantile_is_exact_to_what_the_bound_assumes(name):
    """|z - exact| <= 2^-50 (1 + |z|), from the smallest word to the middle."""
    random = np.random.default_rng(0)
    words = np.concatenate(
        [
            random.integers(-(2**63), 2**63, 1500),
            (2.0 ** random.uniform(0, 63, 1500)).astype(np.int64),
            [0, 1, 2, -1, -2, 2**63 - 1, -(2**63)],
        ]
    )
    found = standard(member("noise", name)(), torch.from_numpy(words)).numpy()
    with mpmath.workdps(40):
        for word, z in zip(words.tolist(), found.tolist(), strict=True):
            tail = (mpmath.mpf(word if word >= 0 else -1 - word) + mpmath.mpf(1) / 2) / 2**64
            if name == "uniform":
                exact = 2 * tail - 1
            else:
                near = -abs(mpmath.mpf(z))  # one step of Newton from there
                exact = near - (mpmath.ncdf(near) - tail) / mpmath.npdf(near)
            exact = exact if word < 0 else -exact
            assert abs(mpmath.mpf(z) - exact) <= mpmath.mpf(2) ** -50 * (1 + abs(exact))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.4, 4.0, 63.75, 255.0])
def test_drawing_by_steps_is_comparing_64_bits(name, scale):
    """Against a comparison of whole numbers, for random words and for those on both sides of every threshold."""
    law = Law(member("noise", name)(), scale)
    random = np.random.default_rng(1)
    thresholds = [int(t) for t in law.thresholds]
    words = [int(w) for w in random.integers(0, 2**64, 2000, dtype=np.uint64)]
    words += [t + d for t in thresholds for d in (-1, 0, 1)] + [0, 2**64 - 1]
    words = [w for w in words if 0 <= w < 2**64]
    words += words[: (-len(words)) % 8]

    class Known:
        """A stream whose block has these bits: the first 16 of each, 16 more, and the rest where it is asked for."""

        def keystream(self, source, first, blocks, size):
            if source == SOURCE:
                assert (first, blocks, size) == (3, 1, 4 * len(words))
                high = np.array([w >> 48 for w in words], dtype=np.uint16)
                low = np.array([(w >> 32) & 0xFFFF for w in words], dtype=np.uint16)
                return np.concatenate([high, low]).view(np.uint8)[None]
            assert source == ("estimation/last", 0)
            assert (blocks, size) == (1, 4)
            assert first >> 32 == 3
            return np.array([words[first & 0xFFFFFFFF] & 0xFFFFFFFF], dtype=np.uint32).view(np.uint8)[None]

    out = torch.full((1, len(words)), math.nan)
    law.fill(out, Known(), SOURCE, 3)
    naive = np.searchsorted(np.array(thresholds, dtype=object), np.array(words, dtype=object), side="right") - law.reach
    assert out[0].tolist() == naive.tolist()
    signed = torch.tensor([w - 2**63 for w in words])
    assert law.at(signed).tolist() == naive.tolist()


def test_the_last_bits_are_a_function_of_the_place_alone():
    """They come from another stream than the first ones, and differ from number to number and from block to block."""
    source = streams()
    first = source.keystream(SOURCE, 0, 4, 16 * BLOCK)
    last = [
        source.keystream(("estimation/last", 0), (block << 32) + number, 1, 4)
        for block in range(3)
        for number in range(50)
    ]
    assert len({word[0, :4].tobytes() for word in last}) == len(last)
    assert not {word[0].tobytes() for word in last} & {row.tobytes() for row in first.reshape(-1, 16)}


# --- the law, as samples


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("sigma", "levels"), [(0.25, 16), (0.5, 1), (0.03, 16), (0.25, 255), (1.0, 255)])
def test_samples_on_the_grid_have_the_exact_law(name, sigma, levels):
    pixels = torch.arange(64) % (levels + 1)
    images = (pixels / torch.tensor(float(levels)))[None]
    out = drawn(noisy_images(images, sigma, levels, name), 0, 40, 64)
    found = (out.double() * levels).round() - pixels
    assert torch.equal(((found + pixels) / levels).float(), out)
    scale = float(np.float32(sigma)) * levels
    check_counts(found.long().numpy(), name, 0.0, scale)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rest", [-0.5, -0.25, 0.0, 3 / 2**16, 0.375])
@pytest.mark.parametrize(("sigma", "levels"), [(0.25, 16), (0.5, 1), (0.03, 16), (0.25, 255)])
def test_samples_off_the_grid_have_the_exact_law(name, rest, sigma, levels):
    """rest: of each pixel, to the nearest multiple of the step; at 0 beside a pixel that is off the grid."""
    pixels = torch.arange(64) % (levels + 1)
    images = ((pixels.double() + rest) / levels).float()[None]
    images[0, 0] = 0.4321
    noise = noisy_images(images, sigma, levels, name)
    out = drawn(noise, 0, 40, 64)[..., 1:]
    found = (out.double() * levels).round() - pixels[1:]
    read = (noise.nearest + noise.rest - pixels)[0, 1:]
    assert (read - rest).abs().max() <= 2**-16
    check_counts(found.long().numpy(), name, rest, float(np.float32(sigma)) * levels)


@pytest.mark.parametrize("name", NAMES)
def test_noise_too_wide_for_a_table_has_the_exact_law(name):
    sigma, levels = 60.0, 255
    assert not Law.fits(member("noise", name)(), sigma * levels)
    out = drawn(noisy_images(torch.zeros(1, 64), sigma, levels, name), 0, 20, 64)
    found = (out.double() * levels).round().long().numpy()
    sample = (found + np.random.default_rng(0).random(found.shape) - 0.5).ravel() / (sigma * levels)
    assert stats.kstest(sample, {"gaussian": stats.norm, "uniform": stats.uniform(-1, 2)}[name].cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_words_of_a_generator_give_the_exact_law(name):
    """What is drawn on a GPU, in both ways."""
    words = torch.stack(
        [words_of(g, 100_000) for g, _ in zip(streams().generators("cpu", SOURCE, 3), "ab", strict=False)]
    )
    assert not torch.equal(words[0], words[1])
    check_counts(Law(member("noise", name)(), 4.0).at(words).numpy(), name, 0.0, 4.0)
    check_counts((0.25 + 4.0 * standard(member("noise", name)(), words)).round().long().numpy(), name, 0.25, 4.0)


def test_numbers_are_independent_of_each_other():
    """Neighbours in a sample, and the same pixel of neighbouring samples, in both ways of drawing."""
    for images in (torch.zeros(1, 64), torch.full((1, 64), 0.0123)):
        found = drawn(noisy_images(images, 0.25, 255), 0, 40, 64).double().reshape(-1, 64)
        for other in (found.roll(1, 0), found.roll(1, 1), found.roll(BLOCK, 0), found.roll(32, 1)):
            correlation = torch.corrcoef(torch.stack([found.ravel(), other.ravel()]))[0, 1]
            assert abs(correlation) < 5 / math.sqrt(found.numel())


# --- what the base classifier sees


@pytest.mark.parametrize("levels", [1, 15, 16, 100, 255, 256])
def test_pixels_of_an_image_with_these_levels_are_read_exactly(levels):
    images = (torch.arange(levels + 1) / torch.tensor(float(levels)))[None]
    noise = noisy_images(images, 0.25, levels)
    assert noise.nearest[0].tolist() == list(range(levels + 1))
    assert not noise.rest.any()
    assert noise.law[0] is not None


@settings(max_examples=200, deadline=None)
@given(
    pixels=st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=8),
    levels=st.sampled_from([1, 3, 16, 255, 65535, 999_999]),
)
def test_an_image_is_read_within_the_displacement(pixels, levels):
    noise = noisy_images(torch.tensor([pixels]), 0.25, levels)
    assert (noise.rest.abs() <= 0.5).all()
    for pixel, nearest, rest in zip(pixels, noise.nearest[0].tolist(), noise.rest[0].tolist(), strict=True):
        off = abs(Fraction(pixel) - (Fraction(nearest) + Fraction(rest)) / levels)
        assert off <= PixelGrid(levels).displacement(1, norm="l2")
    for norm, most in (("l1", len(pixels)), ("l2", math.sqrt(len(pixels)))):
        assert PixelGrid(levels).displacement(len(pixels), norm=norm) >= most / (2**17 * levels)


@pytest.mark.parametrize("pixel", [0.0, 0.3, 1.0, 8000.0, -9000.0, 1e6, -1e30])
def test_what_is_seen_is_a_multiple_of_the_step_within_the_range(pixel):
    out = drawn(noisy_images(torch.full((1, 4), pixel), 0.5, 255), 0, 2, 4)
    whole = (out.double() * 255).round()
    assert torch.equal((whole.float() / torch.tensor(255.0)), out)
    assert (whole.abs() <= LARGEST).all()


def test_the_same_noise_in_any_order_and_number_of_blocks():
    for images in (torch.zeros(1, 7), torch.full((1, 7), 0.0123)):
        noise = noisy_images(images, 1.0, 255)
        whole = drawn(noise, 0, 6, 7)
        for first in range(6):
            part = torch.full((1, BLOCK, 7), math.nan)
            noise.fill(part, 0, SOURCE, first)
            assert torch.equal(part[0], whole[first])


def test_each_image_gets_its_own_sigma():
    sigma = [0.1, 0.5, 0.1]
    noise = GridNoise(streams(), torch.zeros(3, 64), [float(np.float32(s)) for s in sigma], PixelGrid(255))
    for position, each in enumerate(sigma):
        assert drawn(noise, position, 20, 64).std().item() == pytest.approx(each, rel=0.02)


def test_float32_noise_is_the_image_plus_scaled_standard_noise():
    images = torch.rand(2, 8, generator=torch.Generator().manual_seed(0))
    out = drawn(FloatNoise(streams(), images, [0.25, 0.5]), 1, 3, 8)
    standard_noise = torch.empty(3, BLOCK, 8)
    streams().fill(standard_noise, SOURCE, 0)
    torch.testing.assert_close(out, images[1] + 0.5 * standard_noise)


# --- the step


def test_steps():
    for step in (1 / 255, "1/255", 0.00392156862745098):
        assert PixelGrid.of_step(step) == PixelGrid(255)
    assert PixelGrid.of_step("1/16") == PixelGrid(16)
    assert grid_of(None) is None
    for wrong in (2.0, 0.3, 1e-9, "1/0", "2/255", "0.5", "1/1000000"):
        with pytest.raises(ConfigError, match=r"^step: .*as 1/255"):
            PixelGrid.of_step(wrong)
    for wrong in (0, -1 / 255, math.nan, math.inf, True):
        with pytest.raises(ConfigError, match=r"^step: .*must be a finite number > 0"):
            PixelGrid.of_step(wrong)
    for wrong in (0, -3, 2.5, 10**6):
        with pytest.raises(ConfigError, match=r"^levels: "):
            PixelGrid(wrong)
