"""Compare certificates with what attacks found: a table, and the figure beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from certsmooth.analysis.empirical import build_empirical, write_empirical
from certsmooth.analysis.empirical_result import ShownAttack
from certsmooth.analysis.soundness import AttackedRun
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.records import read_log
from certsmooth.experiment.config import AttackChoice, EmpiricalTable, Params
from certsmooth.experiment.runs import CertificationRun, attack_slice, table_choice, table_runs
from certsmooth.experiment.steps.table import read_run
from certsmooth.report.figures.empirical import write_empirical_curves


def attack_path(results: Path, table: str, attack: str, run: CertificationRun) -> Path:
    """Return where the counts of an attack on a run lie."""
    return results / "attacks" / table / run.folder / f"{attack}.parquet"


def make_empirical(params: Params, name: str, *, results: Path) -> None:
    """Write a table of certified against empirical accuracy as Markdown, CSV and JSON, and its figure as SVG and PNG.

    Args:
        params: the configuration.
        name: a key of ``tables``.
        results: folder that holds ``certificates`` and ``attacks``; the table goes to ``tables`` in it, the figure to
            ``figures`` there.

    Raises:
        CountsError: certificates or attacks are missing, damaged, or of something else.
    """
    table = params.of_kind(EmpiricalTable)[name]
    runs = [_read(params, name, run, results) for run in table_runs(params, name)]
    result = build_empirical(
        runs,
        name=name,
        title=table.title,
        radii=table_choice(params, name).radii,
        attacks=[_shown(key, choice) for key, choice in table.attacks.items()],
        alpha=table.predict.alpha,
    )
    folder = results / "tables"
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    write_empirical_curves(result, [attacked.run for attacked in runs], figures)
    write_empirical(result, folder, figure=f"figures/{name}.svg")


def _shown(key: str, choice: AttackChoice) -> ShownAttack:
    options = ", ".join(f"{name} {value}" for name, value in choice.attack.options.items())
    description = f"`{choice.attack.name}`" + (f" ({options})" if options else "")
    return ShownAttack(key, choice.label, description, choice.samples)


def _read(params: Params, name: str, run: CertificationRun, results: Path) -> AttackedRun:
    """Read the certificates of a run and all attacks on it, and keep the images that were attacked."""
    certified = read_run(params, run, "test", results=results)
    counts: dict[str, AttackCounts] = {}
    provenance: dict[str, dict[str, Any]] = {}
    for attack in params.of_kind(EmpiricalTable)[name].attacks:
        path = attack_path(results, name, attack, run)
        expect = attack_slice(params, name, attack, run) | {
            key: certified.provenance[key] for key in ("dataset", "fingerprint", "checkpoint")
        }
        counts[attack], identity = AttackCounts.read(path, expect=expect)
        provenance[attack] = identity | read_log(path).summary()
    attacked = {int(i) for each in counts.values() for i in each.index}
    frame = certified.frame[certified.frame["idx"].isin(attacked)]
    return AttackedRun(replace(certified, frame=frame), counts, provenance)
