"""What audits found, on disk: broken certificates as `certsmooth.artefacts.counts`, the cost of the order as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from certsmooth._internal.storage import decode_record, read_json, write_json
from certsmooth.artefacts.counts import CountsTable
from certsmooth.artefacts.parts import find_part
from certsmooth.artefacts.provenance import MadeBy, made_by
from certsmooth.errors import CountsError
from certsmooth.science.audit.answers import Answers
from certsmooth.science.audit.order import OrderCost

_REMEDY = "make it again"


@dataclass(frozen=True)
class Broken(Answers, CountsTable):
    """`certsmooth.science.audit.answers.Answers`, as a file."""

    form: ClassVar[str] = "broken certificates 2"
    types: ClassVar[Mapping[str, type[np.generic]]] = {
        "index": np.int64,
        "predict": np.int64,
        "radius": np.float64,
        "sigma": np.float64,
        "candidates": np.int64,
        "kind": np.int64,
        "distance": np.float64,
        "sigma_there": np.float64,
        "counts": np.int64,
        "batch_size": np.int64,
    }


@dataclass(frozen=True)
class OrderPart:
    """What an order costs one run, and what that is about, as JSON holds it."""

    cost: OrderCost
    identity: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _OrderRecord(MadeBy):
    """A file about what orders cost."""

    parts: list[OrderPart]


def write_order_costs(path: Path, parts: Sequence[OrderPart]) -> None:
    """Write what orders cost, and what computed it, as JSON.

    Raises:
        CountsError: the file cannot be written.
    """
    write_json(path, asdict(_OrderRecord(parts=list(parts), **vars(made_by()))), error=CountsError)


def read_order_cost(path: Path, *, expect: Mapping[str, Any]) -> OrderCost:
    """Read what `write_order_costs` wrote of one run.

    Args:
        path: the file.
        expect: entries that the identity must have, each whole.

    Raises:
        CountsError: missing or damaged, or an entry differs; the message names it and both values.
    """
    content = read_json(path, remedy=_REMEDY, error=CountsError)
    record = decode_record(_OrderRecord, json.dumps(content), source=str(path), error=CountsError)
    return record.parts[find_part(path, [part.identity for part in record.parts], expect, remedy=_REMEDY)].cost
