"""Counts on disk: one Parquet file with its provenance inside, and the journal of a run that is not finished."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from certsmooth.counts import Counts
from certsmooth.errors import CountsError
from certsmooth.storage import atomic_write

_KEY = b"certsmooth"
_COLUMNS = ("index", "label", "sigma", "predict", "selection", "estimation", "batch_size")


def write_counts(path: Path, counts: Counts, identity: Mapping[str, Any]) -> None:
    """Write counts, atomically and with the same bytes for the same content.

    Args:
        path: the Parquet file; columns index, label, sigma, predict (class of the selection samples), selection and
            estimation (class counts), batch_size.
        counts: what was counted.
        identity: what was sampled and how (JSON); it is stored in the file, and compared when the file is read.

    Raises:
        CountsError: the file cannot be written.
    """
    lists = {
        name: pa.array(getattr(counts, name).tolist(), pa.list_(pa.int64())) for name in ("selection", "estimation")
    }
    columns = {name: lists[name] if name in lists else pa.array(getattr(counts, name)) for name in _COLUMNS}
    header = {"identity": dict(identity), "sha256": _digest(counts, identity)}
    table = pa.table(columns).replace_schema_metadata({_KEY: _json(header)})
    with atomic_write(path, error=CountsError) as file:
        pq.write_table(table, file)


def read_counts(path: Path, *, expect: Mapping[str, Any] | None = None) -> tuple[Counts, dict[str, Any]]:
    """Read counts and the identity they were written with.

    Args:
        path: the Parquet file.
        expect: entries that the identity must have: the counts of another data set or model are refused.

    Raises:
        CountsError: not a counts file, corrupt, or an entry differs; the message names it and both values.
    """
    try:
        table = pq.read_table(path)
        header = json.loads((table.schema.metadata or {})[_KEY])
        identity, digest = header["identity"], header["sha256"]
        arrays = {name: np.asarray(table[name].to_pylist()) for name in _COLUMNS if name != "predict"}
        counts = Counts(**{n: a.astype(np.float64 if n == "sigma" else np.int64) for n, a in arrays.items()})
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise CountsError(f"{path}: not a counts file, or damaged ({error}); sample it again") from error
    if digest != _digest(counts, identity):
        raise CountsError(f"{path}: its content does not match its checksum; sample it again")
    for key, value in (expect or {}).items():
        if identity.get(key) != value:
            raise CountsError(f"{path}: {key} is {identity.get(key)!r}; must be {value!r}")
    return counts, identity


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _digest(counts: Counts, identity: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(_json(identity))
    for name in ("index", "label", "sigma", "selection", "estimation", "batch_size"):
        digest.update(np.ascontiguousarray(getattr(counts, name)).tobytes())
    return digest.hexdigest()


def _journal_line(text: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(text), text)


class CountsJournal:
    """The images that an unfinished run has finished: a file beside the counts that grows by one line an image.

    Use it as a context manager. A line cut short by a kill is dropped; a journal of another run is refused by its name,
    which holds a hash of the identity. Two runs at once exclude each other.

    Attributes:
        rows: position -> row of the images that are finished.
        sigmas: position of a group's first image -> sigma of each image of the group.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        name = hashlib.sha256(_json(identity)).hexdigest()[:16]
        self.path = path.with_name(f".{path.name}.{name}.journal")
        self.rows: dict[int, dict[str, Any]] = {}
        self.sigmas: dict[int, list[float]] = {}
        self._file: io.FileIO | None = None

    def __enter__(self) -> CountsJournal:
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
        if "sigmas" in entry:
            self.sigmas[entry["position"]] = entry["sigmas"]
        else:
            self.rows[entry["position"]] = entry

    def append(self, entry: dict[str, Any]) -> None:
        """Add a row (keys position and the columns of the counts) or the sigmas of a group.

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
            raise CountsError(f"{self.path}: cannot be written: {error.strerror}; finished images are kept") from error
        self._take(entry)

    def counts(self, positions: Sequence[int]) -> Counts:
        """Return the rows at ``positions``, in that order."""
        rows = [self.rows[position] for position in positions]
        columns = {name: np.asarray([row[name] for row in rows]) for name in _COLUMNS if name != "predict"}
        return Counts(**{n: a.astype(np.float64 if n == "sigma" else np.int64) for n, a in columns.items()})

    def remove(self) -> None:
        """Delete the journal: the counts are written."""
        self.path.unlink(missing_ok=True)
