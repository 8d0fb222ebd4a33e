"""Certified and empirical accuracy against radius, one panel per method (SmoothAdv, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.result import TableResult
from certsmooth.analysis.runs import Method, collect
from certsmooth.report.figures.curves import draw_envelope, line, panels_figure, radius_axis
from certsmooth.report.formats import curve
from certsmooth.report.render import where

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def empirical_curves(result: TableResult, runs: Sequence[CertifiedRun]) -> Figure:
    """Draw certified and empirical accuracy against radius.

    Each line is, at each radius, the best setting of its method, chosen on the test images as in the paper's figure.
    The certified line is continuous; the empirical ones are known at their markers.

    Args:
        result: the empirical accuracies.
        runs: the certificates that they are of.
    """
    methods = collect(runs, "test")
    shown = [result.about["radii"], *(run.frame.loc[run.frame["correct"] == 1, "radius"] for run in runs)]
    return panels_figure(
        [(method.label, method) for method in methods],
        lambda axis, method: _panel(axis, result.values, method, radius_axis(axis, *shown)),
        columns=3,
        size=(3.4, 2.8),
        title=result.title,
        labels=(r"$\ell_{2}$ radius", "Accuracy (%)"),
        legend="Best setting at each radius. Band: 95 % interval for the finite test set.",
    )


def _panel(axis: Axes, values: pd.DataFrame, method: Method, radii: Float[np.ndarray, " r"]) -> None:
    draw_envelope(axis, method.outcomes, radii, number=0, label="Certified")
    attacked = where(values, method=method.label, metric="empirical_accuracy", selected_on="test")
    curves = attacked.groupby(list(map(curve, attacked["attack"], attacked["samples"])), sort=False)
    for number, (marker, (name, rows)) in enumerate(zip(cycle(_MARKERS), curves, strict=False), 1):
        style = {**line(number), "linewidth": 1.2, "marker": marker, "markersize": 4}
        axis.plot(rows["radius"], rows["value"], **style, label=name)
