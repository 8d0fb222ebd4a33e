"""Certified and empirical accuracy against radius, one panel per method (SmoothAdv, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from certsmooth.analysis import CertifiedRun, Record
from certsmooth.analysis.result import TableResult, records
from certsmooth.analysis.runs import Method, collect
from certsmooth.report.figures.curves import COLOURS, LINES, envelope, panels_figure, write_figure
from certsmooth.report.formats import curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GRID = 301
_COLUMNS = 3
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def write_empirical_curves(result: TableResult, runs: Sequence[CertifiedRun], folder: Path) -> tuple[Path, Path]:
    """Draw certified and empirical accuracy against radius, and write ``NAME.svg`` and ``NAME.png``.

    Each line is, at each radius, the best setting of its method, chosen on the test images as in the paper's figure.
    The certified line is continuous; the empirical ones are known at their markers.

    Args:
        result: the empirical accuracies.
        runs: the certificates that they are of.
        folder: must exist.

    Returns:
        The two paths. Equal results give equal bytes, with the same version of matplotlib.

    Raises:
        CertsmoothError: a file cannot be written.
    """
    methods = collect(runs, "test")
    return write_figure(lambda: _draw(result, methods), folder, name=result.name)


def _draw(result: TableResult, methods: Sequence[Method]) -> Figure:
    ends = [outcome.radius[outcome.correct].max(initial=0.0) for method in methods for outcome in method.outcomes]
    end = 1.02 * max(*ends, *result.about["radii"])
    return panels_figure(
        [method.label for method in methods],
        lambda axis, number: _panel(axis, result, methods[number], end if end > 0 else 1.0),
        columns=_COLUMNS,
        panel=(3.4, 2.8),
        title=result.title,
        labels=(r"$\ell_{2}$ radius", "Accuracy (%)"),
        legend="Best setting at each radius. Band: 95 % interval for the finite test set.",
    )


def _panel(axis: Axes, result: TableResult, method: Method, end: float) -> None:
    radii = np.linspace(0, end, _GRID)
    best, (lower, upper) = envelope(method.outcomes, radii)
    axis.fill_between(radii, 100 * lower, 100 * upper, color=COLOURS[0], alpha=0.13, linewidth=0)
    axis.plot(radii, 100 * best, color=COLOURS[0], linestyle=LINES[0], linewidth=1.5, label="Certified")
    shown: dict[str, list[Record]] = {}
    for row in records(result.values):
        if (row["selected_on"], row["method"], row["metric"]) == ("test", method.label, "empirical_accuracy"):
            shown.setdefault(curve(row["attack"], row["samples"]), []).append(row)
    for (name, rows), colour, line, marker in zip(
        shown.items(), cycle(COLOURS[1:]), cycle((*LINES[1:], LINES[0])), cycle(_MARKERS), strict=False
    ):
        axis.plot(
            [row["radius"] for row in rows],
            [row["value"] for row in rows],
            color=colour,
            linestyle=line,
            linewidth=1.2,
            marker=marker,
            markersize=4,
            label=name,
        )
    axis.set_xlim(0, end)
    axis.set_ylim(0, 100)
