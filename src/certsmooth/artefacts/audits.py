"""What audits found, on disk: broken certificates as `certsmooth.artefacts.counts`, the cost of the order as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from certsmooth._internal.storage import decode_record, read_json, write_json
from certsmooth.artefacts.counts import CountsTable
from certsmooth.artefacts.provenance import MadeBy, made_by
from certsmooth.errors import CountsError
from certsmooth.science.audit.answers import Answers
from certsmooth.science.audit.order import OrderCost


@dataclass(frozen=True)
class Broken(Answers, CountsTable):
    """`certsmooth.science.audit.answers.Answers`, as a file."""

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


@dataclass(frozen=True, kw_only=True)
class _OrderRecord(MadeBy):
    """A file about what an order costs."""

    cost: OrderCost


def write_order_cost(path: Path, cost: OrderCost) -> None:
    """Write what an order costs, and what computed it, as JSON.

    Raises:
        CountsError: the file cannot be written.
    """
    write_json(path, asdict(_OrderRecord(cost=cost, **vars(made_by()))), error=CountsError)


def read_order_cost(path: Path) -> OrderCost:
    """Read what `write_order_cost` wrote.

    Raises:
        CountsError: missing or damaged.
    """
    content = read_json(path, remedy="make it again", error=CountsError)
    return decode_record(_OrderRecord, json.dumps(content), source=str(path), error=CountsError).cost
