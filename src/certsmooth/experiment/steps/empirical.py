"""Compare certificates with what attacks found: a table, and the figure beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from certsmooth.analysis.empirical import build_empirical, write_empirical
from certsmooth.analysis.empirical_result import ShownAttack
from certsmooth.analysis.soundness import AttackedRun
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.records import read_logs
from certsmooth.experiment.config import AttackChoice
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import CertificationRun, table_choice, table_runs
from certsmooth.experiment.specs import audit_path
from certsmooth.experiment.steps.certified import Certified, attack_provenance
from certsmooth.report.figures.empirical import write_empirical_curves


def make_empirical(experiment: Experiment, name: str, *, results: Path) -> None:
    """Write a table of certified against empirical accuracy as Markdown, CSV and JSON, and its figure as SVG and PNG.

    Args:
        experiment: all that is asked for.
        name: a key of ``attacks``.
        results: folder that holds ``certificates`` and ``attacks``; the table goes there, the figure to ``figures``.

    Raises:
        CountsError: certificates or attacks are missing, damaged, or of something else.
    """
    params, certified = experiment.params, Certified(experiment, results)
    table = params.attacks[name]
    runs = [_read(certified, name, run) for run in table_runs(params, name)]
    result = build_empirical(
        runs,
        name=name,
        title=table.title,
        radii=table_choice(params, name).radii,
        attacks=[_shown(key, choice) for key, choice in table.attacks.items()],
        alpha=table.predict.alpha,
    )
    figures = results / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    write_empirical_curves(result, [attacked.run for attacked in runs], figures)
    write_empirical(result, results, figure=f"figures/{name}.svg")


def _shown(key: str, choice: AttackChoice) -> ShownAttack:
    options = ", ".join(f"{name} {value}" for name, value in choice.attack.options.items())
    description = f"`{choice.attack.name}`" + (f" ({options})" if options else "")
    return ShownAttack(key, choice.label, description, choice.samples)


def _read(certified: Certified, table: str, run: CertificationRun) -> AttackedRun:
    """Read the certificates of a run and all attacks on it, and keep the images that were attacked."""
    found, experiment = certified.run(run, "test"), certified.experiment
    counts: dict[str, AttackCounts] = {}
    provenance: dict[str, dict[str, Any]] = {}
    for attack in experiment.params.attacks[table].attacks:
        batch = experiment.attacks(table, attack, run.dataset, run.method)
        path = certified.results / audit_path(table, batch.name, f"{attack}.parquet")
        same = {key: found.provenance[key] for key in ("fingerprint", "checkpoint")}
        spec = experiment.attack(table, attack, run)
        counts[attack], identity, place = AttackCounts.read(path, expect={"spec": spec.identity, **same})
        provenance[attack] = attack_provenance(spec, identity, read_logs(path)[place])
    attacked = {int(i) for each in counts.values() for i in each.index}
    frame = found.frame[found.frame["idx"].isin(attacked)]
    return AttackedRun(replace(found, frame=frame), counts, provenance)
