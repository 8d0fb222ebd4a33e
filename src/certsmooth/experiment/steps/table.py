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
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.records import read_record
from certsmooth.errors import ConfigError
from certsmooth.experiment.config import CertifiedTable, Params, Published
from certsmooth.experiment.runs import PARTS, CertificationRun, Part, json_value, table_choice, table_runs
from certsmooth.report.figures.curves import write_curves
from certsmooth.science.certificates import linf_radius


def certificates_path(results: Path, run: CertificationRun, part: Part) -> Path:
    """Return where the certificates of a run lie."""
    return results / "certificates" / run.folder / f"{part}.tsv"


def make_table(params: Params, name: str, *, results: Path) -> None:
    """Write a table as Markdown, CSV and JSON, and its figure as SVG and PNG.

    Args:
        params: the configuration.
        name: a key of ``tables``.
        results: folder that holds ``certificates``; the table goes to its ``tables``, the figure to
            ``tables/figures``, and what `dvc metrics` and `dvc plots` compare to ``metrics`` and ``plots``.

    Raises:
        CountsError: certificates are missing or damaged.
    """
    table, about = params.of_kind(CertifiedTable)[name], table_choice(params, name)
    record = read_record(results / "data" / f"{about.dataset}.json")
    linf = table.norm == "linf"
    runs = [
        read_run(params, run, part, results=results, linf=linf) for run in table_runs(params, name) for part in PARTS
    ]
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
    folder = results / "tables"
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    write_curves(runs, figures, name=name, title=table.title, norm=norm)
    write_table(result, folder, figure=f"figures/{name}.svg")
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


def read_run(params: Params, run: CertificationRun, part: Part, *, results: Path, linf: bool = False) -> CertifiedRun:
    """Read certificates, with the l-infinity radii that theirs imply, if ``linf``.

    Raises:
        CountsError: certificates are missing or damaged.
    """
    method = params.methods[run.method]
    frame, provenance = read_certificates(certificates_path(results, run, part))
    if linf:
        norm, dimension = provenance["norm"], provenance["dimension"]
        for column in ("radius", "radius_before_memory"):
            frame[column] = linf_radius(frame[column].to_numpy(), norm=norm, dimension=dimension)
    return CertifiedRun(
        method=run.method,
        label=method.label,
        train=method.train,
        certify=method.certify,
        sigma=run.sigma,
        variant={key: json_value(value) for key, value in run.variant if value is not None},
        seed=run.seed,
        part=part,
        frame=frame,
        provenance=provenance,
    )


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
