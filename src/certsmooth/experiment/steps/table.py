"""Compare certificates: a table, and the figure beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from certsmooth._internal.storage import atomic_write
from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.published import published_datasets
from certsmooth.analysis.result import Entry, TableResult
from certsmooth.analysis.table import build_table, write_table
from certsmooth.artefacts.records import read_record
from certsmooth.errors import ConfigError
from certsmooth.experiment.config import Published
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import table_choice, table_runs
from certsmooth.experiment.specs import SPLITS
from certsmooth.experiment.steps.certified import Certified
from certsmooth.report.figures.curves import write_curves


def make_table(experiment: Experiment, name: str, *, results: Path) -> None:
    """Write a table as Markdown, CSV and JSON, and its figure as SVG and PNG.

    Args:
        experiment: all that is asked for.
        name: a key of ``tables``.
        results: folder that holds ``certificates``; the table goes there, the figure to ``figures`` in it, and what
            `dvc metrics` and `dvc plots` compare to ``metrics`` and ``plots``.

    Raises:
        CountsError: certificates are missing or damaged.
    """
    params, certified = experiment.params, Certified(experiment, results)
    table, about = params.tables[name], table_choice(params, name)
    data = experiment.data(about.dataset)
    record = read_record(results / data.path, spec=data.identity)
    linf = table.norm == "linf"
    runs = [certified.run(run, split, linf=linf) for run in table_runs(params, name) for split in SPLITS]
    norm = "linf" if linf else _norm(name, runs)
    result = build_table(
        runs,
        name=name,
        title=table.title,
        radii=about.radii,
        baseline_method=table.baseline,
        published=_published(table.published, record["name"]),
        norm=norm,
        data=record["name"],
    )
    figures = results / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    write_curves(runs, figures, name=name, title=table.title, norm=norm)
    write_table(result, results, figure=f"figures/{name}.svg")
    _write_metrics(result, results)


def _published(chosen: Published | None, dataset: str) -> tuple[str, int, str] | None:
    """Return the published table of this data set, or of the one that is shown instead."""
    if chosen is None:
        return None
    known = published_datasets(chosen.paper, chosen.table)
    return chosen.paper, chosen.table, dataset if dataset in known else chosen.dataset


def _norm(name: str, runs: Sequence[CertifiedRun]) -> str:
    """Return the norm of the radii.

    Raises:
        ConfigError: certificates are about several norms.
    """
    norms = {run.provenance["norm"]: run.method for run in runs}
    if len(norms) > 1:
        raise ConfigError(f"tables.{name}.methods: radii of {norms}; must be of one norm, or norm: linf")
    (norm,) = norms
    return str(norm)


def _write_metrics(result: TableResult, results: Path) -> None:
    """Write the rows whose settings were chosen on the validation part, as numbers and as curves, for DVC."""
    rows = result.on_validation or result.on_test
    metrics = {row.method.replace(".", "_"): {_metric(entry): entry.value for entry in row.entries} for row in rows}
    curves = pd.DataFrame(
        [
            {"row": row.method, "radius": radius, "certified accuracy (percent)": entry.value}
            for row in rows
            for radius in result.radii
            if (entry := row.at(radius))
        ]
    )
    for path, text in (
        (results / "metrics" / f"{result.name}.json", json.dumps(metrics, indent=2)),
        (results / "plots" / f"{result.name}.csv", curves.to_csv(index=False, float_format="%.6g").rstrip()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(f"{text}\n".encode())


def _metric(entry: Entry) -> str:
    """Return a key without dots, which DVC would take for a path."""
    return "acr" if entry.radius is None else f"certified_accuracy_{entry.radius:g}".replace(".", "_")
