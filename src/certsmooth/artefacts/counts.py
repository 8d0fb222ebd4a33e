"""Counts on disk: a Parquet file of the parts that a job sampled, and the journal of one that is not finished."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Int

from certsmooth._internal.storage import locked
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.parts import Part, read_parts, types_of, write_parts
from certsmooth.errors import CountsError
from certsmooth.science.sampling.counts import Counts

COUNTS = Form("counts 3", "sample it again")


@dataclass(frozen=True)
class CountsPart:
    """Counts, and what was sampled and how, as JSON holds it."""

    counts: Counts
    identity: Mapping[str, Any]


def write_counts(path: Path, parts: Sequence[CountsPart]) -> None:
    """Write counts, atomically and with the same bytes for the same content.

    Args:
        path: the Parquet file; columns index, label, sigma, constant_within, selection and estimation (class counts),
            batch_size, and for other readers predict (class of the selection samples) and part.
        parts: what was counted; the identity of each is stored in the file, and compared when the file is read.

    Raises:
        CountsError: the file cannot be written.
    """
    stored = []
    for place, part in enumerate(parts):
        derived = {"predict": part.counts.predict, "part": np.full(len(part.counts), place)}
        stored.append(Part(part.identity, {**vars(part.counts), **derived}))
    write_parts(path, COUNTS, stored)


def read_counts(path: Path) -> list[CountsPart]:
    """Read counts.

    Raises:
        CountsError: not a counts file, or corrupt; the message names it.
    """
    return [CountsPart(Counts(**part.columns), part.identity) for part in read_parts(path, COUNTS, types_of(Counts))]


@dataclass(frozen=True)
class CountsTable:
    """Base of tables of N counts whose fields are the columns of a file, the first of them ``index``.

    Attributes:
        form: of the file.
    """

    form: ClassVar[Form]

    index: Int[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.index)

    def lists(self) -> dict[str, list[Any]]:
        """Return the columns as lists, which `from_lists` turns into the same table."""
        return {name: values.tolist() for name, values in vars(self).items()}

    @classmethod
    def from_lists(cls, parts: Sequence[Mapping[str, Sequence[Any]]]) -> Self:
        """Join what `lists` returned, in the order given; no parts are an empty table."""
        columns = {name: [value for part in parts for value in part[name]] for name in types_of(cls)}
        return cls(**{name: np.asarray(columns[name], dtype=kind) for name, kind in types_of(cls).items()})

    @classmethod
    def write(cls, path: Path, parts: Sequence[tuple[Self, Mapping[str, Any]]]) -> None:
        """Write tables as the parts of a file, atomically and with the same bytes for the same content.

        Args:
            path: the Parquet file.
            parts: tables, and what was counted and how (JSON); that is compared when the file is read.

        Raises:
            CountsError: the file cannot be written.
        """
        write_parts(path, cls.form, [Part(identity, vars(table)) for table, identity in parts])

    @classmethod
    def read(cls, path: Path, *, expect: Mapping[str, Any]) -> tuple[Self, Mapping[str, Any], int]:
        """Read a table that `write` wrote, its identity, and the number of its part.

        Args:
            path: the Parquet file.
            expect: entries that the identity must have: a table of another model or with other settings is refused.

        Raises:
            CountsError: not such a file, corrupt, or an entry differs; the message names it and both values.
        """
        parts = read_parts(path, cls.form, types_of(cls))
        place = cls.form.find(path, [part.identity for part in parts], expect)
        return cls(**parts[place].columns), parts[place].identity, place


class Journal:
    """What an unfinished run has finished: a file beside its output that grows by one line an entry.

    Use it as a context manager. A line cut short by a kill is dropped; a journal of another run is refused by its name,
    which holds a hash of the identity, and its lines are dropped, whose checksums begin with that. Two runs at once
    exclude each other.

    Attributes:
        entries: what is finished, in the order in which it was appended.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self._start = zlib.crc32(name.encode())
        self.path = path.with_name(f".{path.name}.{name}.journal")
        self.entries: list[dict[str, Any]] = []
        self._file: io.FileIO | None = None

    def __enter__(self) -> Self:
        try:
            self._file = io.FileIO(locked(self.path, wait=False), "r+")
            self._replay(self._file)
        except BlockingIOError as error:
            raise CountsError(f"{self.path}: another run is writing it; wait for it or stop it") from error
        except OSError as error:
            raise CountsError(f"{self.path}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    def _replay(self, file: io.FileIO) -> None:
        """Read the complete lines, and cut off what follows them: what is written next goes there."""
        good = 0
        for line in file.readall().splitlines(keepends=True):
            text = line[9:-1]
            if line != self._line(text):
                break
            self._take(json.loads(text))
            good += len(line)
        file.truncate(file.seek(good))

    def _line(self, text: bytes) -> bytes:
        return b"%08x %s\n" % (zlib.crc32(text, self._start), text)

    def _take(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry (JSON).

        On return the system has it: it outlives this process, however that ends.

        Raises:
            CountsError: the disk is full; what was appended before is kept.
        """
        assert self._file is not None
        rest = self._line(json.dumps(entry).encode())
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

    An entry is a row (keys position and the columns of the counts), or sigma and constant_within of a group, or what a
    look at some images of a group showed.

    Attributes:
        rows: position -> row of the images that are finished.
        sigmas: position of a group's first image -> sigma and constant_within of each image of the group.
        looks: position -> selection and estimation counts and seconds of an image that was looked at.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        super().__init__(path, identity)
        self.rows: dict[int, dict[str, Any]] = {}
        self.sigmas: dict[int, tuple[list[float], list[float]]] = {}
        self.looks: dict[int, tuple[list[int], list[int], float]] = {}

    def _take(self, entry: dict[str, Any]) -> None:
        super()._take(entry)
        if "sigmas" in entry:
            self.sigmas[entry["position"]] = entry["sigmas"], entry["constant_within"]
        elif "looked" in entry:
            self.looks.update({position: tuple(found) for position, *found in entry["looked"]})
        else:
            self.rows[entry["position"]] = entry

    def counts(self, positions: Sequence[int]) -> Counts:
        """Return the rows at ``positions``, in that order."""
        rows, types = [self.rows[position] for position in positions], types_of(Counts)
        return Counts(**{name: np.asarray([row[name] for row in rows]).astype(kind) for name, kind in types.items()})
