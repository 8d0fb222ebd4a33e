"""Counts on disk: one Parquet file with its provenance inside, and the journal of a run that is not finished."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from certsmooth._internal.storage import atomic_write
from certsmooth.errors import CountsError
from certsmooth.science.sampling.counts import Counts

_KEY = b"certsmooth"
_COLUMNS = ("index", "label", "sigma", "constant_within", "predict", "selection", "estimation", "batch_size")
_DERIVED = ("predict",)
_REAL = ("sigma", "constant_within")
_TYPES = {name: np.float64 if name in _REAL else np.int64 for name in _COLUMNS if name not in _DERIVED}

Columns = Mapping[str, npt.NDArray[Any]]
"""Columns of a table by name: [N], or [N, k] for counts per class."""


def write_counts(path: Path, counts: Counts, identity: Mapping[str, Any]) -> None:
    """Write counts, atomically and with the same bytes for the same content.

    Args:
        path: the Parquet file; columns index, label, sigma, constant_within, predict (class of the selection samples),
            selection and estimation (class counts), batch_size.
        counts: what was counted.
        identity: what was sampled and how (JSON); it is stored in the file, and compared when the file is read.

    Raises:
        CountsError: the file cannot be written.
    """
    write_columns(path, {name: getattr(counts, name) for name in _COLUMNS}, identity, derived=_DERIVED)


def read_counts(path: Path, *, expect: Mapping[str, Any] | None = None) -> tuple[Counts, dict[str, Any]]:
    """Read counts and the identity they were written with.

    Args:
        path: the Parquet file.
        expect: entries that the identity must have: the counts of another data set or model are refused.

    Raises:
        CountsError: not a counts file, corrupt, or an entry differs; the message names it and both values.
    """
    columns, identity = read_columns(path, _TYPES, expect=expect)
    return Counts(**columns), identity


def write_columns(path: Path, columns: Columns, identity: Mapping[str, Any], *, derived: Sequence[str] = ()) -> None:
    """Write a table of counts, as `write_counts` does.

    Args:
        path: the Parquet file.
        columns: int64 or float64; those with two dimensions are int64.
        identity: what was sampled and how (JSON).
        derived: columns for other readers, which follow from the rest: `read_columns` need not read them.

    Raises:
        CountsError: the file cannot be written.
    """
    stored = {name: values for name, values in columns.items() if name not in derived}
    header = {"identity": dict(identity), "sha256": _digest(stored, identity)}
    table = pa.table({name: _array(values) for name, values in columns.items()})
    with atomic_write(path, error=CountsError) as file:
        pq.write_table(table.replace_schema_metadata({_KEY: _json(header)}), file)


def read_columns(
    path: Path, types: Mapping[str, type[np.generic]], *, expect: Mapping[str, Any] | None = None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read a table of counts that `write_columns` wrote, and its identity.

    Args:
        path: the Parquet file.
        types: of every column that is not derived, in the order in which they were written.
        expect: entries that the identity must have.

    Raises:
        CountsError: as `read_counts`.
    """
    try:
        table = pq.read_table(path)
        header = json.loads((table.schema.metadata or {})[_KEY])
        identity, digest = dict(header["identity"]), header["sha256"]
        columns = {name: np.asarray(table[name].to_pylist()).astype(kind) for name, kind in types.items()}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CountsError(f"{path}: not a counts file, or damaged ({error}); sample it again") from error
    if digest != _digest(columns, identity):
        raise CountsError(f"{path}: its content does not match its checksum; sample it again")
    for key, value in (expect or {}).items():
        if identity.get(key) != value:
            raise CountsError(f"{path}: {key} is {identity.get(key)!r}; must be {value!r}")
    return columns, identity


@dataclass(frozen=True)
class CountsTable:
    """Base of tables of N counts whose fields are the columns of a file, the first of them ``index``.

    Attributes:
        types: of every field, in their order.
    """

    types: ClassVar[Mapping[str, type[np.generic]]]

    index: Int[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.index)

    def lists(self) -> dict[str, list[Any]]:
        """Return the columns as lists, which `from_lists` turns into the same table."""
        return {name: values.tolist() for name, values in asdict(self).items()}

    @classmethod
    def from_lists(cls, parts: Sequence[Mapping[str, Sequence[Any]]]) -> Self:
        """Join what `lists` returned, in the order given; no parts are an empty table."""
        columns = {name: [value for part in parts for value in part[name]] for name in cls.types}
        return cls(**{name: np.asarray(columns[name], dtype=kind) for name, kind in cls.types.items()})

    def write(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Write the table, atomically and with the same bytes for the same content.

        Args:
            path: the Parquet file.
            identity: what was counted and how (JSON); it is stored in the file, and compared when the file is read.

        Raises:
            CountsError: the file cannot be written.
        """
        write_columns(path, asdict(self), identity)

    @classmethod
    def read(cls, path: Path, *, expect: Mapping[str, Any] | None = None) -> tuple[Self, dict[str, Any]]:
        """Read what `write` wrote, and its identity.

        Args:
            path: the Parquet file.
            expect: entries that the identity must have: a table of another model or with other settings is refused.

        Raises:
            CountsError: not such a file, corrupt, or an entry differs; the message names it and both values.
        """
        columns, identity = read_columns(path, cls.types, expect=expect)
        return cls(**columns), identity


def _array(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values) if values.ndim == 1 else pa.array(values.tolist(), pa.list_(pa.int64()))


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _digest(columns: Columns, identity: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(_json(identity))
    for values in columns.values():
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _journal_line(text: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(text), text)


class Journal:
    """What an unfinished run has finished: a file beside its output that grows by one line an entry.

    Use it as a context manager. A line cut short by a kill is dropped; a journal of another run is refused by its name,
    which holds a hash of the identity. Two runs at once exclude each other.

    Attributes:
        entries: what is finished, in the order in which it was appended.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        name = hashlib.sha256(_json(identity)).hexdigest()[:16]
        self.path = path.with_name(f".{path.name}.{name}.journal")
        self.entries: list[dict[str, Any]] = []
        self._file: io.FileIO | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self.path.open("a+b", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._replay(self._file)
        except OSError as error:
            if self._file is not None:
                self._file.close()
            if isinstance(error, BlockingIOError):
                raise CountsError(f"{self.path}: another run is writing it; wait for it or stop it") from error
            raise CountsError(f"{self.path}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()

    def _replay(self, file: io.FileIO) -> None:
        """Read the complete lines, and cut off what follows them."""
        file.seek(0)
        good = 0
        for line in file.readall().splitlines(keepends=True):
            text = line[9:-1]
            if line != _journal_line(text):
                break
            self._take(json.loads(text))
            good += len(line)
        file.truncate(good)  # what is written next goes there: the file is open for appending

    def _take(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry (JSON).

        On return the system has it: it outlives this process, however that ends.

        Raises:
            CountsError: the disk is full; what was appended before is kept.
        """
        assert self._file is not None
        rest = _journal_line(json.dumps(entry).encode())
        try:
            while rest:  # a disk that is nearly full takes a part
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise CountsError(f"{self.path}: cannot be written: {error.strerror}; what is finished is kept") from error
        self._take(entry)

    def remove(self) -> None:
        """Delete the journal: the counts are written."""
        self.path.unlink(missing_ok=True)


class CountsJournal(Journal):
    """The images that an unfinished run has finished: a row of the counts for each, and the sigmas of each group.

    An entry is a row (keys position and the columns of the counts), or sigma and constant_within of a group.

    Attributes:
        rows: position -> row of the images that are finished.
        sigmas: position of a group's first image -> sigma and constant_within of each image of the group.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        super().__init__(path, identity)
        self.rows: dict[int, dict[str, Any]] = {}
        self.sigmas: dict[int, tuple[list[float], list[float]]] = {}

    def _take(self, entry: dict[str, Any]) -> None:
        super()._take(entry)
        if "sigmas" in entry:
            self.sigmas[entry["position"]] = entry["sigmas"], entry["constant_within"]
        else:
            self.rows[entry["position"]] = entry

    def counts(self, positions: Sequence[int]) -> Counts:
        """Return the rows at ``positions``, in that order."""
        rows = [self.rows[position] for position in positions]
        return Counts(**{name: np.asarray([row[name] for row in rows]).astype(kind) for name, kind in _TYPES.items()})
