"""What the memory's order costs, from stored counts: no sampling, no base classifier."""

from __future__ import annotations

from pathlib import Path

from certsmooth._internal.storage import exclusive
from certsmooth.artefacts.audits import OrderPart, write_order_costs
from certsmooth.artefacts.records import read_record
from certsmooth.errors import CountsError
from certsmooth.experiment.specs import Batch, OrderSpec, audit_path
from certsmooth.experiment.steps.certify import arrival, certificates_of, images_at
from certsmooth.experiment.steps.gathered import Counted
from certsmooth.science.audit.order import order_cost


def cost_orders(table: str, batch: Batch[OrderSpec], *, results: Path) -> None:
    """Write what the memory costs each run of a method, by the order of arrival: JSON, `certsmooth.artefacts.audits`.

    Args:
        table: that asks.
        batch: the runs.
        results: the folder of the results.

    Raises:
        CountsError: counts that are missing, damaged, incomplete, or of something else.
    """
    output, counted = results / audit_path(table, batch.name, "order.json"), Counted(results)
    with exclusive(output, error=CountsError):
        write_order_costs(output, [_cost(spec, counted, results) for spec in batch.parts])


def _cost(spec: OrderSpec, counted: Counted, results: Path) -> OrderPart:
    certified, sampled = spec.certified, spec.certified.sampled
    record = read_record(results / sampled.base.data.path, spec=sampled.base.data.identity)
    found = certificates_of(certified, counted, record)
    gathered, bound = found.gathered, found.bound
    cost = order_cost(
        images_at(sampled, record, gathered.counts.index),
        bound.predict,
        bound.radius,
        gathered.counts.label,
        order=arrival(certified, len(gathered.counts)),
        radii=spec.radii,
        shuffles=spec.shuffles,
        seed=certified.seed,
        norm=found.norm,
    )
    about = {key: gathered.identity[key] for key in ("fingerprint", "checkpoint")}
    return OrderPart(cost, {"spec": spec.identity, **about, **found.of_experts})
