"""Tables on disk: a Parquet file of several parts, each of which says what it is.

The envelope (`certsmooth.artefacts.envelope`) has ``parts``: the identity and the number of rows of each. The same
content gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from certsmooth.artefacts.envelope import KEY, Form
from certsmooth.errors import CertsmoothError

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


def types_of(table: Any) -> Types:  # noqa: ANN401 - any dataclass
    """Return the columns that the fields of a dataclass are, int64 or float64 as their annotations say."""
    hints = get_type_hints(table)
    return {field.name: np.dtype(hints[field.name].dtypes[-1]).type for field in fields(table)}


def write_parts(path: Path, form: Form, parts: Sequence[Part]) -> None:
    """Write a table, atomically.

    Args:
        path: the Parquet file; its folder must exist.
        form: of the table.
        parts: one or more, with the same columns; text, int64 or float64, those with two dimensions int64. Columns that
            follow from the others may be among them, for other readers.

    Raises:
        CertsmoothError: the file cannot be written.
    """
    columns = {name: _joined([part.columns[name] for part in parts]) for name in parts[0].columns}
    content = {"parts": [{"rows": len(part), "identity": dict(part.identity)} for part in parts]}
    table = pa.table({name: _array(values) for name, values in columns.items()})
    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({KEY: form.envelope(path, content, allow_nan=True)})
    form.write(path, file.getvalue())


def read_parts(path: Path, form: Form, types: Types) -> list[Part]:
    """Read a table that `write_parts` wrote.

    Args:
        path: the Parquet file.
        form: as it was written.
        types: of the columns to read.

    Raises:
        CertsmoothError: missing, not such a file, or corrupt; the message names it.
    """
    data = form.read(path)  # not by pyarrow, which would read a folder as well, and columns from its name
    try:
        table = pq.read_table(pa.BufferReader(data))
        content = form.content(path, data, table.schema.metadata[KEY.encode()])
        columns = {name: _values(table[name], wanted) for name, wanted in types.items()}
        ends = np.cumsum([0, *(int(each["rows"]) for each in content["parts"])])
        return [
            Part(dict(each["identity"]), {name: values[first:last] for name, values in columns.items()})
            for each, (first, last) in zip(content["parts"], pairwise(ends), strict=True)
        ]
    except CertsmoothError:
        raise
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as cause:
        raise form.damaged(path, cause) from cause


def _joined(columns: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    filled = [values for values in columns if len(values)]  # an empty part does not know its number of classes
    return np.concatenate(filled) if filled else columns[0]


def _array(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values) if values.ndim == 1 else pa.array(values.tolist(), pa.list_(pa.int64()))


def _values(column: pa.ChunkedArray, wanted: type[np.generic]) -> npt.NDArray[Any]:
    if wanted is np.str_:
        return np.asarray([str(value) for value in column.to_pylist()], dtype=object)
    return np.asarray(column.to_pylist()).astype(wanted)
