"""What certificates promise, what a memory's order costs, and which certificates are broken: a table."""

from __future__ import annotations

from pathlib import Path

from certsmooth.analysis.soundness_table import AuditedRun, build_soundness, write_soundness
from certsmooth.artefacts.audits import Broken, read_order_cost
from certsmooth.artefacts.records import read_logs
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import CertificationRun, table_runs
from certsmooth.experiment.specs import audit_path
from certsmooth.experiment.steps.certified import Certified, attack_provenance
from certsmooth.experiment.steps.certify import certificate_of
from certsmooth.science.certificates import guarantee
from certsmooth.science.theory.pixel_grid import grid_of


def make_soundness(experiment: Experiment, name: str, *, results: Path) -> None:
    """Write a table of ``soundness`` as Markdown, CSV and JSON.

    Args:
        experiment: all that is asked for.
        name: a key of ``soundness``.
        results: folder that holds ``certificates`` and ``audit``; the table goes there.

    Raises:
        CountsError: certificates or audits are missing, damaged, or of something else.
    """
    table, certified = experiment.params.soundness[name], Certified(experiment, results)
    runs = [_read(certified, name, run) for run in table_runs(experiment.params, name)]
    write_soundness(build_soundness(runs, name=name, title=table.title, alpha=table.predict.alpha), results)


def _read(certified: Certified, table: str, run: CertificationRun) -> AuditedRun:
    found, experiment = certified.run(run, "test"), certified.experiment
    certificate = certificate_of(experiment.certify(run, "test"))
    semi_elasticity = found.provenance["semi_elasticity"]
    name = experiment.breakings(table, run.dataset, run.method).name
    path, order = (certified.results / audit_path(table, name, file) for file in ("broken.parquet", "order.json"))
    same = {key: found.provenance[key] for key in ("fingerprint", "checkpoint")}
    spec = experiment.breaking(table, run)
    broken, identity, place = Broken.read(path, expect={"spec": spec.identity, **same})
    expect = {"spec": experiment.order(table, run).identity, "checkpoint": same["checkpoint"]}
    return AuditedRun(
        run=found,
        norm=certificate.norm,
        before=guarantee(
            certificate,
            None if semi_elasticity is None else float(semi_elasticity),
            grid_of(found.provenance["step"]),
        ),
        order=read_order_cost(order, expect=expect),
        broken=broken,
        provenance=attack_provenance(spec, identity, read_logs(path)[place]),
    )
