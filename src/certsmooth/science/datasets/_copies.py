"""Local copies of MNIST and CIFAR-10 in general forms: numbered image files, or one npz of test images.

- a folder, or a tar archive of one (compressed or not), of images ``train/00000.jpg ... test/09999.jpg``
  (JPEG or PNG; the number is the image's position in the published split) and of ``labels.csv`` with the
  columns ``split,index,label``. An archive is read in one pass; nothing is written, and member names are only
  parsed;
- an ``.npz`` of test images: ``images`` uint8 [n, h, w, c] ([n, h, w] for greyscale), ``labels`` [n],
  ``index`` [n].
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from certsmooth.errors import DataError
from certsmooth.science.datasets import Dataset, Split, array_split
from certsmooth.science.datasets._files import decode, open_packed, read_npz, reading

FORMS = (
    "a folder or tar archive with labels.csv and train/00000.jpg ... test/00000.jpg ..., "
    "or an .npz with images, labels and index of test images"
)
"""The forms read here, for error messages."""

SplitName = Literal["train", "test"]

_IMAGE = re.compile(r"(?:.*/)?(train|test)/([0-9]{1,9})\.(jpg|jpeg|png)")
_ROW = re.compile(r"(train|test),[0-9]{1,9},[0-9]{1,9}")
_LABELS = re.compile(r"(?:.*/)?labels\.csv")
_MAX_BYTES = 2**24
"""No labels file and no small image is larger; an archive may announce anything."""

_MAX_ARCHIVE_BYTES = 2**29
"""Unpacked: twice what all images of CIFAR-10 take as PNG files in a tar archive."""

_Entry = tuple[str, Callable[[], bytes]]


@dataclass(frozen=True)
class Published:
    """What is known about the published data set that a copy is a copy of.

    Attributes:
        name: the member's name.
        title: its name for people.
        image_shape: (c, h, w).
        sizes: number of training and of test images.
        num_classes: number of classes.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    sizes: tuple[int, int]
    num_classes: int = 10

    def describe(self, *, note: str, train: int, test: int, proven: bool = False) -> str:
        """Return the description of a copy, with each number of images that is not the published one.

        Args:
            note: what else to say of it; may be empty.
            train: number of training images.
            test: number of test images.
            proven: whether its content is known to be the published one: other data come under the same file names and
                in the same form, and are not called by the name of these.
        """
        title = self.title if proven else f"data in {self.title}'s format"
        parts = [title, note] if note else [title]
        for count, published, kind in zip((train, test), self.sizes, ("training", "test"), strict=True):
            if count != published:
                number = f"{count:,}" if count else "no"
                parts.append(f"{number} {kind} images")
        return ", ".join(parts)

    def dataset(self, description: str, read: Callable[[SplitName], Split]) -> Dataset:
        """Return the data set whose splits ``read`` reads."""
        return Dataset(
            name=self.name,
            description=description,
            image_shape=self.image_shape,
            num_classes=self.num_classes,
            pixel_range=(0.0, 1.0),
            train=lambda: read("train"),
            test=lambda: read("test"),
        )


def open_copy(source: Path, published: Published) -> Dataset | None:
    """Open a copy in one of the forms of this module.

    Args:
        source: the copy.
        published: what it is a copy of.

    Returns:
        The data set, or None if ``source`` is in none of these forms.

    Raises:
        DataError: it is in one of these forms, but damaged.
    """
    if source.is_file() and source.suffix == ".npz":
        return _open_npz(source, published)
    if (source / "labels.csv").is_file() or (source.is_file() and ".tar" in source.suffixes[-2:]):
        return _open_numbered(source, published)
    return None


def _open_numbered(source: Path, published: Published) -> Dataset:
    labels, note = _survey(source)
    counts = {split: sum(key[0] == split for key in labels) for split in ("train", "test")}
    return published.dataset(
        published.describe(note=note, train=counts["train"], test=counts["test"]),
        lambda split: _read_numbered(source, published, split),
    )


def _survey(source: Path) -> tuple[dict[tuple[str, int], int], str]:
    """Return the labels and the kind of images of a copy, reading no more of it than that takes."""
    labels, note = None, None
    with closing(_entries(source)) as entries:
        for name, read in entries:
            if _LABELS.fullmatch(name):
                labels = _parse_labels(read(), where=_where(source, name))
            elif note is None and (match := _IMAGE.fullmatch(name)):
                note = "PNG files" if match[3] == "png" else "JPEG files"
            if labels is not None and note is not None:
                return labels, note
    missing = "labels.csv" if labels is None else "images train/00000.jpg ... or test/00000.jpg ..."
    raise DataError(f"{source}: no {missing}; must be {FORMS}")


def _read_numbered(source: Path, published: Published, split: SplitName) -> Split:
    labels, images = _collect(source, published, split)
    where = f"{source}: {split}"
    if not labels:
        raise DataError(f"{where}: labels.csv lists no image of this split")
    for index in sorted(labels.keys() ^ images.keys()):
        kind = "an image in labels.csv, but no file" if index in labels else "a file, but no line in labels.csv"
        raise DataError(f"{where}: number {index} has {kind}")
    order = sorted(labels)
    return array_split(
        np.stack([images[index] for index in order]),
        np.array([labels[index] for index in order]),
        name=where,
        num_classes=10,
        index=np.array(order),
    )


def _collect(
    source: Path, published: Published, split: SplitName
) -> tuple[dict[int, int], dict[int, npt.NDArray[np.uint8]]]:
    """Return the labels and the images of a split by number, in one pass over the copy."""
    labels: dict[int, int] | None = None
    images: dict[int, npt.NDArray[np.uint8]] = {}
    with closing(_entries(source)) as entries:
        for name, read in entries:
            if _LABELS.fullmatch(name):
                if labels is not None:
                    raise DataError(f"{_where(source, name)}: a second labels.csv; there must be one")
                every = _parse_labels(read(), where=_where(source, name))
                labels = {index: label for (part, index), label in every.items() if part == split}
            elif (match := _IMAGE.fullmatch(name)) and match[1] == split:
                number, where = int(match[2]), _where(source, name)
                if number in images:
                    raise DataError(f"{where}: a second image {number}; there must be one")
                image = decode(read(), shape=published.image_shape, where=where)
                images[number] = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    if labels is None:
        raise DataError(f"{source}: no labels.csv; must be {FORMS}")
    return labels, images


def _entries(source: Path) -> Generator[_Entry]:
    """Yield the name and a reader of each file of a copy; a reader works until the next file is asked for."""
    if source.is_dir():
        with reading(source, expected="a readable folder"):
            paths = [source / "labels.csv", *sorted(source.glob("train/*")), *sorted(source.glob("test/*"))]
        for path in paths:
            yield path.relative_to(source).as_posix(), partial(_read_file, path)
    else:
        yield from _members(source)


def _where(source: Path, name: str) -> str:
    """Return how errors call a file of a copy."""
    return f"{source / name}" if source.is_dir() else f"{source}: {name}"


def _read_file(path: Path) -> bytes:
    with reading(path, expected="a readable file"):
        return path.read_bytes()


def _members(source: Path) -> Generator[_Entry]:
    """Yield the regular files of a tar archive as a stream; links, devices and folders are passed over."""
    # Read from front to back once: to step back in a compressed archive is to unpack it anew.
    with (
        reading(source, expected="a whole tar archive, .tar, .tar.gz, .tar.bz2 or .tar.xz"),
        open_packed(source) as packed,
        closing(_Limited(packed, source)) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for info in archive:
            if info.isreg():
                yield info.name, partial(_read_member, archive, info, source)
        # The archive ends before the compressed file, whose checksum is at its end.
        while stream.read(_MAX_BYTES):
            pass


class _Limited(io.RawIOBase):
    """A stream that ends in an error where it has given more than any honest archive holds."""

    def __init__(self, stream: IO[bytes], source: Path) -> None:
        self._stream, self._source, self._left = stream, source, _MAX_ARCHIVE_BYTES

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._source}: unpacks to over {_MAX_ARCHIVE_BYTES} bytes; must be at most that")
        return data


def _read_member(archive: tarfile.TarFile, info: tarfile.TarInfo, source: Path) -> bytes:
    if info.size > _MAX_BYTES:
        raise DataError(f"{source}: {info.name}: {info.size} bytes; must be at most {_MAX_BYTES}")
    with reading(f"{source}: {info.name}", expected="whole"):
        file = archive.extractfile(info)
        data = b"" if file is None else file.read()
    if len(data) != info.size:
        raise DataError(f"{source}: {info.name}: {len(data)} of {info.size} bytes; the archive is truncated")
    return data


def _parse_labels(data: bytes, *, where: str) -> dict[tuple[str, int], int]:
    """Return the label of each (split, index) of labels.csv."""
    columns = ["split", "index", "label"]
    labels: dict[tuple[str, int], int] = {}
    with reading(where, expected=f"a comma-separated file with the columns {','.join(columns)}"):
        rows = csv.reader(io.StringIO(data.decode("utf-8"), newline=""))
        header = next(rows, [])
        if header != columns:
            raise DataError(f"{where}: columns {','.join(header)}; must be {','.join(columns)}")
        for number, row in enumerate(rows, start=2):
            if not _ROW.fullmatch(",".join(row)):
                raise DataError(f"{where}: line {number}: {row}; must be train or test, an index and a label")
            key = (row[0], int(row[1]))
            if key in labels:
                raise DataError(f"{where}: line {number}: {row[0]} image {row[1]} for the second time")
            labels[key] = int(row[2])
    return labels


def _open_npz(source: Path, published: Published) -> Dataset:
    arrays = _read_npz(source, published)

    def read(split: SplitName) -> Split:
        if split == "train":
            raise DataError(f"{source}: an .npz holds test images only; training needs another source")
        return array_split(arrays["images"], arrays["labels"], name=f"{source}", num_classes=10, index=arrays["index"])

    description = published.describe(note="", train=0, test=len(arrays["images"]))
    return published.dataset(description, read)


def _read_npz(source: Path, published: Published) -> dict[str, npt.NDArray[np.uint8]]:
    """Return images [n, c, h, w], labels [n] and index [n] of an npz file."""
    keys = ("images", "labels", "index")
    arrays = read_npz(source, keys, expected=f"an .npz with the arrays {', '.join(keys)}")
    channels, height, width = published.image_shape
    shape = (height, width) if channels == 1 else (height, width, channels)
    images = arrays["images"]
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise DataError(f"{source}: images are {images.dtype} {images.shape}; must be uint8 {('n', *shape)}")
    for key in ("labels", "index"):
        if arrays[key].dtype.kind not in "iu" or arrays[key].shape != (len(images),):
            raise DataError(
                f"{source}: {key} {arrays[key].dtype} {arrays[key].shape}; must be integers ({len(images)},)"
            )
    stacked = images.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return {**arrays, "images": np.ascontiguousarray(stacked)}
