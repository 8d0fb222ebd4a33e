"""Compare what methods do to clean images, over training seeds: a table, and the figure beside it."""

from __future__ import annotations

from pathlib import Path

from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.accuracy import build_accuracy_table, write_accuracy_table
from certsmooth.analysis.accuracy_result import Column
from certsmooth.experiment.config import AccuracyTable
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import table_runs
from certsmooth.experiment.steps.certified import Certified
from certsmooth.report.figures.accuracy_curves import write_accuracy_curves


def make_accuracy(experiment: Experiment, name: str, *, results: Path) -> None:
    """Write a table of ``idrs`` as Markdown, CSV and JSON, and its figure as SVG and PNG.

    Args:
        experiment: all that is asked for.
        name: a key of ``idrs``.
        results: folder that holds ``certificates``; the table goes to ``idrs`` in it, the figure to ``figures/idrs``.

    Raises:
        CountsError: certificates are missing or damaged.
    """
    params, certified = experiment.params, Certified(experiment, results)
    table = params.of_kind(AccuracyTable)[name]
    columns: dict[Column, list[CertifiedRun]] = {}
    for run in table_runs(params, name):
        columns.setdefault(Column(run.dataset, run.sigma), []).append(certified.run(run, "test"))
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
