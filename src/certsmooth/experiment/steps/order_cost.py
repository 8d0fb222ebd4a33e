"""What the memory's order costs, from stored counts: no sampling, no base classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from certsmooth.artefacts.audits import write_order_cost
from certsmooth.experiment.steps.certify import ImagesAt, Order, gather_bound
from certsmooth.science.audit.order import order_cost
from certsmooth.science.certificates import Certificate
from certsmooth.science.memory import shuffled_order


def cost_order(
    counts_paths: Sequence[Path],
    *,
    certificate: Certificate,
    alpha: float,
    expect: Mapping[str, Any],
    record: Path,
    memory: Order,
    images_at: ImagesAt,
    radii: Sequence[float],
    shuffles: int,
    output: Path,
) -> None:
    """Write what the memory costs one run, by the order of arrival.

    The first arguments are those of `certsmooth.experiment.steps.certify.certify_counts`.

    Args:
        counts_paths: one file per shard.
        certificate: what to compute before the memory pass.
        alpha: each certificate is wrong with at most this probability.
        expect: what the counts' identity must say.
        record: the data set's record.
        memory: the given order; the shuffles are other orders, of streams of the same seed.
        images_at: where the memory pass gets pixels from.
        radii: at which certified accuracy is given.
        shuffles: random orders, at least 1.
        output: JSON, `certsmooth.artefacts.audits`.

    Raises:
        CountsError: counts that are damaged, incomplete, or of something else.
    """
    counts, _, bound = gather_bound(counts_paths, certificate=certificate, alpha=alpha, expect=expect, record=record)
    cost = order_cost(
        images_at(counts.index),
        bound.predict,
        bound.radius,
        counts.label,
        order=shuffled_order(len(counts), seed=memory.seed),
        radii=radii,
        shuffles=shuffles,
        seed=memory.seed,
        norm=certificate.norm,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_order_cost(output, cost)
