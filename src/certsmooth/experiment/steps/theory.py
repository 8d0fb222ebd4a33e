"""The tables and figures of IDRS that need no data and no model."""

from __future__ import annotations

from pathlib import Path

from certsmooth.analysis.idrs_theory import threshold_table
from certsmooth.report.figures.idrs_theory import write_theory_figures
from certsmooth.report.render import write_table


def write_theory(results: Path) -> tuple[Path, ...]:
    """Write Table 1 to ``tables/idrs``, Figures 2, 3 and 11 to 14 to ``tables/figures/idrs``, and return all paths.

    Args:
        results: folder of the results.

    Raises:
        CertsmoothError: a file cannot be written.
    """
    tables, figures = results / "tables" / "idrs", results / "tables" / "figures" / "idrs"
    for folder in (tables, figures):
        folder.mkdir(parents=True, exist_ok=True)
    return (
        *write_table(threshold_table(), tables, figure="../figures/idrs/figure3.svg"),
        *write_theory_figures(figures),
    )
