"""Tables on disk: a Parquet file of several parts, each of which says what it is.

The metadata hold one JSON record: the format, the identity and number of rows of each part, and a SHA-256 of all of it
and of the columns. The same content gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from certsmooth._internal.storage import atomic_write
from certsmooth.artefacts.identity import check_identity, nearest
from certsmooth.errors import CertsmoothError, CountsError

_KEY = b"certsmooth"

Columns = Mapping[str, npt.NDArray[Any]]
"""Columns of a table by name: [N], or [N, k] for counts per class."""

Types = Mapping[str, type[np.generic]]
"""Columns and the types of their values; text is ``np.str_``."""


@dataclass(frozen=True)
class Part:
    """Some rows of a table.

    Attributes:
        identity: what they are, as JSON holds it.
        columns: of one length.
    """

    identity: Mapping[str, Any]
    columns: Columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def write_parts(path: Path, kind: str, parts: Sequence[Part], *, derived: Sequence[Columns] = ()) -> None:
    """Write a table, atomically.

    Args:
        path: the Parquet file; its folder must exist.
        kind: of table, with its version: ``counts 2``.
        parts: one or more, with the same columns; text, int64 or float64, those with two dimensions int64.
        derived: per part, columns for other readers, which follow from the rest; `read_parts` does not read them.

    Raises:
        CountsError: the file cannot be written.
    """
    columns = {name: _joined([part.columns[name] for part in parts]) for name in parts[0].columns}
    header = [{"rows": len(part), "identity": dict(part.identity)} for part in parts]
    record = {"format": kind, "parts": header, "sha256": _digest(kind, header, columns)}
    extra = {name: np.concatenate([each[name] for each in derived]) for name in (derived[0] if derived else ())}
    table = pa.table({name: _array(values) for name, values in {**columns, **extra}.items()})
    with atomic_write(path, error=CountsError) as file:
        # In the order given, which tables show; checksums do not depend on it.
        pq.write_table(table.replace_schema_metadata({_KEY: _json(record)}), file)


def read_parts(path: Path, kind: str, types: Types, *, remedy: str) -> list[Part]:
    """Read a table that `write_parts` wrote.

    Args:
        path: the Parquet file.
        kind: as it was written.
        types: of every column that is not derived, in the order in which they were written.
        remedy: what to do about a file that is not right, for messages.

    Raises:
        CountsError: missing, not such a file, or corrupt; the message names it.
    """
    try:
        content = path.read_bytes()  # not by pyarrow, which would read a folder as well, and columns from its name
    except OSError as cause:
        raise CountsError(f"{path}: cannot be read: {cause.strerror or cause}; {remedy}") from cause
    try:
        table = pq.read_table(pa.BufferReader(content))
        record = json.loads((table.schema.metadata or {})[_KEY])
        found, header, digest = record["format"], record["parts"], record["sha256"]
        columns = {name: _values(table[name], wanted) for name, wanted in types.items()}
        rows = [int(each["rows"]) for each in header]
        identities = [dict(each["identity"]) for each in header]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CountsError(f"{path}: not a file of {kind}, or damaged ({error}); {remedy}") from error
    if found != kind:
        raise CountsError(f"{path}: holds {found!r}; must be {kind!r}; {remedy}")
    if digest != _digest(kind, header, columns) or sum(rows) != table.num_rows:
        raise CountsError(f"{path}: its content does not match its checksum; {remedy}")
    ends = np.cumsum([0, *rows])
    return [
        Part(identity, {name: values[first:last] for name, values in columns.items()})
        for identity, (first, last) in zip(identities, pairwise(ends), strict=True)
    ]


def find_part(
    path: Path,
    identities: Sequence[Mapping[str, Any]],
    expect: Mapping[str, Any],
    *,
    remedy: str,
    error: type[CertsmoothError] = CountsError,
) -> int:
    """Return the position of the part that is what is asked for.

    Args:
        path: the file, for messages.
        identities: of its parts.
        expect: entries that the identity of the part must have, each whole.
        error: the class of the error raised.
        remedy: what to do if there is none, for messages.

    Raises:
        CertsmoothError: there is none; the message names what differs in the part that is nearest.
    """
    if not identities:
        raise error(f"{path}: no parts; {remedy}")
    place = nearest(identities, expect)
    check_identity(path, identities[place], expect, remedy=remedy, error=error)
    return place


def _joined(columns: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    filled = [values for values in columns if len(values)]  # an empty part does not know its number of classes
    return np.concatenate(filled) if filled else columns[0]


def _array(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values) if values.ndim == 1 else pa.array(values.tolist(), pa.list_(pa.int64()))


def _values(column: pa.ChunkedArray, wanted: type[np.generic]) -> npt.NDArray[Any]:
    if wanted is np.str_:
        return np.asarray([str(value) for value in column.to_pylist()], dtype=object)
    return np.asarray(column.to_pylist()).astype(wanted)


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _digest(kind: str, header: Sequence[Mapping[str, Any]], columns: Columns) -> str:
    digest = hashlib.sha256(_json([kind, header]))
    for values in columns.values():
        digest.update(_json(values.tolist()) if values.dtype.kind in "OU" else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
