"""Certificates that hold for the program that runs: the theorem, and base classifiers that look at low bits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtr, ndtri

from certsmooth import CohenCertificate, FixedSigma, L1Certificate, SmoothedClassifier
from certsmooth.errors import ConfigError
from certsmooth.science.certificates import Smoothing
from certsmooth.science.theory.pixel_grid import PixelGrid
from certsmooth.science.theory.worst_case import xi
from factories import RowLinear

# --- the theorem

probabilities = st.floats(1e-6, 1 - 1e-6)


def least(p, distance, rho, dimension):
    """The least probability, at a distance and with rho times the noise, of a region with probability p (a there)."""
    return 1 - xi(distance, 1.0, rho, dimension, p)


@settings(max_examples=300, deadline=None)
@given(
    lower=probabilities,
    share=st.floats(0.0, 1.0),
    t=st.floats(1e-6, 0.05),
    distance=st.floats(0.0, 3.0),
    rho=st.floats(0.5, 2.0),
    dimension=st.integers(1, 50),
)
def test_three_distances_cover_what_both_ends_may_err(lower, share, t, distance, rho, dimension):
    """a(L - 3 t) >= b(U + 3 t) implies a(L - t) - b(U + t) >= 2 t, also where sigma differs."""
    upper = share * (1 - lower)
    if lower - 3 * t <= 0 or upper + 3 * t >= 1:
        return
    a = partial(least, distance=distance, rho=rho, dimension=dimension)

    def b(p):
        return 1 - a(1 - p)

    if a(lower - 3 * t) >= b(upper + 3 * t):
        assert a(lower - t) - b(upper + t) >= 2 * t - 1e-9


def test_one_distance_would_not_do():
    """Where classes are certified at the very edge, t off the probability at x leaves the other end t short."""
    p, t = 0.7, 0.01
    edge = float(ndtri(p - t))  # the largest certified distance in units of sigma, less t at one end alone
    assert ndtr(ndtri(p - t) - edge) <= 0.5
    assert ndtr(ndtri(p - t) - float(ndtri(p - 3 * t))) >= 0.5 + t


@settings(max_examples=100, deadline=None)
@given(
    sigma=st.floats(0.01, 5),
    rate=st.sampled_from([0.0, 0.01, 0.3, 2.0, float("inf")]),
    radius=st.floats(0, 5),
    within=st.sampled_from([0.0, 0.3, float("inf")]),
)
@example(sigma=1.0, rate=float("inf"), radius=5e-324, within=0.0)
@example(sigma=1.0, rate=1e308, radius=1e-300, within=0.0)
@example(sigma=1.0, rate=1e308, radius=5.0, within=0.0)
def test_the_distance_covers_every_sigma_of_the_ball(sigma, rate, radius, within):
    """At x' the program draws with sigma(x'): its distance from ideal noise is at most what was taken off."""
    grid = PixelGrid(255)
    smoothing = Smoothing(np.array([sigma]), 3072, rate, np.array([within]), grid=grid)
    taken = smoothing.distance(np.array([radius]))[0]
    outside = max(radius - within, 0.0)
    change = 0.0 if outside == 0 or rate == 0 else min(rate * outside + smoothing.rounding, 50.0)
    for sign in (-1, 0, 1):
        there = grid.total_variation(np.array([sigma * np.exp(sign * change)]), 3072)[0]
        assert taken >= 3 * there * (1 - 1e-12)
    assert replace(smoothing, grid=None).distance(np.array([radius]))[0] == 0


@pytest.mark.parametrize(
    ("levels", "sigma", "dimension", "most"), [(16, 0.25, 64, 1e-11), (255, 0.25, 3072, 5e-9), (255, 1.0, 150528, 1e-6)]
)
def test_what_is_taken_off_is_small(levels, sigma, dimension, most):
    grid = PixelGrid(levels)
    assert 3 * grid.total_variation(np.array([sigma]), dimension)[0] < most
    assert 2 * grid.displacement(dimension, norm="l2") < 3e-5


# --- base classifiers that look at low bits (Voracek and Hein, ICLR 2023)


class LowBits(torch.nn.Module):
    """Class 0 if some pixel of absolute value below 2^small is no multiple of 2^unit (or: an odd one), else class 1."""

    def __init__(self, small, unit, *, odd=False):
        super().__init__()
        self.small, self.unit, self.odd = 2.0**small, 2.0**-unit, odd

    def forward(self, images):
        pixels = images.flatten(1).double()
        multiple = pixels * self.unit
        low = (multiple.remainder(2) == 1) if self.odd else multiple != multiple.round()
        found = ((pixels.abs() < self.small) & low).any(1)
        return torch.stack([found, ~found], 1).float()


ZERO = torch.zeros(3, 32, 32)
LEVEL = torch.full((3, 32, 32), 1 / 255)
NEAR = torch.full((3, 32, 32), 2.0**-33)
CASES = [
    (CohenCertificate(), 0.25, LowBits(-9, -32), LEVEL),
    (CohenCertificate(), 0.25, LowBits(-8, -33), LEVEL),
    (CohenCertificate(), 0.25, LowBits(-10, -30), LEVEL),
    (CohenCertificate(), 0.25, LowBits(-9, -31, odd=True), LEVEL),
    (CohenCertificate(), 0.25, LowBits(-9, -8), LEVEL),
    (L1Certificate(), 0.5, LowBits(-10, -32, odd=True), NEAR),
    (L1Certificate(), 0.5, LowBits(-9, -32), NEAR),
    (L1Certificate(), 0.5, LowBits(-8, -31, odd=True), NEAR),
    (L1Certificate(), 0.5, LowBits(-9, -8), NEAR),
]
BROKEN = (0, 1, 5, 6, 7)
"""Cases in which float32 noise gives false certificates."""


def contradicted(case, *, step, seed):
    """Whether 0 and the other image are certified as different classes, each within the other's radius."""
    certificate, sigma, model, other = CASES[case]
    smoothed = SmoothedClassifier(model, num_classes=2, sigma=FixedSigma(sigma), certificate=certificate, step=step)
    found = smoothed.certify(torch.stack([ZERO, other]), n0=20, n=500, alpha=0.001, seed=seed)
    distance = torch.linalg.vector_norm(other, ord=1 if certificate.norm == "l1" else 2).item()
    assert (found["guarantee"] == ("global" if step else "global (real arithmetic)")).all()
    answered = (found["predict"] >= 0).all() and found["predict"].nunique() == 2
    return bool(answered and found["radius"].max() > distance)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(CASES)))
def test_float32_noise_gives_false_certificates(case):
    """Which is why they do not say `global`; in the other cases it does not show the difference."""
    assert [contradicted(case, step=None, seed=seed) for seed in range(3)] == [case in BROKEN] * 3


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(CASES)))
def test_on_the_grid_none_is_false(case):
    assert not any(contradicted(case, step=1 / 255, seed=seed) for seed in range(20 if case in BROKEN else 3))


def test_no_point_of_a_ball_has_another_class_by_its_low_bits():
    """Images on the grid, next to it and far from it, which the program draws in two ways, agree in their balls."""
    shifts = [0.0, 2.0**-33, 2.0**-20, 1e-5, 0.1 / 255, 0.5 / 255, 0.9 / 255]
    images = torch.stack([ZERO + shift for shift in shifts])
    for model in (LowBits(-9, -32), LowBits(-9, -8), LowBits(-7, -6)):
        smoothed = SmoothedClassifier(model, num_classes=2, sigma=FixedSigma(0.25))
        found = smoothed.certify(images, n0=20, n=500, alpha=0.001, seed=0)
        distances = torch.cdist(images.flatten(1).double(), images.flatten(1).double()).numpy()
        predict, radius = found["predict"].to_numpy(), found["radius"].to_numpy()
        differs = (predict[:, None] != predict) & (predict[:, None] >= 0) & (predict >= 0)
        assert not (differs & (distances < radius[:, None])).any()


# --- coverage, against a classifier whose smoothed version is known exactly


@pytest.mark.slow
@pytest.mark.parametrize("certificate", [CohenCertificate(), L1Certificate()], ids=["l2", "l1"])
@pytest.mark.parametrize("levels", [4, 255])
@pytest.mark.parametrize("on_grid", [True, False])
def test_false_certificates_are_at_most_alpha(certificate, levels, on_grid):
    """Class 1 where the first pixel is above a level and a half: so is, by symmetry, the smoothed classifier's."""
    images, alpha, boundary = 600, 0.05, (levels // 2 + 0.5) / levels
    model = RowLinear([[-1.0, 0, 0], [1.0, 0, 0]], [boundary, -boundary])
    x = torch.rand(images, 3, generator=torch.Generator().manual_seed(0))
    if on_grid:
        x = (x * levels).round() / torch.tensor(float(levels))
    sigma = 0.5 if certificate.norm == "l1" else 0.25
    smoothed = SmoothedClassifier(
        model, num_classes=2, sigma=FixedSigma(sigma), certificate=certificate, step=1 / levels
    )
    # The images differ in the identities of their noise, so equal ones are independent too.
    x[:, 2] = torch.arange(images) / images if not on_grid else x[:, 2]
    found = smoothed.certify(x, n0=20, n=200, alpha=alpha, seed=1)
    margin = x[:, 0].double().numpy() - boundary
    certified = found["predict"].to_numpy() >= 0
    wrong = certified & ((found["predict"].to_numpy() != (margin > 0)) | (found["radius"].to_numpy() > np.abs(margin)))
    assert certified.mean() > 0.5
    distinct = len(np.unique(x.numpy(), axis=0))
    assert distinct > 30
    assert wrong.sum() <= stats.binom.isf(1e-5, distinct, alpha) * images / distinct


# --- the interface


def test_the_step_of_a_classifier():
    smooth = partial(SmoothedClassifier, RowLinear(torch.eye(2)), num_classes=2, sigma=FixedSigma(0.25))
    assert smooth().grid == PixelGrid(255)
    assert smooth(step=1 / 16).grid == PixelGrid(16)
    assert smooth(step=None).grid is None
    assert smooth(pixel_range=None).grid is None
    assert smooth(pixel_range=(-1.0, 1.0)).grid is None
    assert smooth(pixel_range=None, step=1 / 10).grid == PixelGrid(10)
    with pytest.raises(ConfigError, match=r"^step: 0\.3; must be 1 divided by a whole number"):
        smooth(step=0.3)
    with pytest.raises(ConfigError, match=r"^step: 'none'"):
        smooth(step="none")


def test_the_step_does_not_change_what_is_certified_where_nothing_looks_at_low_bits():
    """Rounding to 1/255 moves a sample by at most half of that: radii of a half-space stay within sampling error."""
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    model = RowLinear([[-0.6, 0.8, 0, 0], [0.6, -0.8, 0, 0]])
    found = [
        SmoothedClassifier(model, num_classes=2, sigma=FixedSigma(0.25), step=step).certify(x, n=20_000, seed=0)
        for step in (None, 1 / 255)
    ]
    both = (found[0]["predict"] >= 0) & (found[1]["predict"] >= 0)
    assert both.mean() > 0.8
    assert (found[0]["predict"][both] == found[1]["predict"][both]).all()
    assert (found[0]["radius"] - found[1]["radius"]).abs()[both].median() < 0.005
