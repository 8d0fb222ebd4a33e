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
from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from certsmooth.errors import DataError
from certsmooth.science.datasets import Dataset, Published, Split, SplitName, array_split
from certsmooth.science.datasets._files import decode, open_packed, read_file, read_npz, reading
from certsmooth.science.datasets._idx import IdxFiles

_FORMS = (
    "a folder or tar archive with labels.csv and train/00000.jpg ... test/00000.jpg ..., "
    "or an .npz with images, labels and index of test images"
)
"""The forms read here, for error messages."""

IMAGE = r"(?:.*/)?(train|test)/([0-9]{1,9})\.(jpg|jpeg|png)"
"""The name of a numbered image: split, number, format."""

_IMAGE = re.compile(IMAGE)
_ROW = re.compile(r"(train|test),[0-9]{1,9},[0-9]{1,9}")
_LABELS = re.compile(r"(?:.*/)?labels\.csv")
_MAX_BYTES = 2**24
"""No labels file and no small image is larger; an archive may announce anything."""

_MAX_ARCHIVE_BYTES = 2**29
"""Unpacked: twice what all images of CIFAR-10 take as PNG files in a tar archive."""

_Entry = tuple[str, str, Callable[[], bytes]]
"""Name of a file of a copy, how errors call it, and a reader, which works until the next file is asked for."""


def open_copy(source: Path, published: Published, *, own: Callable[[Path], Dataset | None], form: str) -> Dataset:
    """Open a copy in one of the forms of this module, or in a form of its data set's own.

    Args:
        source: the copy.
        published: what it is a copy of.
        own: opens one in the own form; returns None for what is not in it.
        form: the own form, for the error.

    Raises:
        DataError: it is in none of these forms, or damaged.
    """
    if source.is_file() and source.suffix == ".npz":
        return _open_npz(source, published)
    if (source / "labels.csv").is_file() or (source.is_file() and ".tar" in source.suffixes[-2:]):
        return _open_numbered(source, published)
    if (dataset := own(source)) is not None:
        return dataset
    state = "not one of the forms read here" if source.exists() else "no such file or folder"
    raise DataError(f"{published.name}: source {source}: {state}; must be {form}, or {_FORMS}")


def fetch(path: Path, urls: Sequence[str], *, md5: str) -> Path:
    """Download a file, from the first address that has it, unless it is there with the published checksum.

    Raises:
        DataError: no address has it.
    """
    from torchvision.datasets.utils import download_url  # here, as torchvision takes seconds

    failures = []
    for url in urls:
        try:
            download_url(url, path.parent, filename=path.name, md5=md5)
        except (OSError, RuntimeError) as error:
            failures.append(f"{url}: {error}")
        else:
            return path
    raise DataError(
        f"{path}: download failed ({'; '.join(failures)}); "
        f"must be the file with md5 {md5}, or give a local copy as source"
    )


def fetch_idx(name: str, files: IdxFiles, split: SplitName, *, download: Path) -> Split:
    """Download the files of a split of a data set that torchvision has in the IDX format, and read it.

    Args:
        name: of torchvision's class.
        files: what they are called.
        split: which.
        download: the folder that downloads go to, as torchvision lays it out.

    Raises:
        DataError: no mirror has them.
    """
    from torchvision import datasets  # here, as torchvision takes seconds

    known = getattr(datasets, name)
    md5, folder = dict(known.resources), download / name / "raw"
    names = [f"{file}.gz" for file in files.names(split)]
    images, labels = (fetch(folder / each, [f"{m}{each}" for m in known.mirrors], md5=md5[each]) for each in names)
    return files.read(images, labels)


def _open_numbered(source: Path, published: Published) -> Dataset:
    labels, note = _survey(source)
    counts = Counter(split for split, _ in labels)

    def read(split: SplitName) -> Split:
        return _read_numbered(source, published, split, {i: label for (s, i), label in labels.items() if s == split})

    description = published.describe(note=note, train=counts["train"], test=counts["test"])
    return published.dataset(description, read)


def _survey(source: Path) -> tuple[dict[tuple[str, int], int], str]:
    """Return the labels and the kind of images of a copy, reading no more of it than that takes."""
    labels, note = None, None
    with closing(_entries(source)) as entries:
        for name, where, read in entries:
            if _LABELS.fullmatch(name):
                labels = parse_labels(read(), where=where)
            elif note is None and (match := _IMAGE.fullmatch(name)):
                note = "PNG files" if match[3] == "png" else "JPEG files"
            if labels is not None and note is not None:
                return labels, note
    missing = "labels.csv" if labels is None else "images train/00000.jpg ... or test/00000.jpg ..."
    raise DataError(f"{source}: no {missing}; must be {_FORMS}")


def _read_numbered(source: Path, published: Published, split: SplitName, labels: dict[int, int]) -> Split:
    if not labels:
        raise DataError(f"{source}: {split}: labels.csv lists no image of this split")
    images = _decoded(source, published, split)
    check_agreement(f"{source}: {split}", labels, images)
    order = sorted(labels)
    return array_split(
        np.stack([images[index] for index in order]),
        np.array([labels[index] for index in order]),
        name=f"{source}: {split}",
        num_classes=published.num_classes,
        index=np.array(order),
    )


def check_agreement(
    where: object, listed: Collection[int] | Collection[str], files: Collection[int] | Collection[str], *,
    listed_in: str = "labels.csv",
) -> None:  # fmt: skip
    """Check that images are listed and there.

    Args:
        where: how errors call the split.
        listed: names or numbers of the images in a list.
        files: of those in files.
        listed_in: the name of the list.

    Raises:
        DataError: an image is in one of the two only; names it.
    """
    for image in sorted({*listed} ^ {*files}):
        kind = f"an image in {listed_in}, but no file" if image in listed else f"a file, but no line in {listed_in}"
        raise DataError(f"{where}: {'number ' if isinstance(image, int) else ''}{image} has {kind}")


def _decoded(source: Path, published: Published, split: SplitName) -> dict[int, npt.NDArray[np.uint8]]:
    """Return the images of a split by number, in one pass over the copy."""
    images: dict[int, npt.NDArray[np.uint8]] = {}
    tables = 0
    with closing(_entries(source)) as entries:
        for name, where, read in entries:
            if _LABELS.fullmatch(name):
                tables += 1
                if tables > 1:
                    raise DataError(f"{where}: a second labels.csv; there must be one")
            elif (match := _IMAGE.fullmatch(name)) and match[1] == split:
                number = int(match[2])
                if number in images:
                    raise DataError(f"{where}: a second image {number}; there must be one")
                image = decode(read(), shape=published.image_shape, where=where)
                images[number] = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    return images


def _entries(source: Path) -> Generator[_Entry]:
    """Yield each file of a copy."""
    if not source.is_dir():
        yield from _members(source)
        return
    with reading(source, expected="a readable folder"):
        paths = [source / "labels.csv", *sorted(source.glob("train/*")), *sorted(source.glob("test/*"))]
    for path in paths:
        yield path.relative_to(source).as_posix(), str(path), partial(read_file, path)


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
                where = f"{source}: {info.name}"
                yield info.name, where, partial(_read_member, archive, info, where)
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


def _read_member(archive: tarfile.TarFile, info: tarfile.TarInfo, where: str) -> bytes:
    if info.size > _MAX_BYTES:
        raise DataError(f"{where}: {info.size} bytes; must be at most {_MAX_BYTES}")
    with reading(where, expected="whole"):
        file = archive.extractfile(info)
        data = b"" if file is None else file.read()
    if len(data) != info.size:
        raise DataError(f"{where}: {len(data)} of {info.size} bytes; the archive is truncated")
    return data


def parse_labels(data: bytes, *, where: str) -> dict[tuple[str, int], int]:
    """Return the label of each (split, index) of labels.csv.

    Raises:
        DataError: a line is wrong; names it.
    """
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
    test = _read_npz(source, published)

    def read(split: SplitName) -> Split:
        if split == "train":
            raise DataError(f"{source}: an .npz holds test images only; training needs another source")
        return test

    return published.dataset(published.describe(train=0, test=len(test)), read)


def _read_npz(source: Path, published: Published) -> Split:
    keys = ("images", "labels", "index")
    arrays = read_npz(source, keys, expected=f"an .npz with the arrays {', '.join(keys)}")
    images, labels, index = (arrays[key] for key in keys)
    channels, height, width = published.image_shape
    shape = (height, width) if channels == 1 else (height, width, channels)
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise DataError(f"{source}: images are {images.dtype} {images.shape}; must be uint8 {('n', *shape)}")
    for key, array in (("labels", labels), ("index", index)):
        if array.dtype.kind not in "iu" or array.shape != (len(images),):
            raise DataError(f"{source}: {key} {array.dtype} {array.shape}; must be integers ({len(images)},)")
    stacked = np.ascontiguousarray(images.reshape(-1, height, width, channels).transpose(0, 3, 1, 2))
    return array_split(stacked, labels, name=str(source), num_classes=published.num_classes, index=index)
