"""Compare what methods do to clean images, over training seeds: a table, and the figure beside it."""

from __future__ import annotations

from pathlib import Path

from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.accuracy import build_accuracy_table, write_accuracy_table
from certsmooth.analysis.accuracy_result import Column
from certsmooth.experiment.config import AccuracyTable, Params
from certsmooth.experiment.runs import table_runs
from certsmooth.experiment.steps.table import read_run
from certsmooth.report.figures.accuracy_curves import write_accuracy_curves


def make_accuracy(params: Params, name: str, *, results: Path) -> None:
    """Write a table of clean accuracy as Markdown, CSV and JSON, and its figure as SVG and PNG.

    Args:
        params: the configuration.
        name: a key of ``tables``.
        results: folder that holds ``certificates``; the table goes to its ``tables``, the figure to
            ``tables/figures``.

    Raises:
        CountsError: certificates are missing or damaged.
    """
    table = params.of_kind(AccuracyTable)[name]
    columns: dict[Column, list[CertifiedRun]] = {}
    for run in table_runs(params, name):
        columns.setdefault(Column(run.dataset, run.sigma), []).append(read_run(params, run, "test", results=results))
    folder = results / "tables"
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    write_accuracy_curves(columns, figures, name=name, title=table.title)
    result = build_accuracy_table(
        columns,
        name=name,
        title=table.title,
        baseline_method=table.baseline,
        published=[(each.paper, each.table) for each in table.published],
    )
    write_accuracy_table(result, folder, figure=f"figures/{name}.svg")
