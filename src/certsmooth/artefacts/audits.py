"""What audits found, on disk: broken certificates as `certsmooth.artefacts.counts`, the cost of the order as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from certsmooth.artefacts.counts import CountsTable
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.provenance import MadeBy, made_by
from certsmooth.science.audit.answers import Answers
from certsmooth.science.audit.order import OrderCost

ORDER = Form("cost of the order 2", "make it again")


@dataclass(frozen=True)
class Broken(Answers, CountsTable):
    """`certsmooth.science.audit.answers.Answers`, as a file."""

    form: ClassVar[Form] = Form("broken certificates 3", "make it again")


@dataclass(frozen=True)
class OrderPart:
    """What an order costs one run, and what that is about, as JSON holds it."""

    cost: OrderCost
    identity: dict[str, Any]


@dataclass(frozen=True)
class _OrderRecord:
    parts: list[OrderPart]
    made_by: MadeBy


def write_order_costs(path: Path, parts: Sequence[OrderPart]) -> None:
    """Write what orders cost, and what computed it, as JSON.

    Raises:
        CountsError: the file cannot be written.
    """
    ORDER.write_json(path, asdict(_OrderRecord(list(parts), made_by())))


def read_order_cost(path: Path, *, expect: Mapping[str, Any]) -> OrderCost:
    """Read what `write_order_costs` wrote of one run.

    Args:
        path: the file.
        expect: entries that the identity must have, each whole.

    Raises:
        CountsError: missing or damaged, or an entry differs; the message names it and both values.
    """
    parts = ORDER.decoded(_OrderRecord, path, ORDER.read_json(path)).parts
    return parts[ORDER.find(path, [part.identity for part in parts], expect)].cost
