"""What the certificates of several methods promise, what a memory's order costs, and how many an attack breaks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isclose
from pathlib import Path
from typing import Any

import numpy as np

from certsmooth._internal.checks import check_alpha
from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.empirical_result import AttackSource
from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.analysis.result import Source
from certsmooth.analysis.runs import SHARED, name_of
from certsmooth.analysis.soundness import contradiction_p_value
from certsmooth.analysis.soundness_result import Attacked, SoundnessResult, SoundnessRow
from certsmooth.artefacts.audits import Broken
from certsmooth.errors import ConfigError, CountsError
from certsmooth.report.files import write_result
from certsmooth.report.soundness_markdown import ORDERS, render
from certsmooth.science.audit.break_certificates import KINDS
from certsmooth.science.audit.order import OrderCost
from certsmooth.science.certificates import ABSTAIN, Guarantee, Norm, cohen


@dataclass(frozen=True)
class AuditedRun:
    """The certificates of one run, and what its audits found.

    Attributes:
        run: on the test part.
        norm: of its radii.
        before: what its certificates promise without a memory.
        order: what a memory's order costs.
        broken: what the attack on the certificates without a memory found.
        provenance: how it was made: its identity, and ``seconds``.
    """

    run: CertifiedRun
    norm: Norm
    before: Guarantee
    order: OrderCost
    broken: Broken
    provenance: Mapping[str, Any]


def build_soundness(runs: Sequence[AuditedRun], *, name: str, title: str, alpha: float) -> SoundnessResult:
    """Collect guarantees, conflicts, the cost of the order and broken certificates; a row per run, in the order given.

    Args:
        runs: of any methods, settings and training seeds, on the same data.
        name: stem of the files.
        title: heading.
        alpha: of PREDICT.

    Raises:
        ConfigError: there are no runs, a run is given twice, or alpha is not in (0, 1).
        CountsError: runs are not about the same data or radii, attacks were not made alike, or an audit is not of the
            certificates of its run.
    """
    alpha = check_alpha(alpha)
    if not runs:
        raise ConfigError(f"{name}: no runs; a table needs at least one")
    _check_alike(runs)
    for audited in runs:
        _check_audits(audited)
    return SoundnessResult(
        name=name,
        title=title,
        dataset=str(runs[0].run.provenance["dataset"]),
        radii=runs[0].order.radii,
        n=int(runs[0].provenance["plan"]["n"]),
        alpha=alpha,
        rows=tuple(_row(audited, alpha) for audited in runs),
        sources=tuple(Source.of(each.run) for each in runs),
        attack_sources=tuple(AttackSource(*_setting(each.run), "break", dict(each.provenance)) for each in runs),
    )


def _setting(run: CertifiedRun) -> tuple[str, float, dict[str, int | float | str], int]:
    return run.label, run.sigma, dict(run.variant), run.seed


def _check_alike(runs: Sequence[AuditedRun]) -> None:
    names = [name_of(audited.run) for audited in runs]
    for i, (audited, run_name) in enumerate(zip(runs, names, strict=True)):
        if run_name in names[:i]:
            raise ConfigError(f"{run_name}: given twice; must be one run per method, sigma, variant and seed")
        found, first = (
            {key: each.run.provenance[key] for key in SHARED}
            | {"radii": each.order.radii, "stride": each.provenance["stride"]}
            | {key: each.provenance["plan"][key] for key in ("n", "seed", "steps", "samples", "screen")}
            for each in (audited, runs[0])
        )
        for key, value in found.items():
            if value != first[key]:
                raise CountsError(f"{run_name}: {key} is {value}, but {first[key]} for {names[0]}; must be the same")


def _check_audits(audited: AuditedRun) -> None:
    """Raise CountsError unless the audits are of the certificates of the run."""
    frame, order, broken = audited.run.frame, audited.order, audited.broken
    score = order.without if audited.run.provenance["memory"] is None else order.given
    acr = float((frame["radius"] * frame["correct"]).mean())
    if order.images != len(frame) or not isclose(score.acr, acr, rel_tol=1e-9, abs_tol=1e-12):
        raise CountsError(
            f"{name_of(audited.run)}: cost of the order: {order.images} images with ACR {score.acr}; must be the "
            f"{len(frame)} certified ones with {acr}: make it again"
        )
    radius = frame.set_index("idx")["radius_before_memory"].reindex(broken.index).to_numpy()
    if not np.array_equal(radius, broken.radius):
        raise CountsError(f"{name_of(audited.run)}: the attack was on other radii; must be these: attack again")


def _row(audited: AuditedRun, alpha: float) -> SoundnessRow:
    run = audited.run
    return SoundnessRow(
        *_setting(run),
        norm=audited.norm,
        before=audited.before,
        after=tuple(run.frame["guarantee"].unique()),
        order=audited.order,
        attacked=_attacked(audited, alpha),
    )


def _attacked(audited: AuditedRun, alpha: float) -> Attacked:
    broken, frame = audited.broken, audited.run.frame
    images, count = ceil(len(frame) / audited.provenance["stride"]), len(broken)
    answers = cohen.predict(broken.counts, alpha=alpha) if count else np.zeros(0, np.int64)
    other = (answers != ABSTAIN) & (answers != broken.predict)
    total = int(other.sum())
    lower, upper = accuracy_interval(total / count, count) if count else (0.0, 1.0)
    expected = images * float(frame["alpha"].iloc[0]) + count * alpha
    return Attacked(
        images=images,
        certificates=count,
        broken=total,
        lower=100 * lower,
        upper=100 * upper,
        abstained=int((answers == ABSTAIN).sum()),
        false_alarms=count * alpha,
        p_value=contradiction_p_value(total, images=images, expected=expected),
        kinds={kind: int((other & (broken.kind == place)).sum()) for place, kind in enumerate(KINDS)},
        candidates=int(broken.candidates.max(initial=0)),
    )


_SETTING = ("table", "dataset", "norm", "method", "sigma", "variant", "training_seed", "before", "after")
_VALUE = ("metric", "order", "radius", "value", "unit", "lower", "upper")
_CERTIFIED = ("fingerprint", "images", "n0", "n", "alpha", "seed", "device", "seconds")
_CSV_COLUMNS = (
    *_SETTING,
    *_VALUE,
    *_CERTIFIED,
    *(f"attack_{key}" for key in ("n", "alpha", "seed", "device", "seconds")),
)


def write_soundness(result: SoundnessResult, folder: Path) -> tuple[Path, Path, Path]:
    """Write a table to a folder by `certsmooth.report.files.write_result`; its stem is the table's name.

    Args:
        result: the table.
        folder: must exist.
    """
    return write_result(folder / result.name, result, markdown=render(result), values=_csv(result))


def _csv(result: SoundnessResult) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row, source, attack in zip(result.rows, result.sources, result.attack_sources, strict=True):
        shared: dict[str, Any] = {
            "table": result.name,
            "dataset": result.dataset,
            "norm": row.norm,
            "method": row.method,
            "sigma": row.sigma,
            "variant": " ".join(f"{key}={value}" for key, value in row.variant.items()),
            "training_seed": row.seed,
            "before": row.before,
            "after": " ".join(row.after),
            "attack_n": result.n,
            "attack_alpha": result.alpha,
            "attack_seed": attack.provenance["plan"]["seed"],
            "attack_device": attack.provenance["device"],
            "attack_seconds": attack.provenance["seconds"],
        }
        shared |= {key: source.provenance[key] for key in _CERTIFIED}
        for value in _values(row):
            writer.writerow(shared | value)
    return text.getvalue()


def _values(row: SoundnessRow) -> Iterator[dict[str, Any]]:
    """Yield every number of a row."""
    found = row.attacked
    yield {"metric": "conflicts", "value": row.order.conflicts, "unit": "pairs"}
    for metric in ("certificates", "broken", "abstained", "false_alarms"):
        yield {"metric": metric, "value": getattr(found, metric), "unit": "certificates"}
    if found.certificates:
        share = 100 * found.broken / found.certificates
        yield {"metric": "broken_share", "value": share, "unit": "percent", "lower": found.lower, "upper": found.upper}
    yield {"metric": "p_value", "value": found.p_value}
    for order in ORDERS:
        score = getattr(row.order, order)
        for radius, accuracy in zip(row.order.radii, score.accuracy, strict=True):
            value = {"radius": radius, "value": 100 * accuracy, "unit": "percent"}
            yield {"metric": "certified_accuracy", "order": order} | value
        yield {"metric": "acr", "order": order, "value": score.acr, "unit": f"{row.norm} radius"}
