"""A table of any kind, and the figure beside it, from the certificates that it compares."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
from certsmooth.artefacts.records import Log, read_logs, read_record
from certsmooth.errors import ConfigError, CountsError
from certsmooth.experiment.config import (
    AccuracyTable,
    AttackChoice,
    CertifiedTable,
    EmpiricalTable,
    Published,
    SoundnessTable,
    rows_of,
)
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import CertificationRun, published_runs, table_choice, table_record, table_runs
from certsmooth.experiment.specs import SPLITS, AttackSpec, BreakSpec, audit_path, certificates_path
from certsmooth.experiment.steps.certified import Certified
from certsmooth.experiment.steps.certify import certificate_of
from certsmooth.report.figures.curves import accuracy_curves, certified_curves, empirical_curves, p_a_curves
from certsmooth.report.figures.panels import write_figure
from certsmooth.report.render import where, write_table
from certsmooth.science.certificates import Certificate, Guarantee, guarantee, linf_radius
from certsmooth.science.theory.pixel_grid import grid_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draws = Mapping[str, Callable[[], "Figure"]]
"""Draws each figure of a table, by its folder below that of the figures."""


def make_table(experiment: Experiment, name: str, *, results: Path) -> Path:
    """Write a table as Markdown, CSV and JSON, and its figures, if its kind has some, as SVG and PNG.

    Args:
        experiment: all that is asked for.
        name: a key of ``tables``.
        results: folder that holds ``certificates`` and ``audits``; the table goes to its ``tables``, the figures to
            ``tables/figures``, and what `dvc metrics` and `dvc plots` compare to ``metrics`` and ``plots``.

    Returns:
        The path of the Markdown file.

    Raises:
        ConfigError: certificates of the table are about several norms.
        CountsError: certificates, attacks or audits are missing, damaged, or of something else.
    """
    makers: dict[type, Callable[..., tuple[TableResult, Draws]]] = {
        CertifiedTable: _certified,
        EmpiricalTable: _empirical,
        AccuracyTable: _accuracy,
        SoundnessTable: _soundness,
    }
    for batch in experiment.all_certificates(name):
        if not (path := results / certificates_path(batch.name)).is_file():
            raise CountsError(f"{path}: not there; `snakemake results/{name}.md` makes it, and the table")
    table, folder = experiment.params.tables[name], results / "tables"
    result, draws = makers[type(table)](Certified(experiment, results), name, table)
    folder.mkdir(parents=True, exist_ok=True)
    for place, draw in draws.items():
        (folder / "figures" / place).mkdir(parents=True, exist_ok=True)
        write_figure(draw, folder / "figures" / place, name=name)
    markdown, *_ = write_table(result, folder, figure=f"figures/{name}.svg" if draws else None)
    if result.kind == "certified":
        _write_metrics(result, results)
    return markdown


def _certified(certified: Certified, name: str, table: CertifiedTable) -> tuple[TableResult, Draws]:
    params = certified.experiment.params
    about = table_choice(params, name)
    record, member = _record(certified, name), params.datasets[about.dataset].member
    dataset = str(record.get("name", member or about.dataset))
    ours = [certified.run(run, split) for run in table_runs(params, name) for split in SPLITS]
    runs = _in_order(table, params.dataset, [*ours, *map(certified.published, published_runs(params, name))])
    if table.norm == "linf":
        runs = [_in_linf(run, math.prod(record["image_shape"])) for run in runs]
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
    theirs = records(where(result.values, kind="published", metric="certified_accuracy"))
    return result, {
        "": lambda: certified_curves(
            runs,
            title=table.title,
            norm=norm,
            baseline=result.about["baseline"],
            published=[row for row in theirs if row["dataset"] == dataset],
        ),
        "p_a": lambda: p_a_curves(runs, title=table.title),
    }


def _record(certified: Certified, name: str) -> dict[str, Any]:
    """Return the record of the data that a table is about; nothing if it needs none."""
    if (dataset := table_record(certified.experiment.params, name)) is None:
        return {}
    data = certified.experiment.data(dataset)
    return read_record(certified.results / data.path, spec=data.identity)


def _in_order(table: CertifiedTable | AccuracyTable, dataset: str, runs: Sequence[CertifiedRun]) -> list[CertifiedRun]:
    """Return runs in the order of the rows of a table, if params.yaml chooses this data set."""
    methods = rows_of(table, dataset)
    return sorted(runs, key=lambda run: methods.index(run.method))


def _in_linf(run: CertifiedRun, dimension: int) -> CertifiedRun:
    """Return a run with the l-infinity radii that its certificates imply."""
    norm = run.provenance["norm"]
    radii = {
        column: linf_radius(run.frame[column].to_numpy(), norm=norm, dimension=dimension)
        for column in ("radius", "radius_before_memory")
        if column in run.frame
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


def _accuracy(certified: Certified, name: str, table: AccuracyTable) -> tuple[TableResult, Draws]:
    params = certified.experiment.params
    columns: dict[Column, list[CertifiedRun]] = {}
    for run in table_runs(params, name):
        columns.setdefault(Column(run.dataset, run.sigma), []).append(certified.run(run, "test"))
    for file in published_runs(params, name):
        columns.setdefault(Column(file.dataset, file.sigma), []).append(certified.published(file))
    columns = {column: _in_order(table, params.dataset, runs) for column, runs in columns.items()}
    published = [(each.paper, each.table) for each in table.published]
    result = accuracy_table(columns, name=name, title=table.title, baseline_method=table.baseline, published=published)
    return result, {"": lambda: accuracy_curves(columns, title=table.title)}


def _empirical(certified: Certified, name: str, table: EmpiricalTable) -> tuple[TableResult, Draws]:
    params = certified.experiment.params
    runs = [_attacked(certified, name, table, run) for run in table_runs(params, name)]
    result = empirical_table(
        runs,
        name=name,
        title=table.title,
        radii=table_choice(params, name).radii,
        attacks=[_shown(key, choice) for key, choice in table.attacks.items()],
        alpha=table.predict.alpha,
        fewer=table.predict.fewer,
    )
    return result, {"": lambda: empirical_curves(result, [attacked.run for attacked in runs])}


def _shown(key: str, choice: AttackChoice) -> ShownAttack:
    options = ", ".join(f"{name} {value}" for name, value in choice.attack.options.items())
    description = f"`{choice.attack.name}`" + (f" ({options})" if options else "")
    return ShownAttack(key, choice.label, description, choice.samples)


def _attacked(certified: Certified, name: str, table: EmpiricalTable, run: CertificationRun) -> AttackedRun:
    """Read the certificates of a run and all attacks on it, and keep the images that were attacked."""
    found, experiment = certified.run(run, "test"), certified.experiment
    counts: dict[str, AttackCounts] = {}
    provenance: dict[str, dict[str, Any]] = {}
    for attack in table.attacks:
        batch, spec = experiment.attacks(name, attack, run.dataset, run.method), experiment.attack(name, attack, run)
        path = certified.results / audit_path(name, batch.name, f"{attack}.parquet")
        counts[attack], identity, place = AttackCounts.read(path, expect={"spec": spec.identity, **_source(found)})
        provenance[attack] = _provenance(spec, identity, read_logs(path)[place])
    attacked = {int(i) for each in counts.values() for i in each.index}
    frame = found.frame[found.frame["idx"].isin(attacked)]
    return AttackedRun(replace(found, frame=frame), counts, provenance)


def _provenance(spec: AttackSpec | BreakSpec, identity: Mapping[str, Any], log: Log) -> dict[str, Any]:
    """Return how an attack was made, with what its spec says under the names that tables show."""
    return {"n": spec.n, "stride": spec.stride, "seed": spec.seed, **identity, **log.summary()}


def _source(run: CertifiedRun) -> dict[str, Any]:
    """Return what attacks on certificates and the certificates must both be of."""
    return {key: run.provenance[key] for key in ("fingerprint", "checkpoint", "experts") if key in run.provenance}


def _soundness(certified: Certified, name: str, table: SoundnessTable) -> tuple[TableResult, Draws]:
    runs = [_audited(certified, name, run) for run in table_runs(certified.experiment.params, name)]
    return soundness_table(runs, name=name, title=table.title, alpha=table.predict.alpha), {}


def _audited(certified: Certified, name: str, run: CertificationRun) -> AuditedRun:
    """Read the certificates of a run and what its audits found."""
    found, experiment = certified.run(run, "test"), certified.experiment
    certificate = certificate_of(experiment.certify(run, "test"))
    folder = experiment.breakings(name, run.dataset, run.method).name
    path, order = (certified.results / audit_path(name, folder, file) for file in ("broken.parquet", "order.json"))
    spec, source = experiment.breaking(name, run), _source(found)
    broken, identity, place = Broken.read(path, expect={"spec": spec.identity, **source})
    expect = {"spec": experiment.order(name, run).identity, **source}
    return AuditedRun(
        run=found,
        norm=certificate.norm,
        before=_before_memory(found, certificate),
        order=read_order_cost(order, expect=expect),
        broken=broken,
        provenance=_provenance(spec, identity, read_logs(path)[place]),
        router_alpha=spec.router_alpha or 0.0,
    )


def _before_memory(run: CertifiedRun, certificate: Certificate) -> Guarantee:
    """Return what the certificates of a run promise before any memory pass."""
    if run.provenance["memory"] is None:
        return cast(Guarantee, run.frame["guarantee"].iloc[0])
    semi_elasticity, grid = run.provenance["semi_elasticity"], grid_of(run.provenance["step"])
    return guarantee(certificate, None if semi_elasticity is None else float(semi_elasticity), grid)


def _write_metrics(result: TableResult, results: Path) -> None:
    """Write the rows whose settings were chosen on the validation split, as numbers and as curves, for DVC."""
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
