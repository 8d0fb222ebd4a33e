"""What the certificates of several methods promise, what a memory's order costs, and how many an attack breaks.

A certificate is broken if PREDICT, at the candidate that promised most, answers another class than the certified one;
an abstention does not break it. PREDICT is asked once per certificate, with noise that nothing else has seen: at most
``false_alarms`` of its answers are expected to be wrong. ``p_value`` is an upper bound on the probability of as many
broken ones if certificates are wrong no more often than their alpha. ``before`` and ``after`` are what certificates
promise without a memory and as reported. About a table: dataset, radii, n and alpha of PREDICT, and how many
shuffles. ``runs``: a column for each metric. ``kinds``: where certificates broke, by kind of candidate. ``methods``:
all runs of each. ``order``: the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isclose
from typing import Any

import numpy as np
from jaxtyping import Int

from certsmooth._internal.checks import check_alpha
from certsmooth.analysis import CertifiedRun, Record
from certsmooth.analysis.contradictions import contradiction_p_value
from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.analysis.result import TableResult, source, tidy
from certsmooth.analysis.runs import SHARED, check_alike, check_given_once, name_of, run_columns
from certsmooth.artefacts.audits import Broken
from certsmooth.errors import ConfigError, CountsError
from certsmooth.science.audit.answers import KINDS
from certsmooth.science.audit.order import OrderCost
from certsmooth.science.certificates import ABSTAIN, Guarantee, Norm, cohen

ORDERS = ("without", "given", "mean", "least", "most", "worst_found", "bound")
"""Scores of `certsmooth.science.audit.order.OrderCost`."""

_CERTIFIED = ("fingerprint", "images", "n0", "n", "alpha", "seed", "device", "seconds")
_COLUMNS = (
    *("table", "dataset", "norm", "method", "sigma", "grid", "training_seed", "before", "after"),
    *("metric", "order", "radius", "value", "unit", "lower", "upper", *_CERTIFIED),
    *(f"attack_{key}" for key in ("n", "alpha", "seed", "device", "seconds")),
)
_RUN = ("method", "sigma", "grid", "seed", "norm")
_RUNS = (
    *(*_RUN, "before", "after", "images", "conflicts", "certificates", "broken", "share", "lower", "upper"),
    *("abstained", "false_alarms", "candidates", "p_value"),
)
_ORDER = (*_RUN, "conflicts", "order", "metric", "radius", "value")
_KINDS = (*_RUN[:4], "kind", "broken")


@dataclass(frozen=True)
class AuditedRun:
    """The certificates of one run, and what its audits found.

    Attributes:
        run: on the test split.
        norm: of its radii.
        before: what its certificates promise without a memory.
        order: what a memory's order costs.
        broken: what the attack on the certificates without a memory found.
        provenance: how it was made: its identity, and ``seconds``.
        router_alpha: of PREDICT's alpha, what the router had that chose who was asked; the counts have the rest.
    """

    run: CertifiedRun
    norm: Norm
    before: Guarantee
    order: OrderCost
    broken: Broken
    provenance: Mapping[str, Any]
    router_alpha: float = 0.0


def soundness_table(runs: Sequence[AuditedRun], *, name: str, title: str, alpha: float) -> TableResult:
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
    certified = [audited.run for audited in runs]
    check_given_once(certified)
    check_alike(certified, [_told(audited) for audited in runs])
    for audited in runs:
        _check_audits(audited)
    first, rows = runs[0], [_row(audited, alpha) for audited in runs]
    found, dataset = tidy(rows, _RUNS), str(first.run.provenance["dataset"])
    sums = {key: (key, "sum") for key in ("conflicts", "certificates", "broken", "abstained", "false_alarms")}
    shared = {"table": name, "dataset": dataset, "attack_n": int(first.provenance["plan"]["n"]), "attack_alpha": alpha}
    return TableResult(
        kind="soundness",
        name=name,
        title=title,
        about={
            **{"dataset": dataset, "radii": [float(radius) for radius in first.order.radii], "alpha": alpha},
            **{"n": shared["attack_n"], "shuffles": first.order.shuffles},
        },
        values=tidy((shared | value for each in zip(runs, rows, strict=True) for value in _values(*each)), _COLUMNS),
        more={
            "runs": found,
            "kinds": tidy((row | kind for row in rows if row["broken"] for kind in row["kinds"]), _KINDS),
        },
        views={
            "methods": found.groupby(["method", "before", "after"], sort=False)
            .agg(runs=("seed", "size"), **sums)
            .reset_index(),
            "order": tidy(
                (row | score for row, each in zip(rows, runs, strict=True) for score in _scores(each.order)), _ORDER
            ),
        },
        sources=[source(run) for run in certified],
        attack_sources=[source(each.run, "break", each.provenance) for each in runs],
    )


def _told(audited: AuditedRun) -> Record:
    """Return what all runs must have in common."""
    return {
        **{key: audited.run.provenance[key] for key in SHARED["measured"]},
        **{"radii": audited.order.radii, "stride": audited.provenance["stride"]},
        **{key: audited.provenance["plan"][key] for key in ("n", "seed", "steps", "samples", "screen")},
    }


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


def _row(audited: AuditedRun, alpha: float) -> Record:
    """Return what is known about the certificates of one run."""
    broken, run = audited.broken, audited.run
    images, count = ceil(len(run.frame) / audited.provenance["stride"]), len(broken)
    answers = _answers(broken.counts, alpha=alpha - audited.router_alpha)
    other = (answers != ABSTAIN) & (answers != broken.predict)
    total = int(other.sum())
    lower, upper = accuracy_interval(total / count, count) if count else (0.0, 1.0)
    expected = images * float(run.frame["alpha"].iloc[0]) + count * alpha
    return {
        **run_columns(run),
        **{"norm": audited.norm, "before": audited.before, "after": ", ".join(run.frame["guarantee"].unique())},
        **{"images": audited.order.images, "conflicts": audited.order.conflicts},
        **{"certificates": count, "broken": total, "abstained": int((answers == ABSTAIN).sum())},
        **{"share": 100 * total / count if count else None, "lower": 100 * lower, "upper": 100 * upper},
        **{"false_alarms": count * alpha, "candidates": int(broken.candidates.max(initial=0))},
        "p_value": contradiction_p_value(total, images=images, expected=expected),
        "kinds": [
            {"kind": kind, "broken": int((other & (broken.kind == place)).sum())} for place, kind in enumerate(KINDS)
        ],
    }


def _answers(counts: Int[np.ndarray, "N k"], *, alpha: float) -> Int[np.ndarray, " N"]:
    """Return what PREDICT answers; where a router abstained, nobody was asked."""
    answers = np.full(len(counts), ABSTAIN)
    if (asked := counts.any(axis=1)).any():
        answers[asked] = cohen.predict(counts[asked], alpha=alpha)
    return answers


def _values(audited: AuditedRun, row: Record) -> Iterator[Record]:
    """Yield every number of a run."""
    attack, certified = audited.provenance, audited.run.provenance
    shared = {
        **{key: row[key] for key in ("norm", "method", "sigma", "grid", "before", "after")},
        **{"training_seed": row["seed"], "attack_seed": attack["plan"]["seed"]},
        **{f"attack_{key}": attack[key] for key in ("device", "seconds")},
        **{key: certified[key] for key in _CERTIFIED},
    }
    units = dict.fromkeys(("certificates", "broken", "abstained", "false_alarms"), "certificates")
    for metric, unit in {"conflicts": "pairs", **units}.items():
        yield {**shared, "metric": metric, "unit": unit, "value": float(row[metric])}
    if row["certificates"]:
        interval = {"value": row["share"], "lower": row["lower"], "upper": row["upper"]}
        yield {**shared, "metric": "broken_share", "unit": "percent", **interval}
    yield {**shared, "metric": "p_value", "value": row["p_value"]}
    for score in _scores(audited.order):
        unit = "percent" if score["metric"] == "certified_accuracy" else f"{audited.norm} radius"
        yield {**shared, **score, "unit": unit}


def _scores(cost: OrderCost) -> Iterator[Record]:
    """Yield certified accuracies and ACR under each order of arrival."""
    for order in ORDERS:
        score = getattr(cost, order)
        for radius, accuracy in zip(cost.radii, score.accuracy, strict=True):
            yield {"order": order, "metric": "certified_accuracy", "radius": float(radius), "value": 100 * accuracy}
        yield {"order": order, "metric": "acr", "radius": None, "value": score.acr}
