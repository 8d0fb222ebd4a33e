"""What audits found, on disk: broken certificates as `certsmooth.artefacts.counts`, the cost of the order as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from certsmooth._internal.storage import decode_record, read_json, write_json
from certsmooth.artefacts.counts import CountsTable
from certsmooth.artefacts.parts import find_part
from certsmooth.artefacts.provenance import MadeBy, made_by
from certsmooth.errors import CountsError
from certsmooth.science.audit.order import OrderCost

_REMEDY = "make it again"


@dataclass(frozen=True)
class Broken(CountsTable):
    """Class counts of PREDICT inside N certified balls, each at the candidate that promised most to break it.

    Attributes:
        index: int64 [N], position of the image in its data set's split.
        predict: int64 [N], the certified class, before any memory pass.
        radius: float64 [N], the certified radius, likewise; > 0.
        sigma: float64 [N], sigma(x).
        candidates: int64 [N], points tried in the ball.
        kind: int64 [N], that of the chosen one, in `certsmooth.science.audit.break_certificates.KINDS`.
        distance: float64 [N], of the chosen one from the image, below the radius and in its norm.
        sigma_there: float64 [N], sigma(x') of the chosen one, that PREDICT smoothed with.
        counts: int64 [N, k], PREDICT's class counts, of noise that the search has not seen.
        batch_size: int64 [N], rows per forward pass.
    """

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

    predict: Int[np.ndarray, " N"]
    radius: Float[np.ndarray, " N"]
    sigma: Float[np.ndarray, " N"]
    candidates: Int[np.ndarray, " N"]
    kind: Int[np.ndarray, " N"]
    distance: Float[np.ndarray, " N"]
    sigma_there: Float[np.ndarray, " N"]
    counts: Int[np.ndarray, "N k"]
    batch_size: Int[np.ndarray, " N"]


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
