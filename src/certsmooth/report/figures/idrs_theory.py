"""The figures of IDRS's theory: exact curves, no sampling (IDRS, Figures 2, 3 and 11 to 14)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import erf, logsumexp, ndtri_exp
from scipy.stats import ncx2, norm

from certsmooth.analysis.idrs_theory import exact_thresholds, theorem_thresholds
from certsmooth.report.figures.panels import COLOURS, LINES, line, panels_figure, write_figure
from certsmooth.science.certificates.renyi import renyi_radius
from certsmooth.science.theory.bounds import clopper_pearson_lower
from certsmooth.science.theory.worst_case import semi_elastic_radius, xi

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

SIGMA_0 = 1.0
"""In Figures 2, 3, 11 and 12 lengths are in units of sigma0."""

SAMPLES, ALPHA = 100_000, 0.001
"""Of the lower bounds in Figures 6, 7 and 13."""


def write_theory_figures(folder: Path) -> tuple[Path, ...]:
    """Write Figures 2, 3 and 11 to 14 of IDRS as ``figureN.svg`` and ``figureN.png``, and return their paths.

    Args:
        folder: must exist.

    Raises:
        CertsmoothError: a file cannot be written.
    """
    figures: dict[int, Callable[[], Figure]] = {
        **{2: _figure2, 3: _figure3, 11: _figure11},
        **{12: _figure12, 13: _figure13, 14: _figure14},
    }
    return tuple(
        path for number, draw in figures.items() for path in write_figure(draw, folder, name=f"figure{number}")
    )


def worst_case_ball(distance: float, sigma0: float, sigma1: float, dimension: int, p_a: float) -> tuple[float, float]:
    """Return centre and radius of the ball that bounds the worst-case region B (IDRS, Theorems 2.2 and 2.3).

    The likelihood ratio of N(x1, sigma1^2 I) to N(x0, sigma0^2 I) is constant on spheres around
    S = x0 + sigma0^2 / (sigma0^2 - sigma1^2) (x1 - x0). B is the ball if sigma1 < sigma0, and its complement if
    sigma1 > sigma0; its probability under N(x0, sigma0^2 I), a non-central chi-square one, is 1 - p_a.

    Args:
        distance: between x0 and x1, >= 0.
        sigma0: at x0, > 0.
        sigma1: at x1, > 0 and not sigma0.
        dimension: N.
        p_a: probability of the top class at x0.

    Returns:
        The signed distance from x0 to the centre in the direction of x1, and the radius.
    """
    centre = sigma0**2 / (sigma0**2 - sigma1**2) * distance
    inside = 1 - p_a if sigma1 < sigma0 else p_a
    return centre, sigma0 * math.sqrt(float(ncx2.ppf(inside, dimension, (centre / sigma0) ** 2)))


def worst_case_radius(p_a: float, sigma0: float, sigma1: float, dimension: int) -> float:
    """Return the certified radius against all points with one fixed sigma1: the distance at which xi is 1/2.

    Args:
        p_a: probability of the top class at x0.
        sigma0: at x0.
        sigma1: at every other point.
        dimension: N.
    """

    def excess(distance: float) -> float:
        return float(xi(distance, sigma0, sigma1, dimension, p_a)) - 0.5

    largest = sigma0 * float(norm.ppf(p_a))  # that of a constant sigma: IDRS, Theorem B.6
    if excess(0.0) >= 0:
        return 0.0
    return largest if excess(largest) < 0 else float(brentq(excess, 0.0, largest))


def half_space(distance: Float[np.ndarray, " a"], sigma0: float, sigma1: float, p_a: float) -> Float[np.ndarray, " a"]:
    """Return the probability at x1 of the half-space that is the worst case for sigma1 = sigma0 (Theorem B.6)."""
    return np.asarray(norm.cdf((distance - sigma0 * norm.ppf(p_a)) / sigma1))


def linear_radius(
    distance: ArrayLike, sigma: ArrayLike, semi_elasticity: float, dimension: int
) -> Float[np.ndarray, " *shape"]:
    """Return the certified radius of points at a distance from a linear decision boundary.

    The counts are the rounded mean of `SAMPLES` samples; the bound is Clopper and Pearson's at `ALPHA`.

    Args:
        distance: from the boundary.
        sigma: at each point; an array that broadcasts with ``distance``.
        semi_elasticity: r of sigma(x).
        dimension: N.
    """
    hits = np.rint(SAMPLES * norm.cdf(np.divide(distance, sigma))).astype(np.int64)
    lower = clopper_pearson_lower(hits, SAMPLES, alpha=ALPHA)
    return semi_elastic_radius(lower, sigma, semi_elasticity, dimension)


def ball_radius(distance: float, sigma: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """Return the radius of one constant sigma where a classifier answers 1 in the unit disc and 0 outside.

    It is what data-dependent sigma maximises (IDRS, Expression 2): sigma / 2 (Phi^-1(p_A) - Phi^-1(p_B)), with the
    exact probabilities of the two classes, and no regard to what sigma is at other points.

    Args:
        distance: of the point from the centre: 0, or more than 1.
        sigma: of the noise; at least 0.1, where the nodes of the integral are dense enough for a distance up to 100.
    """
    if distance == 0:
        return np.abs(sigma * ndtri_exp(-0.5 / sigma**2))  # of the probability outside
    # Over the coordinate cos(angle) toward the point: its normal density, times the probability of the chord there. The
    # integrand is an even periodic function of the angle, of which equal steps give all digits.
    steps = 2000
    angle, s = (np.arange(steps) + 0.5) * (math.pi / steps), sigma[:, None]
    weight = np.sin(angle) * erf(np.sin(angle) / (math.sqrt(2) * s)) * math.sqrt(math.pi / 2) / (steps * s)
    log_inside = logsumexp(-(((distance - np.cos(angle)) / s) ** 2) / 2, b=weight, axis=1)
    return np.abs(sigma * ndtri_exp(log_inside))


def _figure2() -> Figure:
    """Decision regions of the worst-case classifier in two dimensions."""
    x, y = np.meshgrid(np.linspace(-4.6, 4.6, 461), np.linspace(-3.4, 3.4, 341))
    angle = np.linspace(0, 2 * np.pi, 181)

    def draw(axis: Axes, sigma1: float) -> None:
        centre, radius = worst_case_ball(1.0, SIGMA_0, sigma1, 2, 0.9)
        inside = np.hypot(x - centre, y) - radius
        shaded = inside if sigma1 < SIGMA_0 else -inside
        axis.contourf(x, y, shaded, levels=[-np.inf, 0], colors=[COLOURS[1]], alpha=0.25)
        axis.contour(x, y, inside, levels=[0], colors=[COLOURS[1]], linewidths=1.2)
        axis.plot([centre], [0], "+", color=COLOURS[1], markersize=8, label="S, centre of the ball")
        for number, (sigma, colour) in enumerate(((SIGMA_0, COLOURS[0]), (sigma1, COLOURS[2]))):
            name = f"$x_{number}$"
            style: dict[str, Any] = {
                "color": colour,
                "label": rf"{name}, and the circle of radius $\sigma_{number}$ around it",
            }
            axis.plot(number + sigma * np.cos(angle), sigma * np.sin(angle), linestyle=":", linewidth=1, **style)
            axis.plot([number], [0], "o", markersize=4, **style)
            axis.annotate(name, (number, 0), xytext=(4, 4), textcoords="offset points", color=colour)
        axis.set(aspect="equal", xlim=(-4.6, 4.6), ylim=(-3.4, 3.4))

    return panels_figure(
        [
            (r"$\sigma_1 = 0.8\,\sigma_0$: a ball", 0.8),
            (r"$\sigma_1 = 1.25\,\sigma_0$: the complement of a ball", 1.25),
        ],
        draw,
        size=(3.6, 2.7),
        title="Where the worst-case classifier answers B (shaded), two dimensions, $p_A = 0.9$",
        labels=(r"in units of $\sigma_0$", ""),
    )


def _figure3() -> Figure:
    """Threshold of Theorem 2.4 and exact threshold against dimension."""
    dimensions = np.unique(np.geomspace(2, 2e5, 121).astype(int))
    curves = {"Theorem 2.4": theorem_thresholds, r"exact: $\xi_>(0) = 1/2$": exact_thresholds}

    def draw(axis: Axes, p_a: float) -> None:
        for number, (label, thresholds) in enumerate(curves.items()):
            axis.plot(dimensions, [thresholds(p_a, int(n)).smaller for n in dimensions], **line(number), label=label)
        axis.set(xscale="log", ylim=(0, 1))

    return panels_figure(
        [(f"$p_A = {p_a}$", p_a) for p_a in (0.9, 0.999)],
        draw,
        size=(3.3, 2.6),
        title=r"No certificate where $\sigma_1 / \sigma_0$ is below the threshold",
        labels=("Dimension N", r"Threshold of $\sigma_1 / \sigma_0$"),
    )


def _figure11() -> Figure:
    """Certified radius against dimension: Renyi divergence and Neyman-Pearson."""
    dimensions = np.arange(1, 121)

    def draw(axis: Axes, p_a: float) -> None:
        axis.axhline(norm.ppf(p_a), color=COLOURS[3], linestyle=LINES[3], label=r"constant $\sigma = \sigma_0$ (Cohen)")
        by_worst_case = [worst_case_radius(p_a, SIGMA_0, 0.8, int(n)) for n in dimensions]
        by_divergence = [float(renyi_radius(p_a, 1 - p_a, SIGMA_0, 0.8, int(n))) for n in dimensions]
        axis.plot(dimensions, by_worst_case, **line(0), label="Neyman-Pearson (Theorem 2.2)")
        axis.plot(dimensions, by_divergence, **line(1), label="Rényi divergence (Theorem B.5)")
        axis.set(xlim=(0, dimensions[-1]), ylim=(0, 2.5))

    return panels_figure(
        [(r"$p_A = 0.99$, $\sigma_0 = 1$, $\sigma_1 = 0.8$", 0.99)],
        draw,
        size=(5.8, 2.8),
        title="Certified radius against dimension",
        labels=("Dimension N", r"Certified $\ell_2$ radius"),
    )


_PANELS: Mapping[str, Sequence[tuple[str, float, int, float]]] = {
    r"$\xi_>$: $\sigma_1 = 0.8$, $p_B = 0.01$": [(f"N = {n}", 0.8, n, 0.01) for n in (2, 10, 30, 90)],
    r"$\xi_<$: $\sigma_1 = 1.25$, $p_B = 0.01$": [(f"N = {n}", 1.25, n, 0.01) for n in (2, 10, 30, 90)],
    r"$\xi_>$: N = 30, $p_B = 0.01$": [(rf"$\sigma_1 = {s}$", s, 30, 0.01) for s in (0.95, 0.9, 0.8, 0.7)],
    r"$\xi_>$: N = 30, $\sigma_1 = 0.9$": [(f"$p_B = {p}$", 0.9, 30, p) for p in (0.001, 0.01, 0.05, 0.2)],
    r"$\xi_>$ and $\xi_<$: N = 30, $p_B = 0.01$": [(rf"$\sigma_1 = {s}$", s, 30, 0.01) for s in (0.8, 1.25, 0.9, 1.11)],
    r"$\xi_>$ and $\xi_<$: N = 3072, $p_B = 0.01$": [
        (rf"$\sigma_1 = {s}$", s, 3072, 0.01) for s in (0.98, 1.02, 0.99, 1.01)
    ],
}
"""Heading -> label, sigma1, dimension and p_B of each curve."""


def _figure12() -> Figure:
    """Xi against distance, with the value of the half-space."""
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(7.4, 8.2), layout="constrained")
    axes = figure.subplots(3, 2, sharey=True)
    distance = np.linspace(0, 4, 161)
    for axis, (heading, curves) in zip(axes.flatten(), _PANELS.items(), strict=True):
        for k, (label, sigma1, dimension, p_b) in enumerate(curves):
            values = xi(distance, SIGMA_0, sigma1, dimension, 1 - p_b)
            axis.plot(distance, values, **line(k), linewidth=1.4, label=label)
            linear = half_space(distance, SIGMA_0, sigma1, 1 - p_b)
            axis.plot(distance, linear, color=COLOURS[k], linewidth=0.6, alpha=0.6)
        axis.axhline(0.5, color="#888888", linewidth=0.8)
        axis.set_title(heading, fontsize=10)
        axis.set(xlim=(0, distance[-1]), ylim=(0, 1))
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(
        r"$\xi$, the largest probability of class B at $x_1$ ($\sigma_0 = 1$): certified where it is below 1/2."
        "\nThin: the half-space, the worst case of a constant sigma.",
        fontsize=10,
    )
    figure.supxlabel(r"Distance $a = \|x_0 - x_1\|$", fontsize=9)
    figure.supylabel(r"$\xi(a)$", fontsize=9)
    return figure


def _figure13() -> Figure:
    """Certified radius against the distance from a linear boundary."""
    dimension, distance = 3072, np.linspace(0, 6, 241)

    def draw(axis: Axes, sigma: float) -> None:
        for number, rate in enumerate((0.0, 0.005, 0.01, 0.02, 0.05)):
            radius = linear_radius(distance * sigma, sigma, rate, dimension) / sigma
            label = f"r = {rate:g}" if rate else "constant σ"
            axis.plot(distance, radius, **line(number), linewidth=1.4, label=label)
        axis.set_xlim(0, distance[-1])
        axis.set_ylim(bottom=0)

    return panels_figure(
        [(rf"$\sigma_b = {sigma:g}$", sigma) for sigma in (0.12, 0.5)],
        draw,
        size=(3.3, 2.7),
        title=f"Linear boundary, N = {dimension:,}, n = {SAMPLES:,}, α = {ALPHA:g}: constant σ and r-semi-elastic σ(x)",
        labels=(r"Distance from the boundary / $\sigma_b$", r"Certified $\ell_2$ radius / $\sigma_b$"),
        legend=r"σ(x) = $\sigma_b$ at every point shown: the lines differ by what the certificate pays for r alone.",
    )


def _figure14() -> Figure:
    """Where maximising the radius of a constant sigma has no end: the counter-example to data-dependent sigma."""
    panels = {"$x_0 = (50, 0)$": (50.0, (0.5, 100.0)), "$x_0 = (0, 0)$": (0.0, (0.1, 0.8))}

    def draw(axis: Axes, shown: tuple[float, tuple[float, float]]) -> None:
        distance, (least, most) = shown
        sigma = np.linspace(least, most, 200)
        axis.plot(sigma, ball_radius(distance, sigma) / abs(distance - 1), **line(0), label="of one constant σ")
        axis.axhline(1, **line(1), label="the distance itself")
        axis.set(xlim=(0, most), ylim=(0.08, 12), yscale="log")

    return panels_figure(
        list(panels.items()),
        draw,
        size=(3.3, 2.6),
        title="The class is 1 in the unit disc, 0 outside: what data-dependent σ maximises at two points",
        labels=("σ", r"$\ell_2$ radius / distance from the circle"),
    )
