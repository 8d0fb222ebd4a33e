"""Image files of a data set of one's own, listed: a folder per class, a labels.csv, or Tiny ImageNet's layout.

Only listed: no image is opened. Passed over are hidden files and folders (a dot first), files that are no images by
the end of their names, and what is neither file nor folder.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from certsmooth.errors import DataError
from certsmooth.science.datasets._copies import IMAGE, check_agreement, parse_labels
from certsmooth.science.datasets._encoded import sorted_classes
from certsmooth.science.datasets._files import read_file, reading

TEST_NAMES = ("test", "val", "valid", "validation")
"""Of the test split: the first that is there."""

LABELS = "labels.csv"
_ANNOTATIONS = "val_annotations.txt"
_READ = (".jpg", ".jpeg", ".png")
_NOT_READ = (".avif", ".bmp", ".gif", ".heic", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_MOST_LISTED = 2**28
"""Bytes of a labels file: that of ten million images."""


@dataclass(frozen=True)
class Listing:
    """The image files of a split.

    Attributes:
        root: the folder of the data set.
        names: of the files, from there.
        labels: the name of the class of each.
        index: int64 [n], position of each in the split.
    """

    root: Path
    names: tuple[str, ...]
    labels: tuple[str, ...]
    index: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def where(self, name: str, /) -> str:
        """Return how errors call a file."""
        return str(self.root / name)

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes of every file, in order."""
        return self.at(np.arange(len(self), dtype=np.int64))

    def at(self, positions: npt.NDArray[np.int64], /) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes of the files at ``positions``."""
        for position in positions.tolist():
            yield self.names[position], read_file(self.root / self.names[position], expected="a JPEG or PNG image")


@dataclass(frozen=True)
class Listed:
    """Both splits, and the names of the classes in the order of their numbers."""

    train: Listing
    test: Listing
    classes: tuple[str, ...]


def first_of(names: Sequence[str], known: Collection[str]) -> str | None:
    """Return the first name that is among the known ones."""
    return next((name for name in names if name in known), None)


def in_class_folders(root: Path, train: str, test: str, *, form: str) -> Listed:
    """List ``root/train`` and ``root/test``, each with one folder of images per class.

    Classes are numbered in the order of the names of their folders, images in the order of class and path.

    Args:
        root: the folder of the data set.
        train: the name of the one folder.
        test: of the other.
        form: what is right, for errors.

    Raises:
        DataError: no such folders, a class without images or in one of the two only, or an image in a format that is
            not read.
    """
    found = {split: _class_folders(root, split, form=form) for split in (train, test)}
    if odd := sorted(found[train].keys() ^ found[test].keys()):
        raise DataError(
            f"{root}: class folder {odd[0]} is in only one of {train}/ and {test}/; both must have each class"
        )
    return Listed(_listing(root, found[train]), _listing(root, found[test]), tuple(found[train]))


def _listing(root: Path, classes: Mapping[str, Sequence[str]]) -> Listing:
    return _in_order(root, [(file, name) for name, files in classes.items() for file in files])


def _in_order(root: Path, images: Sequence[tuple[str, str]]) -> Listing:
    """Return a listing of files and their classes, numbered as they come."""
    files, labels = (tuple(each[place] for each in images) for place in (0, 1))
    return Listing(root, files, labels, np.arange(len(files), dtype=np.int64))


def _class_folders(root: Path, split: str, *, form: str) -> dict[str, list[str]]:
    folder = root / split
    with reading(folder, expected=f"one of the two folders of {form}"):
        names = sorted(entry.name for entry in _shown(folder) if entry.is_dir())
    if not names:
        raise DataError(f"{folder}: no folders; must hold one folder of images per class")
    return {name: _images_below(root, f"{split}/{name}") for name in names}


def _images_below(root: Path, start: str) -> list[str]:
    """Return the image files in a folder of a class and in those below it, in the order of folder and name."""
    found, todo, seen = [], [start], set()
    while todo:
        folder = todo.pop()
        with reading(root / folder, expected="a readable folder"):
            if (real := os.path.realpath(root / folder)) in seen:
                raise DataError(f"{root / folder}: the same folder as another of its class, by a link; must be once")
            seen.add(real)
            for entry in _shown(root / folder):
                if entry.is_dir():
                    todo.append(f"{folder}/{entry.name}")
                elif entry.is_file() and _is_image(root / folder, entry.name):
                    found.append((folder, entry.name))
    if not found:
        raise DataError(f"{root / start}: no images of class {start.split('/')[-1]}; must hold JPEG or PNG files")
    return [f"{folder}/{name}" for folder, name in sorted(found)]


def _shown(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.name[0] != "."]


def _is_image(folder: Path, name: str) -> bool:
    end = name[name.rfind(".") :].lower() if "." in name else ""
    if end in _NOT_READ:
        raise DataError(f"{folder / name}: an image in a format that is not read; must be JPEG or PNG: convert it")
    return end in _READ


def is_tiny_imagenet(root: Path) -> bool:
    """Return whether a folder has Tiny ImageNet's layout, whose test/ has no labels."""
    return (root / "val" / _ANNOTATIONS).is_file()


def in_tiny_imagenet(root: Path, *, form: str) -> Listed:
    """List ``root/train`` as `in_class_folders`, and ``root/val/images`` by ``root/val/val_annotations.txt``.

    Raises:
        DataError: the two do not agree, or see `in_class_folders`.
    """
    train, where = _class_folders(root, "train", form=form), root / "val" / _ANNOTATIONS
    rows = [line.split("\t") for line in _text(where, expected="a list of files and classes").splitlines()]
    labels: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) < 2 or row[0] in labels:
            raise DataError(f"{where}: line {number}: {row}; must be a file, once, and its class, with a tab between")
        labels[row[0]] = row[1]
    files = sorted(name.split("/")[-1] for name in _images_below(root, "val/images"))
    check_agreement(root / "val", labels, files, listed_in=_ANNOTATIONS)
    test = _in_order(root, [(f"val/images/{name}", labels[name]) for name in files])
    return Listed(_listing(root, train), test, tuple(train))


def in_labels(root: Path) -> Listed:
    """List what ``root/labels.csv`` lists: columns split,file,label, or split,index,label for ``train/00000.png ...``.

    A split is train or test; or val, which is the test split where there is no test. Images are in the order of the
    lines, or of their numbers, which are their index. Classes are numbered in the order of `sorted_classes`.

    Raises:
        DataError: damaged, a line that is wrong, a file that is not there, or a split without images.
    """
    path = root / LABELS
    text = _text(path, expected="a comma-separated file with the columns split,file,label")
    with reading(path, expected="a comma-separated file"):
        rows = list(csv.reader(io.StringIO(text, newline="")))
    header = ",".join(rows[0]) if rows else ""
    if header == "split,index,label":
        splits = _by_number(root, text)
    elif header == "split,file,label":
        splits = _by_file(root, rows)
    else:
        raise DataError(f"{path}: columns {header[:200]}; must be split,file,label or split,index,label")
    test = first_of(TEST_NAMES, splits)
    if "train" not in splits or test is None:
        known = ", ".join(splits) or "none"
        raise DataError(f"{path}: images of {known}; must be of train and of test (or val)")
    return Listed(splits["train"], splits[test], sorted_classes(splits["train"].labels))


def _by_file(root: Path, rows: Sequence[Sequence[str]]) -> dict[str, Listing]:
    path, found, seen = root / LABELS, dict[str, list[tuple[str, str]]](), set()
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 3 or row[0] not in ("train", *TEST_NAMES) or not row[2].strip():
            raise DataError(f"{path}: line {number}: {row}; must be train or test, a file and a class")
        split, file, label = row
        pure = PurePosixPath(file)
        if pure.is_absolute() or ".." in pure.parts or not file.isprintable() or len(file) > 1000 or not pure.parts:
            raise DataError(f"{path}: line {number}: file {file[:200]!r}; must be a path below {root}, without '..'")
        if pure in seen:
            raise DataError(f"{path}: line {number}: {file} for the second time")
        if not (root / pure).is_file():
            raise DataError(f"{path}: line {number}: {file}: no such file; must be below {root}")
        seen.add(pure)
        found.setdefault(split, []).append((pure.as_posix(), label.strip()))
    return {split: _in_order(root, images) for split, images in found.items()}


def _by_number(root: Path, text: str) -> dict[str, Listing]:
    labels, splits = parse_labels(text.encode(), where=str(root / LABELS)), {}
    for split in ("train", "test"):
        wanted = {number: label for (each, number), label in labels.items() if each == split}
        files: dict[int, str] = {}
        with reading(root, expected="a readable folder"):
            names = sorted(f"{split}/{path.name}" for path in (root / split).glob("*") if path.is_file())
        for match in filter(None, map(re.compile(IMAGE).fullmatch, names)):
            if files.setdefault(int(match[2]), match[0]) != match[0]:
                raise DataError(f"{root / match[0]}: a second image {int(match[2])}; there must be one")
        check_agreement(f"{root}: {split}", wanted, files)
        if wanted:
            order = sorted(wanted)
            numbers = tuple(str(wanted[number]) for number in order)
            splits[split] = Listing(root, tuple(files[number] for number in order), numbers, np.array(order))
    return splits


def _text(path: Path, *, expected: str) -> str:
    with reading(path, expected=expected):
        return read_file(path, expected=expected, most=_MOST_LISTED).decode("utf-8-sig")
