"""Certified accuracy against radius: one panel per sigma, and the envelope (DDRS, Figure 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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

_GRID = 301
_COLUMNS = 4
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


def write_curves(
    runs: Sequence[CertifiedRun], folder: Path, *, name: str, title: str, norm: str = "l2"
) -> tuple[Path, Path]:
    """Draw certified-accuracy curves and write them as ``NAME.svg`` and ``NAME.png``.

    Each panel shows one sigma, the last one the envelope over all. Where a method has several options at a
    sigma, its line is the best of them at each radius, as in the paper: chosen on the test images, which the
    bands (95 % Clopper-Pearson, for the finite test set) do not cover.

    Args:
        runs: those on the test part are shown; lines are means over training seeds.
        folder: must exist.
        name: stem of the files.
        title: above the panels.
        norm: of the radii.

    Returns:
        The two paths. Equal runs give equal bytes, with the same version of matplotlib.

    Raises:
        ConfigError: there are no runs on the test part, or they are given twice.
        CountsError: runs are not about the same images.
        CertsmoothError: a file cannot be written.
    """
    methods = collect(runs, "test")
    if not methods:
        raise ConfigError(f"{name}: no runs on the test part; a figure needs at least one")
    return write_figure(lambda: _draw(methods, title=title, norm=norm), folder, name=name)


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


def envelope(
    outcomes: Sequence[Outcome], radii: Float[np.ndarray, " r"]
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "2 r"]]:
    """Return the best certified accuracy of several outcomes at each radius, and its interval (fractions).

    Args:
        outcomes: of one method, on the same images.
        radii: increasing, >= 0.
    """
    best = np.max([[outcome.accuracy(radius) for radius in radii] for outcome in outcomes], axis=0)
    images = outcomes[0].correct.shape[1]
    ends = {value: accuracy_interval(value, images) for value in np.unique(best)}
    return best, np.array([ends[value] for value in best]).T


def panels_figure(
    headings: Sequence[str],
    draw: Callable[[Axes, int], None],
    *,
    columns: int,
    panel: tuple[float, float],
    title: str,
    labels: tuple[str, str],
    legend: str,
) -> Figure:
    """Return a figure of panels with one legend below them.

    Args:
        headings: of the panels.
        draw: fills the axes of the panel with that number.
        columns: most panels in a row.
        panel: width and height of a panel, inches.
        title: above the panels.
        labels: of the axes, x and y.
        legend: its heading.
    """
    from matplotlib.figure import Figure

    rows = -(-len(headings) // columns)
    used = -(-len(headings) // rows)
    figure = Figure(figsize=(0.6 + panel[0] * used, 1.1 + panel[1] * rows), layout="constrained")
    axes = figure.subplots(rows, used, sharey=True, squeeze=False).flatten()
    for spare in axes[len(headings) :]:
        spare.remove()
    shown = axes[: len(headings)]
    for number, (axis, heading) in enumerate(zip(shown, headings, strict=True)):
        draw(axis, number)
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel(labels[0])
    for axis in shown[::used]:
        axis.set_ylabel(labels[1])
    figure.suptitle(title, fontsize=11)
    handles = {line.get_label(): line for axis in shown for line in axis.get_lines()}
    figure.legend(
        handles=list(handles.values()),
        title=legend,
        loc="outside lower center",
        ncols=min(len(handles), max(2, used)),
        frameon=False,
        handlelength=3,
    )
    return figure


def _draw(methods: Sequence[Method], *, title: str, norm: str) -> Figure:
    sigmas = sorted({outcome.setting.sigma for method in methods for outcome in method.outcomes})
    panels = [(f"σ = {sigma:g}", sigma) for sigma in sigmas] + ([("Envelope", None)] if len(sigmas) > 1 else [])
    return panels_figure(
        [heading for heading, _ in panels],
        lambda axis, number: _panel(axis, methods, panels[number][1]),
        columns=_COLUMNS,
        panel=(2.6, 2.4),
        title=title,
        labels=(rf"$\ell_{{{norm.removeprefix('l')}}}$ radius", "Certified accuracy (%)"),
        legend="Bands: 95 % intervals for the finite test set. In brackets: what the certificates guarantee.",
    )


def _panel(axis: Axes, methods: Sequence[Method], sigma: float | None) -> None:
    """Draw each method at one sigma, or at all of them (None)."""
    shown = [
        (k, method, [o for o in method.outcomes if sigma in (None, o.setting.sigma)])
        for k, method in enumerate(methods)
    ]
    end = max((o.radius[o.correct].max(initial=0.0) for _, _, outcomes in shown for o in outcomes), default=0.0)
    radii = np.linspace(0, 1.02 * end if end > 0 else 1.0, _GRID)
    for k, method, outcomes in shown:
        if outcomes:
            colour, line = COLOURS[k % len(COLOURS)], LINES[k % len(LINES)]
            best, (lower, upper) = envelope(outcomes, radii)
            axis.fill_between(radii, 100 * lower, 100 * upper, color=colour, alpha=0.13, linewidth=0)
            label = f"{method.label} ({guarantees(method.outcomes)})"
            axis.plot(radii, 100 * best, color=colour, linestyle=line, linewidth=1.5, label=label)
    axis.set_xlim(0, radii[-1])
    axis.set_ylim(0, 100)
