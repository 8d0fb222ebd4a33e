"""Certified accuracy against radius in high dimension: one panel per set of certificates, one line per rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from certsmooth.analysis.result import TableResult
from certsmooth.report.figures.curves import COLOURS, LINES, panels_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GRID = 401
_COLUMNS = 2


def write_high_dimension_curves(result: TableResult, folder: Path) -> tuple[Path, Path]:
    """Draw the certified accuracies of a table as curves, and write ``NAME.svg`` and ``NAME.png``.

    Args:
        result: the table.
        folder: must exist.

    Returns:
        The two paths.

    Raises:
        CertsmoothError: a file cannot be written.
    """
    return write_figure(lambda: _draw(result), folder, name=result.name)


def _draw(result: TableResult) -> Figure:
    certified = result.more["certified"]
    sources = list(certified["source"].unique())

    def draw(axis: Axes, number: int) -> None:
        shown = certified[certified["source"] == sources[number]]
        end = 1.02 * float(shown["radius"].max()) or 1.0
        radii = np.linspace(0, end, _GRID)
        for k, (rate, rows) in enumerate(shown.groupby("rate", sort=False)["radius"]):
            # From the smallest positive radius on: at 0 the accuracy does not depend on the certificate.
            share = [float((rows >= radius).mean()) for radius in radii[1:]]
            colour, line = COLOURS[k % len(COLOURS)], LINES[k % len(LINES)]
            label = f"r = {rate:g}" if rate else "r = 0 (constant σ)"
            axis.plot(radii[1:], 100 * np.array(share), color=colour, linestyle=line, linewidth=1.4, label=label)
        axis.set_xlim(0, end)
        axis.set_ylim(0, 100)

    return panels_figure(
        sources,
        draw,
        columns=_COLUMNS,
        panel=(3.3, 2.6),
        title=result.title,
        labels=(r"$\ell_2$ radius", "Certified accuracy (%)"),
        legend="",
    )
