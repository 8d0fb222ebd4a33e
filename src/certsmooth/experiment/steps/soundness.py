"""What certificates promise, what a memory's order costs, and which certificates are broken: a table."""

from __future__ import annotations

from pathlib import Path

from certsmooth.analysis.soundness_table import AuditedRun, build_soundness, write_soundness
from certsmooth.artefacts.audits import Broken, read_order_cost
from certsmooth.artefacts.records import read_log
from certsmooth.experiment.config import Params, SoundnessTable
from certsmooth.experiment.members import certificate_of
from certsmooth.experiment.runs import CertificationRun, break_slice, table_runs
from certsmooth.experiment.steps.table import read_run
from certsmooth.science.certificates import guarantee
from certsmooth.science.theory.pixel_grid import grid_of


def make_soundness(params: Params, name: str, *, results: Path) -> None:
    """Write a table of what certificates promise as Markdown, CSV and JSON.

    Args:
        params: the configuration.
        name: a key of ``tables``.
        results: folder that holds ``certificates`` and ``audit``; the table goes to ``tables`` in it.

    Raises:
        CountsError: certificates or audits are missing, damaged, or of something else.
    """
    table = params.of_kind(SoundnessTable)[name]
    runs = [_read(params, name, run, results) for run in table_runs(params, name)]
    folder = results / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    write_soundness(build_soundness(runs, name=name, title=table.title, alpha=table.predict.alpha), folder)


def _read(params: Params, name: str, run: CertificationRun, results: Path) -> AuditedRun:
    certified = read_run(params, run, "test", results=results)
    certificate = certificate_of(params, run.method)
    semi_elasticity = certified.provenance["semi_elasticity"]
    folder = results / "audit" / name / run.folder
    path = folder / "broken.parquet"
    settings = break_slice(params, name, run)
    expect = {key: settings[key] for key in ("policy", "certificate", "stride")} | {
        key: certified.provenance[key] for key in ("dataset", "fingerprint", "checkpoint")
    }
    broken, identity = Broken.read(path, expect=expect)
    return AuditedRun(
        run=certified,
        norm=certificate.norm,
        before=guarantee(
            certificate,
            None if semi_elasticity is None else float(semi_elasticity),
            grid_of(certified.provenance["step"]),
        ),
        order=read_order_cost(folder / "order.json"),
        broken=broken,
        provenance=identity | read_log(path).summary(),
    )
