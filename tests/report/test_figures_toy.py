"""The toy figures: the probabilities that they show, where these are known."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from scipy.stats import ncx2

from certsmooth.report.figures.panels import write_figure
from certsmooth.report.figures.toy import (
    Plane,
    Smoothed,
    constant_probability,
    figure_1,
    figure_5,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    probability,
    square,
)


def right_of_one(points):
    return (points[:, 0] > 1).astype(np.int64)


def outside_the_unit_ball(points):
    return (np.linalg.norm(points, axis=1) > 1).astype(np.int64)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.5])
def test_a_half_plane_under_constant_noise(sigma):
    found = constant_probability(right_of_one, sigma, 3.0, 151)
    x = np.linspace(-3, 3, 151)
    # The grid knows the border to half a step, 0.02.
    low, high = ndtr((x - 1 - 0.021) / sigma), ndtr((x - 1 + 0.021) / sigma)
    assert (found >= low - 1e-3).all()
    assert (found <= high + 1e-3).all()


def test_no_noise_is_the_base_classifier():
    expected = right_of_one(square(2.0, 41)).reshape(41, 41)
    np.testing.assert_array_equal(constant_probability(right_of_one, 0.0, 2.0, 41), expected)


def test_a_ball_under_noise_of_a_sigma_for_each_point():
    points = np.array([[0.0, 0.0], [0.5, 0.5], [2.0, 0.0], [0.0, -1.0]])
    sigma = np.array([0.5, 1.0, 0.3, 2.0])
    exact = 1 - ncx2.cdf(1 / sigma**2, 2, (points**2).sum(1) / sigma**2)
    np.testing.assert_allclose(probability(outside_the_unit_ball, points, sigma), exact, atol=0.01)


def plane():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(40, 2))
    return Plane(points, right_of_one(points), right_of_one, 2.0)


def frame(radius):
    return pd.DataFrame({"radius": np.full(40, radius), "correct": np.arange(40) % 4 > 0})


def lines(axis):
    return {line.get_label(): line.get_xydata() for line in axis.get_lines()}


def test_certified_accuracy_falls_at_the_certified_radius():
    figure = figure_8(plane(), {0.25: frame(0.5), 0.5: frame(1.0), 1.0: frame(2.0)})
    drawn = lines(figure.axes[0])
    for name, radius in (("σ = 0.25", 0.5), ("σ = 0.5", 1.0), ("σ = 1", 2.0)):
        x, y = drawn[name].T
        assert y[0] == 75
        assert x.max() == radius
        assert y[-1] == 0
    circles = [patch.get_radius() for patch in figure.axes[1].patches]
    assert circles == [1.0] * 40  # of the middle sigma


def test_the_certified_radius_never_exceeds_the_distance_and_stops_growing():
    left, right = figure_7().axes
    drawn = lines(left)
    assert (drawn["certified"][:, 1] <= drawn["true distance"][:, 1]).all()
    assert drawn["certified"][-1, 1] == pytest.approx(3.8, abs=0.05)  # Phi^-1(0.001^(1/100,000))
    assert (lines(right)["certified"][:, 1] <= 1).all()
    for axis in figure_6().axes:
        share = axis.get_lines()[0].get_ydata()
        assert (share <= 1).all()
        assert (share >= 0).all()


@pytest.mark.slow
def test_every_figure_is_written(tmp_path):
    constant = Smoothed("constant", lambda x: np.full(len(x), 0.3), frame(0.5))
    dependent = Smoothed("input-dependent", lambda x: 0.2 + 0.1 * np.abs(x[:, 0]), frame(0.7))
    drawings = {
        1: lambda: figure_1(plane(), constant, dependent),
        5: lambda: figure_5(plane()),
        6: figure_6,
        7: figure_7,
        9: lambda: figure_9(plane(), (0.0, 0.5)),
    }
    for number, draw in drawings.items():
        paths = write_figure(draw, tmp_path, name=f"figure{number}")
        assert all(path.stat().st_size > 5000 for path in paths)
