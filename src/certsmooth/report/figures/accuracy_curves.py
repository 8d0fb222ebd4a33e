"""Certified accuracy against radius over training seeds: one panel per column of a table (IDRS, Figures 4 to 24)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.accuracy import Column, RowOutcome, row_labels, rows_by_column
from certsmooth.analysis.runs import Outcome, guarantees
from certsmooth.report.figures.curves import COLOURS, LINES, panels_figure, write_figure
from certsmooth.report.formats import at_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GRID = 401
_COLUMNS = 3


def write_accuracy_curves(
    runs_by_column: Mapping[Column, Sequence[CertifiedRun]], folder: Path, *, name: str, title: str
) -> tuple[Path, Path]:
    """Draw certified-accuracy curves and write them as ``NAME.svg`` and ``NAME.png``.

    A panel shows one column; a line, one row: the mean over training seeds, with a thin line for each seed.

    Args:
        runs_by_column: as for `certsmooth.analysis.accuracy.accuracy_table`.
        folder: must exist.
        name: stem of the files.
        title: above the panels.

    Returns:
        The two paths. Equal runs give equal bytes, with the same version of matplotlib.

    Raises:
        ConfigError: there are no runs, or they are given twice.
        CountsError: runs on one data set are not about the same images.
        CertsmoothError: a file cannot be written.
    """
    columns = rows_by_column(runs_by_column)
    return write_figure(lambda: _draw(columns, title), folder, name=name)


def seed_curves(outcome: Outcome, radii: Float[np.ndarray, " r"]) -> Float[np.ndarray, "s r"]:
    """Return the certified accuracy of each training seed at each radius (fractions)."""
    images = outcome.correct.shape[1]
    ordered = (np.sort(radius[correct]) for radius, correct in zip(outcome.radius, outcome.correct, strict=True))
    return np.array([(len(certified) - np.searchsorted(certified, radii)) / images for certified in ordered])


def _draw(columns: Mapping[Column, Sequence[RowOutcome]], title: str) -> Figure:
    panels, labels = list(columns.values()), row_labels(columns)
    several = any(len(row.outcome.seeds) > 1 for rows in panels for row in rows)
    outcomes = {label: [row.outcome for rows in panels for row in rows if row.row == label] for label in labels}
    legend = {label: f"{label} ({guarantees(found)})" for label, found in outcomes.items()}
    return panels_figure(
        list(at_columns([asdict(column) for column in columns]).values()),
        lambda axis, number: _panel(axis, panels[number], legend),
        columns=_COLUMNS,
        panel=(3.0, 2.6),
        title=title,
        labels=(r"$\ell_{2}$ radius", "Certified accuracy (%)"),
        legend=("Means over training seeds; thin: each seed. " if several else "")
        + "In brackets: what the certificates guarantee.",
    )


def _panel(axis: Axes, rows: Sequence[RowOutcome], legend: Mapping[str, str]) -> None:
    """Draw the rows of one column; a row has the same colour and line in every panel."""
    from matplotlib.collections import LineCollection

    order = list(legend)
    end = max(row.outcome.radius[row.outcome.correct].max(initial=0.0) for row in rows)
    radii = np.linspace(0, 1.02 * end if end > 0 else 1.0, _GRID)
    for row in rows:
        number = order.index(row.row)
        colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
        curves = 100 * seed_curves(row.outcome, radii)
        if len(curves) > 1:
            thin = [np.column_stack([radii, curve]) for curve in curves]
            axis.add_collection(LineCollection(thin, colors=colour, linewidths=0.5, alpha=0.45))
        axis.plot(radii, curves.mean(axis=0), color=colour, linestyle=line, linewidth=1.5, label=legend[row.row])
    axis.set_xlim(0, radii[-1])
    axis.set_ylim(0, 100)
