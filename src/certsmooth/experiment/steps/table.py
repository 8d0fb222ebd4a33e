"""A table of any kind, and the figure beside it, from the certificates that it compares."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from certsmooth._internal.storage import atomic_write
from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.accuracy import Column, accuracy_table
from certsmooth.analysis.certified import certified_table
from certsmooth.analysis.contradictions import AttackedRun
from certsmooth.analysis.empirical import ShownAttack, empirical_table
from certsmooth.analysis.published import published_datasets
from certsmooth.analysis.result import TableResult, records
from certsmooth.analysis.soundness import AuditedRun, soundness_table
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.audits import Broken, read_order_cost
from certsmooth.artefacts.records import read_log, read_record
from certsmooth.errors import ConfigError
from certsmooth.experiment.config import AccuracyTable, AttackChoice, EmpiricalTable, Params, Published, SoundnessTable
from certsmooth.experiment.config import Table as CertifiedTable
from certsmooth.experiment.members import certificate_of
from certsmooth.experiment.runs import (
    PARTS,
    CertificationRun,
    attack_slice,
    break_slice,
    table_choice,
    table_runs,
)
from certsmooth.experiment.steps.read_run import read_run
from certsmooth.report.figures.accuracy_curves import write_accuracy_curves
from certsmooth.report.figures.curves import write_curves
from certsmooth.report.figures.empirical import write_empirical_curves
from certsmooth.report.render import write_table
from certsmooth.science.certificates import guarantee, linf_radius
from certsmooth.science.theory.pixel_grid import grid_of

Draw = Callable[[Path], object]
"""Writes the figure of a table to a folder."""


def make_table(params: Params, name: str, *, results: Path) -> Path:
    """Write a table as Markdown, CSV and JSON, and its figure, if its kind has one, as SVG and PNG.

    Args:
        params: the configuration.
        name: a key of ``tables``, ``attacks``, ``idrs`` or ``soundness``.
        results: folder that holds ``certificates``, ``attacks`` and ``audit``; the table goes there (one of ``idrs`` to
            ``idrs`` in it), the figure to ``figures`` in it, and what `dvc metrics` and `dvc plots` compare to
            ``metrics`` and ``plots``.

    Returns:
        The path of the Markdown file.

    Raises:
        ConfigError: certificates of the table are about several norms.
        CountsError: certificates, attacks or audits are missing, damaged, or of something else.
    """
    folder = Path("idrs") if name in params.idrs else Path()
    makers: dict[type, Callable[..., tuple[TableResult, Draw | None]]] = {
        CertifiedTable: _certified,
        EmpiricalTable: _empirical,
        AccuracyTable: _accuracy,
        SoundnessTable: _soundness,
    }
    sections: tuple[Mapping[str, Any], ...] = (params.tables, params.attacks, params.idrs, params.soundness)
    table = next(section[name] for section in sections if name in section)
    result, draw = makers[type(table)](params, name, table, results)
    figures = results / "figures" / folder
    for each in (results / folder, figures) if draw else (results / folder,):
        each.mkdir(parents=True, exist_ok=True)
    if draw:
        draw(figures)
    up = "../" * len(folder.parts)
    figure = (Path(up) / "figures" / folder / f"{name}.svg").as_posix() if draw else None
    markdown, *_ = write_table(result, results / folder, figure=figure)
    if result.kind == "certified":
        _write_metrics(result, results)
    return markdown


def attack_path(results: Path, table: str, attack: str, run: CertificationRun) -> Path:
    """Return where the counts of an attack on a run lie."""
    return results / "attacks" / table / run.folder / f"{attack}.parquet"


def _certified(params: Params, name: str, table: CertifiedTable, results: Path) -> tuple[TableResult, Draw]:
    about = table_choice(params, name)
    dataset = read_record(results / "data" / f"{about.dataset}.json")["name"]
    runs = [read_run(params, run, part, results=results) for run in table_runs(params, name) for part in PARTS]
    if table.norm == "linf":
        runs = [_in_linf(run) for run in runs]
    norm = table.norm or _norm(name, runs)
    result = certified_table(
        runs,
        name=name,
        title=table.title,
        radii=about.radii,
        baseline_method=table.baseline,
        published=_published(table.published, dataset),
        norm=norm,
        data=dataset,
    )
    return result, lambda folder: write_curves(runs, folder, name=name, title=table.title, norm=norm)


def _in_linf(run: CertifiedRun) -> CertifiedRun:
    """Return a run with the l-infinity radii that its certificates imply."""
    norm, dimension = run.provenance["norm"], run.provenance["dimension"]
    radii = {
        column: linf_radius(run.frame[column].to_numpy(), norm=norm, dimension=dimension)
        for column in ("radius", "radius_before_memory")
    }
    return replace(run, frame=run.frame.assign(**radii))


def _norm(name: str, runs: Sequence[CertifiedRun]) -> str:
    norms = {run.provenance["norm"]: run.method for run in runs}
    if len(norms) > 1:
        raise ConfigError(f"tables.{name}.methods: radii of {norms}; must be of one norm, or norm: linf")
    (norm,) = norms
    return str(norm)


def _published(chosen: Published | None, dataset: str) -> tuple[str, int, str] | None:
    """Return the published table of this data set, or of the one that is shown instead."""
    if chosen is None:
        return None
    known = published_datasets(chosen.paper, chosen.table)
    return chosen.paper, chosen.table, dataset if dataset in known else chosen.dataset


def _accuracy(params: Params, name: str, table: AccuracyTable, results: Path) -> tuple[TableResult, Draw]:
    columns: dict[Column, list[CertifiedRun]] = {}
    for run in table_runs(params, name):
        columns.setdefault(Column(run.dataset, run.sigma), []).append(read_run(params, run, "test", results=results))
    published = [(each.paper, each.table) for each in table.published]
    result = accuracy_table(columns, name=name, title=table.title, baseline_method=table.baseline, published=published)
    return result, lambda folder: write_accuracy_curves(columns, folder, name=name, title=table.title)


def _empirical(params: Params, name: str, table: EmpiricalTable, results: Path) -> tuple[TableResult, Draw]:
    runs = [_attacked(params, name, run, results) for run in table_runs(params, name)]
    result = empirical_table(
        runs,
        name=name,
        title=table.title,
        radii=table_choice(params, name).radii,
        attacks=[_shown(key, choice) for key, choice in table.attacks.items()],
        alpha=table.predict.alpha,
    )
    return result, lambda folder: write_empirical_curves(result, [attacked.run for attacked in runs], folder)


def _shown(key: str, choice: AttackChoice) -> ShownAttack:
    options = ", ".join(f"{name} {value}" for name, value in choice.attack.options.items())
    description = f"`{choice.attack.name}`" + (f" ({options})" if options else "")
    return ShownAttack(key, choice.label, description, choice.samples)


def _attacked(params: Params, name: str, run: CertificationRun, results: Path) -> AttackedRun:
    """Read the certificates of a run and all attacks on it, and keep the images that were attacked."""
    certified = read_run(params, run, "test", results=results)
    counts: dict[str, AttackCounts] = {}
    provenance: dict[str, dict[str, Any]] = {}
    for attack in params.attacks[name].attacks:
        path = attack_path(results, name, attack, run)
        expect = attack_slice(params, name, attack, run) | _certified_from(certified)
        counts[attack], identity = AttackCounts.read(path, expect=expect)
        provenance[attack] = identity | read_log(path).summary()
    attacked = {int(i) for each in counts.values() for i in each.index}
    frame = certified.frame[certified.frame["idx"].isin(attacked)]
    return AttackedRun(replace(certified, frame=frame), counts, provenance)


def _certified_from(run: CertifiedRun) -> dict[str, Any]:
    """Return what attacks on certificates and the certificates must both be of."""
    return {key: run.provenance[key] for key in ("dataset", "fingerprint", "checkpoint")}


def _soundness(params: Params, name: str, table: SoundnessTable, results: Path) -> tuple[TableResult, None]:
    runs = [_audited(params, name, run, results) for run in table_runs(params, name)]
    return soundness_table(runs, name=name, title=table.title, alpha=table.predict.alpha), None


def _audited(params: Params, name: str, run: CertificationRun, results: Path) -> AuditedRun:
    """Read the certificates of a run and what its audits found."""
    certified, certificate = read_run(params, run, "test", results=results), certificate_of(params, run.method)
    semi_elasticity, grid = certified.provenance["semi_elasticity"], grid_of(certified.provenance["step"])
    folder = results / "audit" / name / run.folder
    path, settings = folder / "broken.parquet", break_slice(params, name, run)
    expect = {key: settings[key] for key in ("policy", "certificate", "stride")} | _certified_from(certified)
    broken, identity = Broken.read(path, expect=expect)
    return AuditedRun(
        run=certified,
        norm=certificate.norm,
        before=guarantee(certificate, None if semi_elasticity is None else float(semi_elasticity), grid),
        order=read_order_cost(folder / "order.json"),
        broken=broken,
        provenance=identity | read_log(path).summary(),
    )


def _write_metrics(result: TableResult, results: Path) -> None:
    """Write the rows whose settings were chosen on the validation part, as numbers and as curves, for DVC."""
    values, curve = result.values, "certified accuracy (percent)"
    honest = values[values["selected_on"] == "validation"]
    shown = values[values["selected_on"] == "test"] if honest.empty else honest
    metrics: dict[str, dict[str, float]] = {}
    for row in records(shown):
        metrics.setdefault(row["method"].replace(".", "_"), {})[_metric(row["radius"])] = row["value"]
    curves = shown[shown["metric"] != "acr"][["method", "radius", "value"]]
    curves = curves.rename(columns={"method": "row", "value": curve})
    for path, text in (
        (results / "metrics" / f"{result.name}.json", json.dumps(metrics, indent=2)),
        (results / "plots" / f"{result.name}.csv", curves.to_csv(index=False, float_format="%.6g").rstrip()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(f"{text}\n".encode())


def _metric(radius: float | None) -> str:
    """Return a key without dots, which DVC would take for a path."""
    return "acr" if radius is None else f"certified_accuracy_{radius:g}".replace(".", "_")
