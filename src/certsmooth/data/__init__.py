"""Data sets: one file each, behind one small interface.

A member module defines ``NAME``-less ``load(source: Path | None, download: Path) -> Dataset``; the module's name is
the data set's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from certsmooth.errors import DataError
from certsmooth.registry import member


class Images(Protocol):
    """Images by position: an array in memory, or files that are decoded when they are asked for."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, positions: npt.NDArray[np.int64], /) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        """Return the images at ``positions``, shape [b, *image_shape]."""


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        images: uint8 [n, c, h, w] (divided by 255 when read), or float32 (in [0, 1] for images; unbounded for toy
            data, whose data set has ``pixel_range`` None).
        labels: int64 [n].
        index: int64 [n], each image's position in the split as its authors published it.
        fingerprint: content hash of images, labels and index, ``sha256:`` and 64 hexadecimal digits.
    """

    images: Images
    labels: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, positions: npt.NDArray[np.int64]) -> Float[Tensor, "b *shape"]:
        """Return the images at ``positions`` as float32, uint8 divided by 255."""
        images = self.images[positions]
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        return tensor.to(torch.float32).div_(255) if tensor.dtype == torch.uint8 else tensor


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: the member's name.
        description: what was really used, for people: "CIFAR-10, JPEG copy, 10,000 test images".
        image_shape: shape of one image, (c, h, w); toy data in d dimensions have (d,).
        num_classes: labels are 0 .. num_classes - 1.
        pixel_range: (0.0, 1.0) for images, None for toy data without one.
        train: loads the training split.
        test: loads the test split.
    """

    name: str
    description: str
    image_shape: tuple[int, ...]
    num_classes: int
    pixel_range: tuple[float, float] | None
    train: Callable[[], Split]
    test: Callable[[], Split]


def load(name: str, *, source: Path | None = None, download: Path = Path("data")) -> Dataset:
    """Load a data set by name.

    Args:
        name: a module of this package.
        source: a local copy, in a form that the member documents; None for the member's own way (download, or none).
        download: the folder that downloads go to.

    Raises:
        ConfigError: no such data set.
        DataError: missing or corrupt files, or a wrong checksum; the message names the file.
    """
    dataset: Dataset = member("data", name).load(source=source, download=download)
    return dataset


def array_split(
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    labels: Int[np.ndarray, " n"],
    *,
    name: str,
    num_classes: int,
    pixel_range: tuple[float, float] | None = (0.0, 1.0),
    index: Int[np.ndarray, " n"] | None = None,
) -> Split:
    """Make a split of arrays in memory, checked and fingerprinted.

    Args:
        images: uint8 or float32 [n, *image_shape].
        labels: [n], in 0 .. num_classes - 1.
        name: how errors call the split, for example "mnist test".
        num_classes: number of classes.
        pixel_range: None switches the range check of float images off (toy data).
        index: [n]; positions 0 .. n - 1 if None.

    Raises:
        DataError: images and labels differ in number, a label or a pixel is out of range, or a pixel is not finite.
    """
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    index = np.arange(len(labels), dtype=np.int64) if index is None else np.ascontiguousarray(index, np.int64)
    if len(images) != len(labels) or len(index) != len(labels):
        raise DataError(f"{name}: {len(images)} images, {len(labels)} labels, {len(index)} indices; must be equal")
    if len(labels) == 0:
        raise DataError(f"{name}: no images")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"{name}: labels from {labels.min()} to {labels.max()}; must be in 0 .. {num_classes - 1}")
    if images.dtype != np.uint8:
        _check_range(images, name, pixel_range)
    return Split(images, labels, index, fingerprint(images, labels, index))


def _check_range(
    images: npt.NDArray[np.float32] | npt.NDArray[np.uint8], name: str, pixel_range: tuple[float, float] | None
) -> None:
    if images.dtype != np.float32:
        raise DataError(f"{name}: images of type {images.dtype}; must be uint8 or float32")
    if not np.isfinite(images).all():
        raise DataError(f"{name}: a pixel is not finite")
    if pixel_range is not None and (images.min() < pixel_range[0] or images.max() > pixel_range[1]):
        raise DataError(f"{name}: pixels from {images.min():g} to {images.max():g}; must be in {pixel_range}")


def fingerprint(images: npt.NDArray[np.generic], labels: npt.NDArray[np.int64], index: npt.NDArray[np.int64]) -> str:
    """Return the content hash of a split: types, shapes and bytes of its three arrays."""
    digest = hashlib.sha256()
    for array in (images, labels, index):
        digest.update(f"{array.dtype.str}{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"
