"""Images of one's own, or of the Hugging Face hub, encoded in Parquet files.

Files are ``train-*.parquet`` and ``test-*.parquet`` (``val``, ``valid`` or ``validation`` where there is no
``test``), or ``train.parquet``, or ``train/*.parquet``, in the folder or in its ``data/``. Of files numbered
``-00000-of-00002`` all must be there. They are read in the order of their names.

The column of the images holds the bytes of JPEG or PNG files: plain, or as the field ``bytes`` of a struct, as
`datasets` writes it. Its field ``path`` is not read, so a table that names files instead of holding them is refused.
The column of the labels holds whole numbers or text; the names of classes that `datasets` left in the file
(ClassLabel) are used. Other columns are not read. What is done with images: `certsmooth.science.datasets._encoded`.

Images beyond what is kept in memory are read a row group at a time, each time they are asked for: that is slow unless
the groups are small, and a folder of images is the better form for so many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from certsmooth.errors import ConfigError, DataError
from certsmooth.science.datasets import Dataset, Split
from certsmooth.science.datasets._encoded import (
    Decoded,
    EncodedMember,
    Preparation,
    Shape,
    check_classes,
    describe,
    encoded_split,
    numbered,
    sorted_classes,
)
from certsmooth.science.datasets._files import reading
from certsmooth.science.datasets._listing import TEST_NAMES

_FORM = "a folder with train-*.parquet and test-*.parquet (or val), in it or in its data/"
_SHARD = re.compile(r"(.*)-([0-9]{1,6})-of-([0-9]{1,6})\.parquet")
_ROWS = 8
"""Encoded images in memory at a time."""

_MOST_PACKED = 20
"""Images that are packed already are packed no more than so many times smaller."""

_MOST_TEXT = 200
"""Characters of the name of a class."""


@dataclass(frozen=True, kw_only=True)
class Parquet(EncodedMember):
    """Encoded images in Parquet files.

    Attributes:
        image: the column of the images
        label: the column of the labels
    """

    image: str = "image"
    label: str = "label"

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load the images, uint8 [1, h, w] or [3, h, w]; ``index`` is the number of the row in its split.

        Args:
            source: the folder of the files.
            download: not used.

        Raises:
            ConfigError: no source.
            DataError: it holds no such files, or they lack a column; the splits' loaders raise it for an image that is
                damaged or not alike the others.
        """
        if source is None:
            raise ConfigError(f"parquet: no source; must be {_FORM}")
        if not source.is_dir():
            raise DataError(f"{source}: {'a file' if source.exists() else 'no such folder'}; must be {_FORM}")
        train, test = (_table(paths, self.image, self.label) for paths in _files(source))
        if train.names != test.names:
            raise DataError(f"{source}: train and test name different classes; must be the same")
        check_classes(source, train.labels, test.labels)
        classes = train.names or sorted_classes(train.labels)
        first, data = next(train.all())
        prepare = self.preparation
        shape = prepare.shape(data, where=train.where(first))
        read = partial(_split, classes=classes, prepare=prepare, shape=shape)
        return Dataset(
            name="parquet",
            description=describe(len(classes), len(train), len(test), prepare),
            image_shape=shape,
            num_classes=len(classes),
            pixel_range=(0.0, 1.0),
            train=lambda: read(train, f"{source}: train"),
            test=lambda: read(test, f"{source}: test"),
            classes=classes,
        )


@dataclass(frozen=True)
class _Table:
    """The rows of the files of a split.

    Attributes:
        files: path, and rows of each row group.
        column: of the images.
        labels: the name of the class of each row.
        names: those of all classes, if the file gives them.
    """

    files: tuple[tuple[Path, tuple[int, ...]], ...]
    column: str
    labels: tuple[str, ...]
    names: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, name: str, /) -> str:
        """Return how errors call an image."""
        return f"{self.files[0][0].parent}: {name}"

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Yield every image, in order."""
        for number, (_, groups) in enumerate(self.files):
            for group in range(len(groups)):
                yield from self._group(number, group)

    def at(self, positions: npt.NDArray[np.int64], /) -> Iterator[tuple[str, bytes]]:
        """Yield the images at ``positions``; each row group that they lie in is read once."""
        places = [(number, group) for number, (_, groups) in enumerate(self.files) for group in range(len(groups))]
        ends = np.cumsum([rows for _, groups in self.files for rows in groups])
        of = np.searchsorted(ends, positions, side="right")
        found: dict[int, tuple[str, bytes]] = {}
        for group in np.unique(of).tolist():
            wanted = set(positions[of == group].tolist())
            start = int(ends[group - 1]) if group else 0
            rows = enumerate(self._group(*places[group]), start=start)
            found |= {position: image for position, image in rows if position in wanted}
        yield from (found[position] for position in positions.tolist())

    def _group(self, number: int, group: int) -> Iterator[tuple[str, bytes]]:
        """Yield the images of a row group, a few in memory at a time."""
        path, groups = self.files[number]
        row = sum(groups[:group])
        with _opened(path) as file:
            column = _bytes_of(path, file, self.column)
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[column], use_threads=False):
                for image in batch.column(0).to_pylist():
                    data = image.get("bytes") if isinstance(image, dict) else image
                    name = f"{path.name} row {row}"
                    if not isinstance(data, bytes):
                        raise DataError(
                            f"{path}: row {row} holds no image; must hold its bytes, not the path of a file"
                        )
                    yield name, data
                    row += 1


def _split(table: _Table, name: str, *, classes: tuple[str, ...], prepare: Preparation, shape: Shape) -> Split:
    labels = numbered(table.labels, classes)
    index = np.arange(len(table), dtype=np.int64)
    return encoded_split(Decoded(table, prepare, shape), labels, index, name=name, num_classes=len(classes))


def _files(source: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of the training and of the test split."""
    with reading(source, expected="a readable folder"):
        for folder in (source, source / "data"):
            found = {name: _files_of(folder, name) for name in ("train", *TEST_NAMES)}
            test = next((name for name in TEST_NAMES if found[name]), None)
            if found["train"] and test is not None:
                return found["train"], found[test]
        names = sorted(path.name for path in [*source.glob("*"), *(source / "data").glob("*")])
    raise DataError(f"{source}: holds {', '.join(names[:10]) or 'nothing'}; must be {_FORM}")


def _files_of(folder: Path, split: str) -> list[Path]:
    paths = [*folder.glob(f"{split}-*.parquet"), *folder.glob(f"{split}.parquet"), *(folder / split).glob("*.parquet")]
    paths = sorted(path for path in paths if path.is_file() and path.name[0] != ".")
    shards = [match for match in (_SHARD.fullmatch(path.name) for path in paths) if match]
    for match in shards:
        have = {int(each[2]) for each in shards if (each[1], each[3]) == (match[1], match[3])}
        if missing := sorted(set(range(int(match[3]))) - have):
            raise DataError(f"{folder}: no {match[1]}-{missing[0]:05d}-of-{match[3]}.parquet; all must be there")
    return paths


@contextmanager
def _opened(path: Path, label: str | None = None) -> Iterator[pq.ParquetFile]:
    """Open a file, to read a column of labels; what goes wrong within is an error that names it."""
    try:
        with reading(path, expected="a Parquet file"), path.open("rb") as stream:  # no address, as pyarrow would allow
            metadata = pq.read_metadata(stream)
            _check_size(path, metadata)
            known = [label] if label in metadata.schema.to_arrow_schema().names else None
            yield pq.ParquetFile(stream, metadata=metadata, read_dictionary=known)
    except (pa.ArrowException, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error}); must be a Parquet file") from error


def _check_size(path: Path, metadata: pq.FileMetaData) -> None:
    """Check that columns unpack to what images can; one that is small may announce anything."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    if any(column.total_uncompressed_size > _MOST_PACKED * path.stat().st_size for column in columns):
        raise DataError(f"{path}: unpacks to over {_MOST_PACKED} times its size; must hold JPEG or PNG files")


def _bytes_of(path: Path, file: pq.ParquetFile, column: str) -> str:
    """Return what to read of the column of the images: all of it, or the field of the bytes."""
    kind = file.schema_arrow.field(column).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind, column = kind.field("bytes").type, f"{column}.bytes"
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(f"{path}: column {column} is {str(kind)[:200]}; must hold the bytes of JPEG or PNG files")
    return column


def _table(paths: Sequence[Path], image: str, label: str) -> _Table:
    files: list[tuple[Path, tuple[int, ...]]] = []
    labels: list[str] = []
    names: set[tuple[str, ...] | None] = set()
    for path in paths:
        with _opened(path, label) as file:
            known = file.schema_arrow.names
            for key, column in (("image", image), ("label", label)):
                if known.count(column) != 1:
                    found = ", ".join(known)[:200]
                    raise DataError(f"{path}: {known.count(column)} columns {column!r} of {found}; give option {key}")
            _bytes_of(path, file, image)
            classes = _class_names(file.schema_arrow, label)
            rows = list(_values_of(path, file, label))
            groups = tuple(file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups))
        if len(rows) != sum(groups):
            raise DataError(f"{path}: {len(rows)} labels in {sum(groups)} rows; must be equal")
        labels += [_label(path, row, value, classes) for row, value in enumerate(rows)]
        files.append((path, groups))
        names.add(classes)
    if len(names) > 1:
        raise DataError(f"{paths[0]}: names other classes than a file of the same split; must be the same")
    if not labels:
        raise DataError(f"{paths[0]}: no rows; must hold images")
    return _Table(tuple(files), image, tuple(labels), next(iter(names)))


def _values_of(path: Path, file: pq.ParquetFile, column: str) -> Iterator[object]:
    """Yield the labels; text comes as places in a list of different ones, so that a long one is there once."""
    for batch in file.iter_batches(columns=[column], use_threads=False):
        values = batch.column(0)
        if not pa.types.is_dictionary(values.type):
            yield from values.to_pylist()
            continue
        known = values.dictionary.to_pylist()
        if any(len(str(each)) > _MOST_TEXT for each in known):
            raise DataError(f"{path}: a label of over {_MOST_TEXT} characters; must be the name of a class")
        yield from (None if place is None else known[place] for place in values.indices.to_pylist())


def _label(path: Path, row: int, value: object, classes: tuple[str, ...] | None) -> str:
    is_text = isinstance(value, str) and value.strip() != ""
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not (is_number if classes else is_text or is_number):
        right = f"a class, 0 .. {len(classes) - 1}" if classes else "a whole number >= 0 or text"
        raise DataError(f"{path}: row {row}: label {str(value)[:100]!r}; must be {right}")
    if classes is None:
        return str(value)
    if not isinstance(value, int) or value >= len(classes):
        raise DataError(f"{path}: row {row}: label {value}; must be a class, 0 .. {len(classes) - 1}")
    return classes[value]


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:  # noqa: ANN401 - pyarrow has no types
    """Return the names of classes that `datasets` left in the metadata of a file; None if there are none."""
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])
        names = content["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list and len(set(names)) == len(names) > 1 else None
