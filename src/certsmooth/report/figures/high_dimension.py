"""Certified accuracy against radius in high dimension: one panel per set of certificates, one line per rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certsmooth.analysis.result import TableResult
from certsmooth.report.figures.curves import line, panels_figure, radius_axis

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def high_dimension_curves(result: TableResult) -> Figure:
    """Draw the certified accuracies of a table as curves."""
    return panels_figure(
        [(str(source), found) for source, found in result.more["certified"].groupby("source", sort=False)],
        _panel,
        size=(3.3, 2.6),
        title=result.title,
        labels=(r"$\ell_2$ radius", "Certified accuracy (%)"),
    )


def _panel(axis: Axes, certified: pd.DataFrame) -> None:
    # From the smallest positive radius on: at 0 the accuracy does not depend on the certificate.
    radii = radius_axis(axis, certified["radius"], points=401)[1:]
    for number, rate in enumerate(certified["rate"].unique()):
        found = certified.loc[certified["rate"] == rate, "radius"]
        share = [100 * (found >= radius).mean() for radius in radii]
        axis.plot(radii, share, **line(number), linewidth=1.4, label=f"r = {rate:g}" if rate else "r = 0 (constant σ)")
