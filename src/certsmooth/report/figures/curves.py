"""Certified accuracy against radius: one panel per sigma, and the envelope (DDRS, Figure 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from jaxtyping import Float

from certsmooth._internal.storage import atomic_write
from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.analysis.runs import Method, Outcome, collect, guarantees
from certsmooth.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_Shown = TypeVar("_Shown")
# Okabe and Ito's colours, dark ones first, can be told apart with any colour vision; line styles, in grey.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":")
_STYLE: Mapping[str, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    # Identifiers in the SVG depend on this salt alone, not on a random one.
    "svg.hashsalt": "certsmooth",
}


def certified_curves(runs: Sequence[CertifiedRun], *, title: str, norm: str = "l2") -> Figure:
    """Draw certified-accuracy curves.

    Each panel shows one sigma, the last one the envelope over all. Where a method has several options at a
    sigma, its line is the best of them at each radius, as in the paper: chosen on the test images, which the
    bands (95 % Clopper-Pearson, for the finite test set) do not cover.

    Args:
        runs: those on the test part are shown; lines are means over training seeds.
        title: above the panels.
        norm: of the radii.

    Raises:
        ConfigError: there are no runs on the test part, or they are given twice.
        CountsError: runs are not about the same images.
    """
    methods = collect(runs, "test")
    if not methods:
        raise ConfigError(f"{title}: no runs on the test part; a figure needs at least one")
    sigmas = sorted({outcome.setting.sigma for method in methods for outcome in method.outcomes})
    panels: list[tuple[str, float | None]] = [(f"σ = {sigma:g}", sigma) for sigma in sigmas]
    return panels_figure(
        panels + ([("Envelope", None)] if len(sigmas) > 1 else []),
        lambda axis, sigma: _panel(axis, methods, sigma),
        columns=4,
        size=(2.6, 2.4),
        title=title,
        labels=(rf"$\ell_{{{norm.removeprefix('l')}}}$ radius", "Certified accuracy (%)"),
        legend="Bands: 95 % intervals for the finite test set. In brackets: what the certificates guarantee.",
    )


def write_figure(draw: Callable[[], Figure], folder: Path, *, name: str) -> tuple[Path, Path]:
    """Draw a figure in the style of all figures, and write it as ``NAME.svg`` and ``NAME.png``.

    Args:
        draw: makes the figure.
        folder: must exist.
        name: stem of the files.

    Returns:
        The two paths. Equal figures give equal bytes, with the same version of matplotlib.

    Raises:
        CertsmoothError: a file cannot be written.
    """
    import matplotlib

    paths = folder / f"{name}.svg", folder / f"{name}.png"
    with matplotlib.rc_context(cast("Any", _STYLE)):
        figure = draw()
        with atomic_write(paths[0]) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
        with atomic_write(paths[1]) as file:
            figure.savefig(file, format="png", dpi=160)
    return paths


def panels_figure(
    panels: Sequence[tuple[str, _Shown]],
    draw: Callable[[Axes, _Shown], None],
    *,
    size: tuple[float, float],
    title: str,
    labels: tuple[str, str],
    columns: int = 2,
    legend: str = "",
) -> Figure:
    """Return a figure of panels with one legend below them.

    Args:
        panels: heading of each, and what it shows.
        draw: fills the axes of a panel with what it shows.
        size: width and height of a panel, inches.
        title: above the panels.
        labels: of the axes, x and y.
        columns: most panels in a row.
        legend: its heading.
    """
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    used = -(-len(panels) // rows)
    figure = Figure(figsize=(0.6 + size[0] * used, 1.1 + size[1] * rows), layout="constrained")
    axes = figure.subplots(rows, used, sharey=True, squeeze=False).flatten()
    for spare in axes[len(panels) :]:
        spare.remove()
    for axis, (heading, shown) in zip(axes, panels, strict=False):
        draw(axis, shown)
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel(labels[0])
    for axis in axes[::used]:
        axis.set_ylabel(labels[1])
    figure.suptitle(title, fontsize=11)
    handles = {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}
    figure.legend(
        handles=list(handles.values()),
        title=legend,
        loc="outside lower center",
        ncols=min(len(handles), max(2, used)),
        frameon=False,
        handlelength=3,
    )
    return figure


def line(number: int) -> dict[str, Any]:
    """Return how the line with this number is drawn."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}


def radius_axis(axis: Axes, *certified: ArrayLike, points: int = 301) -> Float[np.ndarray, " r"]:
    """Let an axis show accuracies in percent up to the largest certified radius, and return the radii to draw at."""
    end = 1.02 * float(np.concatenate([[0.0], *certified]).max()) or 1.0
    axis.set(xlim=(0, end), ylim=(0, 100))
    return np.linspace(0, end, points)


def draw_envelope(
    axis: Axes, outcomes: Sequence[Outcome], radii: Float[np.ndarray, " r"], *, number: int, label: str
) -> None:
    """Draw the best of several outcomes of one method at each radius as a line, and its interval as a band."""
    best, (lower, upper) = envelope(outcomes, radii)
    axis.fill_between(radii, 100 * lower, 100 * upper, color=line(number)["color"], alpha=0.13, linewidth=0)
    axis.plot(radii, 100 * best, **line(number), label=label)


def envelope(
    outcomes: Sequence[Outcome], radii: Float[np.ndarray, " r"]
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "2 r"]]:
    """Return the best certified accuracy of several outcomes at each radius, and its interval (fractions).

    Args:
        outcomes: of one method, on the same images.
        radii: increasing, >= 0.
    """
    best = np.max([[outcome.accuracy(radius) for radius in radii] for outcome in outcomes], axis=0)
    ends = {value: accuracy_interval(value, outcomes[0].images) for value in np.unique(best)}
    return best, np.array([ends[value] for value in best]).T


def _panel(axis: Axes, methods: Sequence[Method], sigma: float | None) -> None:
    """Draw each method at one sigma, or at all of them (None)."""
    shown = [[o for o in method.outcomes if sigma in (None, o.setting.sigma)] for method in methods]
    radii = radius_axis(axis, *(o.radius[o.correct] for outcomes in shown for o in outcomes))
    for number, (method, outcomes) in enumerate(zip(methods, shown, strict=True)):
        if outcomes:
            label = f"{method.label} ({guarantees(method.outcomes)})"
            draw_envelope(axis, outcomes, radii, number=number, label=label)
