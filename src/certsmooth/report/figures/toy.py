"""The toy experiment in the plane: IDRS, Figures 1 and 5 to 9."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri
from scipy.stats import qmc

from certsmooth.report.figures.idrs_theory import ALPHA, SAMPLES, linear_radius
from certsmooth.report.figures.panels import COLOURS, line
from certsmooth.science.theory.bounds import clopper_pearson_lower

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Classify = Callable[[Float[np.ndarray, "m 2"]], Int[np.ndarray, " m"]]
"""Points -> their classes, 0 or 1, by the base classifier."""

_CLASSES = ("#D55E00", "#0072B2")
_PIXELS = 240
_DRAWS = 1024


@dataclass(frozen=True)
class Plane:
    """What the figures are about.

    Attributes:
        points: float64 [n, 2], test points.
        labels: int64 [n], 0 or 1.
        classify: the base classifier.
        half_width: of the square around the origin that is shown.
    """

    points: Float[np.ndarray, "n 2"]
    labels: Int[np.ndarray, " n"]
    classify: Classify
    half_width: float


@dataclass(frozen=True)
class Smoothed:
    """A smoothed classifier: its name, sigma(x) of points, and the certificates of the test points."""

    name: str
    sigma: Callable[[Float[np.ndarray, "m 2"]], Float[np.ndarray, " m"]]
    frame: pd.DataFrame


def square(half_width: float, pixels: int = _PIXELS) -> Float[np.ndarray, "m 2"]:
    """Return the points of a square grid around the origin, row by row (the second coordinate increases)."""
    axis = np.linspace(-half_width, half_width, pixels)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def constant_probability(
    classify: Classify, sigma: float, half_width: float, pixels: int = _PIXELS
) -> Float[np.ndarray, "m m"]:
    """Return the probability of class 1 under noise of a constant sigma on a square grid, by convolution.

    Args:
        classify: the base classifier; asked on a finer and wider grid.
        sigma: of the noise; 0 for the base classifier itself.
        half_width: of the square.
        pixels: per side.
    """
    step = 2 * half_width / (pixels - 1)
    margin = int(np.ceil(4 * sigma / step))
    wide = square(half_width + margin * step, pixels + 2 * margin)
    decided = classify(wide).astype(np.float64).reshape(pixels + 2 * margin, -1)
    blurred: Float[np.ndarray, "w w"] = gaussian_filter(decided, sigma / step, truncate=4.0) if sigma else decided
    return blurred[margin : margin + pixels, margin : margin + pixels]


def probability(
    classify: Classify, points: Float[np.ndarray, "m 2"], sigma: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Return the probability of class 1 at points with a sigma each, by the same quasi-random noise at all of them."""
    noise = ndtri(qmc.Sobol(2, seed=0).random(_DRAWS))
    total = np.zeros(len(points))
    for draw in noise:
        total += classify(points + sigma[:, None] * draw)
    return total / _DRAWS


def figure_1(plane: Plane, constant: Smoothed, dependent: Smoothed) -> Figure:
    """Data and sigma(x), the two decision boundaries near the cone's vertex, and certified accuracies."""
    figure, axes = _axes(3)
    _scatter(axes[0], plane)
    shown = np.linspace(0, len(plane.points) - 1, 60).astype(int)
    _circles(axes[0], plane.points[shown], dependent.sigma(plane.points[shown]))
    _frame(axes[0], plane.half_width, f"Test points and {dependent.name}: circles of radius σ(x)")
    zoom = plane.half_width / 4
    _scatter(axes[1], plane, size=14)
    grid = square(zoom)
    for number, smoothed in enumerate((constant, dependent)):
        high = probability(plane.classify, grid, smoothed.sigma(grid))
        _boundary(axes[1], high.reshape(_PIXELS, _PIXELS), zoom, line(number), smoothed.name)
    _frame(axes[1], zoom, "Decision boundaries of the smoothed classifiers")
    _curves(axes[2], {each.name: each.frame for each in (constant, dependent)})
    return figure


def figure_5(plane: Plane) -> Figure:
    """The data."""
    figure, (axis,) = _axes(1)
    _scatter(axis, plane)
    _frame(axis, plane.half_width, "Test points")
    return figure


def figure_6() -> Figure:
    """How much of the radius confidence bounds take, for a linear boundary: 100,000 samples, alpha = 0.001."""
    figure, axes = _axes(2)
    near, far = np.linspace(0.51, 0.99, 400), np.geomspace(1e-6, 1e-2, 400)
    for axis, p_a, x in ((axes[0], near, near), (axes[1], 1 - far, far)):
        lower = clopper_pearson_lower(np.rint(SAMPLES * p_a).astype(np.int64), SAMPLES, alpha=ALPHA)
        axis.plot(x, ndtri(np.maximum(lower, 0.5)) / ndtri(p_a), color=COLOURS[0])
        axis.set_ylim(0, 1.02)
    axes[0].set_xlabel("$p_A$")
    axes[1].set(xlabel="$1 - p_A$", xscale="log")
    axes[1].invert_xaxis()
    axes[0].set_ylabel(r"$\Phi^{-1}(\underline{p_A})\ /\ \Phi^{-1}(p_A)$")
    figure.suptitle(f"Share of the radius that is certified: n = {SAMPLES:,}, α = {ALPHA}, expected count")
    return figure


def figure_7() -> Figure:
    """The certified radius against the distance from a linear boundary, and against sigma at distance 1."""
    figure, axes = _axes(2)
    distance, sigma = np.linspace(1e-3, 8, 600), np.geomspace(0.02, 20, 600)
    for axis, x, d, s in ((axes[0], distance, distance, 1.0), (axes[1], sigma, 1.0, sigma)):
        axis.plot(x, linear_radius(d, s, 0.0, 2), **line(0), label="certified")
        axis.plot(x, np.broadcast_to(d, x.shape), **line(1), label="true distance")
        axis.legend()
    axes[0].set(xlabel="distance from the boundary (σ = 1)", ylabel="radius")
    axes[1].set(xlabel="σ (distance 1)", xscale="log")
    figure.suptitle(f"Certified radius with a linear boundary: n = {SAMPLES:,}, α = {ALPHA}, expected count")
    return figure


def figure_8(plane: Plane, constant: Mapping[float, pd.DataFrame]) -> Figure:
    """Certified accuracy for several constant sigmas, and certified balls with the decision boundary.

    Args:
        plane: the data.
        constant: certificates by sigma; the balls are those of the middle one.
    """
    figure, axes = _axes(2)
    _curves(axes[0], {f"σ = {sigma:g}": frame for sigma, frame in constant.items()})
    sigma = sorted(constant)[len(constant) // 2]
    frame = constant[sigma]
    _scatter(axes[1], plane)
    _circles(axes[1], plane.points, frame["radius"].to_numpy())
    high = constant_probability(plane.classify, sigma, plane.half_width)
    _boundary(axes[1], high, plane.half_width, line(0), "boundary")
    _frame(axes[1], plane.half_width, f"Certified balls and decision boundary, σ = {sigma:g}")
    return figure


def figure_9(plane: Plane, sigmas: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)) -> Figure:
    """The probability of class 1 and the decision boundary as sigma grows: the region of the cone shrinks."""
    figure, axes = _axes(len(sigmas))
    for axis, sigma in zip(axes, sigmas, strict=True):
        high = constant_probability(plane.classify, sigma, plane.half_width)
        edge = (-plane.half_width, plane.half_width) * 2
        axis.grid(visible=False)
        image = axis.imshow(high, origin="lower", extent=edge, cmap="RdYlBu", vmin=0, vmax=1)
        if high.min() < 0.5 and high.max() > 0.5:
            _boundary(axis, high, plane.half_width, line(0), "boundary")
        _frame(axis, plane.half_width, f"σ = {sigma:g}" if sigma else "base classifier", legend=False)
    figure.colorbar(image, ax=axes, label="probability of class 1", shrink=0.8)
    return figure


def _axes(panels: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    across = min(panels, 3)
    down = -(-panels // across)
    figure = Figure(figsize=(4.2 * across, 3.9 * down), layout="constrained")
    return figure, list(figure.subplots(down, across, squeeze=False).flatten())


def _frame(axis: Axes, half_width: float, title: str, *, legend: bool = True) -> None:
    axis.set(xlim=(-half_width, half_width), ylim=(-half_width, half_width), aspect="equal")
    axis.set_title(title, fontsize=9)
    if legend:
        axis.legend(fontsize=8, loc="upper left")


def _scatter(axis: Axes, plane: Plane, *, size: float = 6) -> None:
    for label, colour in enumerate(_CLASSES):
        mine = plane.points[plane.labels == label]
        axis.scatter(mine[:, 0], mine[:, 1], s=size, color=colour, label=f"class {label}")


def _circles(axis: Axes, centres: Float[np.ndarray, "m 2"], radii: Float[np.ndarray, " m"]) -> None:
    from matplotlib.patches import Circle

    for (x, y), radius in zip(centres, radii, strict=True):
        axis.add_patch(Circle((float(x), float(y)), float(radius), fill=False, color="#555555", linewidth=0.5))


def _boundary(
    axis: Axes, high: Float[np.ndarray, "m m"], half_width: float, style: Mapping[str, Any], name: str
) -> None:
    side = np.linspace(-half_width, half_width, len(high))
    axis.contour(side, side, high, levels=[0.5], colors=style["color"], linestyles=style["linestyle"], linewidths=1.4)
    axis.plot([], [], **style, label=name)


def _curves(axis: Axes, frames: Mapping[str, pd.DataFrame]) -> None:
    """Draw certified accuracy against radius."""
    for number, (name, frame) in enumerate(frames.items()):
        right = np.sort(frame["radius"].to_numpy()[frame["correct"].to_numpy() == 1])
        share = 100 * np.arange(len(right), 0, -1) / len(frame)
        axis.step([0, *right], [*share, 0], where="post", **line(number), label=name)
    axis.set(xlabel=r"$\ell_2$ radius", ylabel="certified accuracy (%)", ylim=(0, 100))
    axis.set_xlim(left=0)
    axis.legend(fontsize=8)
