"""Images of one's own, or MedMNIST's, as arrays in one ``.npz`` file; nothing in it is unpickled.

- ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``, as MedMNIST has them. ``val_images`` and
  ``val_labels`` are the test split where there is no ``test_images``; else they are not read, as `validation` sets a
  share of the training images aside.
- ``images``, ``labels`` and ``split``: text, "train" or "test" ("val" where there is no "test") for each image.

Images are uint8, [n, h, w] or [n, h, w, c] with 1 or 3 channels. Labels are [n] or [n, 1]: whole numbers or text;
each that the training images have is a class, in the order of numbers, or else of text. Arrays of a split are read
whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from certsmooth.errors import ConfigError, DataError
from certsmooth.science.datasets import Dataset, DatasetMember, Split, SplitName, array_split
from certsmooth.science.datasets._encoded import check_classes, describe, numbered, sorted_classes
from certsmooth.science.datasets._files import npz_headers, read_npz, reading
from certsmooth.science.datasets._listing import TEST_NAMES, first_of

_FORM = (
    "an .npz with train_images, train_labels, test_images and test_labels (as MedMNIST's), "
    "or with images, labels and split"
)
_MOST_BYTES = 2**32
"""Of an array of images: all of it is read."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Npz(DatasetMember):
    """Arrays of one's own; no options."""

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load the arrays; images are uint8 [1, h, w] or [3, h, w].

        Args:
            source: the file.
            download: not used.

        Raises:
            ConfigError: no source.
            DataError: it is in no such form, or damaged; names the array.
        """
        if source is None:
            raise ConfigError(f"npz: no source; must be {_FORM}")
        if not source.is_file():
            raise DataError(f"{source}: {'no file' if source.exists() else 'no such file'}; must be {_FORM}")
        headers = npz_headers(source, expected=_FORM)
        test = first_of([f"{name}_images" for name in TEST_NAMES], headers)
        if "train_images" in headers and test is not None:
            return _dataset(source, _Separate(source, headers, test.removesuffix("_images")))
        if {"images", "labels", "split"} <= headers.keys():
            return _dataset(source, _Together(source, headers))
        found = ", ".join(sorted(headers)[:20]) or "no arrays"
        raise DataError(f"{source}: holds {found}; must be {_FORM}")


Headers = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


class _Separate:
    """Arrays of their own for each split."""

    def __init__(self, source: Path, headers: Headers, test: str) -> None:
        self._source = source
        self._names: dict[SplitName, str] = {"train": "train", "test": test}
        for name in self._names.values():
            if f"{name}_labels" not in headers:
                raise DataError(f"{source}: {name}_images, but no {name}_labels; must be {_FORM}")
        shapes = {name: _shape(source, f"{name}_images", headers[f"{name}_images"]) for name in self._names.values()}
        self.shape = shapes["train"]
        if shapes[test] != self.shape:
            found = f"train_images of {list(self.shape)}, {test}_images of {list(shapes[test])}"
            raise DataError(f"{source}: {found}; must be of one shape")

    def labels(self, split: SplitName) -> Array:
        """Return the labels of a split."""
        return self._array(f"{self._names[split]}_labels")

    def images(self, split: SplitName) -> Array:
        """Return the images of a split."""
        return self._array(f"{self._names[split]}_images")

    def _array(self, key: str) -> Array:
        return read_npz(self._source, [key], expected=_FORM)[key]


class _Together:
    """Arrays of all images, and the split of each."""

    def __init__(self, source: Path, headers: Headers) -> None:
        self._source = source
        self.shape = _shape(source, "images", headers["images"])
        arrays = read_npz(source, ["labels", "split"], expected=_FORM)
        self._labels, splits = arrays["labels"], arrays["split"]
        if splits.dtype.kind not in "US" or splits.shape != self._labels.shape[:1]:
            raise DataError(
                f"{source}: split is {splits.dtype} {list(splits.shape)}; must be text, one for each of the labels"
            )
        with reading(source, expected=_FORM):
            splits = splits.astype(np.str_)
        known = sorted(set(np.unique(splits).tolist()))
        test = first_of(TEST_NAMES, known)
        if "train" not in known or test is None or set(known) - {"train", *TEST_NAMES}:
            raise DataError(f"{source}: split has {', '.join(known)[:200]}; must have train and test (or val)")
        self._chosen: dict[SplitName, Array] = {"train": splits == "train", "test": splits == test}

    def labels(self, split: SplitName) -> Array:
        """Return the labels of a split."""
        return self._labels[self._chosen[split]]

    def images(self, split: SplitName) -> Array:
        """Return the images of a split."""
        images = read_npz(self._source, ["images"], expected=_FORM)["images"]
        if len(images) != len(self._labels):
            raise DataError(f"{self._source}: {len(images)} images, {len(self._labels)} labels; must be equal")
        return images[self._chosen[split]]


def _dataset(source: Path, arrays: _Separate | _Together) -> Dataset:
    names: dict[SplitName, list[str]] = {"train": [], "test": []}
    for split in names:
        names[split] = _names(f"{source}: {split}", arrays.labels(split))
    check_classes(source, names["train"], names["test"])
    classes, shape = sorted_classes(names["train"]), arrays.shape

    def read(split: SplitName) -> Split:
        images = arrays.images(split)
        stacked = np.ascontiguousarray(images.reshape(-1, *shape[1:], shape[0]).transpose(0, 3, 1, 2))
        labels = numbered(names[split], classes)
        return array_split(stacked, labels, name=f"{source}: {split}", num_classes=len(classes))

    def reader(split: SplitName) -> Callable[[], Split]:
        return lambda: read(split)

    return Dataset(
        name="npz",
        description=describe(len(classes), len(names["train"]), len(names["test"])),
        image_shape=shape,
        num_classes=len(classes),
        pixel_range=(0.0, 1.0),
        train=reader("train"),
        test=reader("test"),
        classes=classes,
    )


def _shape(source: Path, key: str, header: tuple[tuple[int, ...], np.dtype[Any]]) -> tuple[int, int, int]:
    """Return the shape of one image, [c, h, w]."""
    shape, kind = header
    right = "uint8 [n, h, w] or [n, h, w, c] with 1 or 3 channels"
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or min(shape) < 1:
        raise DataError(f"{source}: {key} is {kind} {list(shape)}; must be {right}")
    if kind != np.uint8:
        round_them = {"uint16": ": (x / 257).round()", "float32": ": (255 * x).round()"}.get(str(kind), "")
        raise DataError(f"{source}: {key} is {kind} {list(shape)}; must be {right}; round to 8 bits{round_them}")
    if np.prod(shape, dtype=object) > _MOST_BYTES:
        raise DataError(f"{source}: {key} has over {_MOST_BYTES} bytes; must be at most that, or files in a folder")
    return (shape[3] if len(shape) == 4 else 1), shape[1], shape[2]


def _names(where: str, labels: Array) -> list[str]:
    """Return the class of each image as text."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iuU" or len(labels) == 0:
        found = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"{where}: labels are {found}; must be whole numbers or text, one for each image")
    return [str(label) for label in labels.tolist()]
