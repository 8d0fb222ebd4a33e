"""Certified accuracy against radius over training seeds: one panel per column of a table (IDRS, Figures 4 to 24)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.accuracy import Column, Rows, row_labels, rows_by_column
from certsmooth.analysis.runs import Outcome, guarantees
from certsmooth.report.figures.curves import line, panels_figure, radius_axis
from certsmooth.report.formats import at_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def accuracy_curves(runs_by_column: Mapping[Column, Sequence[CertifiedRun]], *, title: str) -> Figure:
    """Draw certified-accuracy curves.

    A panel shows one column; a line, one row: the mean over training seeds, with a thin line for each seed.

    Args:
        runs_by_column: as for `certsmooth.analysis.accuracy.accuracy_table`.
        title: above the panels.

    Raises:
        ConfigError: there are no runs, or they are given twice.
        CountsError: runs on one data set are not about the same images.
    """
    columns = rows_by_column(runs_by_column)
    outcomes = {
        label: [rows[label].outcomes[0] for rows in columns.values() if label in rows] for label in row_labels(columns)
    }
    legend = {label: f"{label} ({guarantees(found)})" for label, found in outcomes.items()}
    several = any(len(outcome.seeds) > 1 for found in outcomes.values() for outcome in found)
    return panels_figure(
        list(zip(at_columns([asdict(column) for column in columns]).values(), columns.values(), strict=True)),
        lambda axis, rows: _panel(axis, rows, legend),
        columns=3,
        size=(3.0, 2.6),
        title=title,
        labels=(r"$\ell_{2}$ radius", "Certified accuracy (%)"),
        legend=("Means over training seeds; thin: each seed. " if several else "")
        + "In brackets: what the certificates guarantee.",
    )


def seed_curves(outcome: Outcome, radii: Float[np.ndarray, " r"]) -> Float[np.ndarray, "s r"]:
    """Return the certified accuracy of each training seed at each radius (fractions)."""
    ordered = (np.sort(radius[correct]) for radius, correct in zip(outcome.radius, outcome.correct, strict=True))
    return np.array([(len(certified) - np.searchsorted(certified, radii)) / outcome.images for certified in ordered])


def _panel(axis: Axes, rows: Rows, legend: Mapping[str, str]) -> None:
    """Draw the rows of one column; a row has the same colour and line in every panel."""
    from matplotlib.collections import LineCollection

    shown = {label: method.outcomes[0] for label, method in rows.items()}
    radii = radius_axis(axis, *(outcome.radius[outcome.correct] for outcome in shown.values()), points=401)
    for label, outcome in shown.items():
        style, curves = line(list(legend).index(label)), 100 * seed_curves(outcome, radii)
        if len(curves) > 1:
            thin = [np.column_stack([radii, curve]) for curve in curves]
            axis.add_collection(LineCollection(thin, colors=style["color"], linewidths=0.5, alpha=0.45))
        axis.plot(radii, curves.mean(axis=0), **style, label=legend[label])
