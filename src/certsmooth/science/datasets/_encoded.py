"""Data sets of encoded images, JPEG and PNG: what is done with each, and how it is read without filling the memory.

- **Colours.** Each image is one of 8 bits, grey or RGB: a palette and CMYK become RGB, one bit and 16 bits of grey
  become 8 (the nearest). ``colour`` makes all grey (0.299 R + 0.587 G + 0.114 B, rounded) or all RGB; else they must
  be alike. An alpha channel that is opaque everywhere is dropped. Transparent pixels have no colour of their own, and
  what lies behind them is not ours to choose: such an image is refused, and so is one of 16 bits in colour, which
  Pillow cuts off.
- **Orientation.** What a camera left in EXIF is applied.
- **Size.** The shorter side becomes ``size`` pixels (bilinear, antialiased), rounded to 8 bits, so that every image
  lies on the grid 1/255; then the ``crop`` x ``crop`` pixels in the centre are used. What results must be of one
  shape.

A split of up to `IN_MEMORY` bytes is an array, decoded once. Of a larger one, images are decoded when they are asked
for; making it reads every file once, for the fingerprint, and looks at every header, so that what is no image is
named then.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
import numpy.typing as npt
from annotated_types import Ge
from PIL import Image
from tqdm import tqdm

from certsmooth.errors import ConfigError, DataError
from certsmooth.science.datasets import DatasetMember, Split, array_split
from certsmooth.science.datasets._files import decode, stored_shape

IN_MEMORY = 2**30
"""Bytes of the decoded images of a split, up to which they are kept as an array."""

Colour = Literal["grey", "rgb"]
Side = Annotated[int, Ge(1)]
Shape = tuple[int, int, int]


class Encoded(Protocol):
    """Encoded images by position; each comes with its name, as errors and the fingerprint have it."""

    def __len__(self) -> int:
        """Return the number of images."""

    def where(self, name: str, /) -> str:
        """Return how errors call an image."""

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Yield every image, in order."""

    def at(self, positions: npt.NDArray[np.int64], /) -> Iterator[tuple[str, bytes]]:
        """Yield the images at ``positions``, in their order."""


@dataclass(frozen=True)
class Preparation:
    """What is done with an image, see the module.

    Attributes:
        colour: that all get; None: as they are.
        size: pixels of the shorter side after resizing; None: not resized.
        crop: pixels of each side of the centre that is used; None: all of it.
        upright: whether EXIF's orientation is applied.
    """

    colour: Colour | None
    size: int | None
    crop: int | None
    upright: bool = True

    def __str__(self) -> str:
        parts = [
            *([] if self.colour is None else [{"rgb": "RGB"}.get(self.colour, self.colour)]),
            *([] if self.size is None else [f"resize {self.size}"]),
            *([] if self.crop is None else [f"crop {self.crop}"]),
            *(["upright"] if self.upright else []),
        ]
        return ", ".join(parts) or "as stored"

    def shape(self, data: bytes, *, where: str) -> Shape:
        """Return the shape that an image gets; only its header is read.

        Raises:
            DataError: it is no image, or smaller than what is cut out.
        """
        channels, height, width = stored_shape(data, where=where, upright=self.upright)
        if self.colour is not None:
            channels = 1 if self.colour == "grey" else 3
        width, height = self._resized(width, height)
        if self.crop is None:
            return channels, height, width
        if min(height, width) < self.crop:
            raise DataError(
                f"{where}: {width}x{height} pixels; must be at least {self.crop}x{self.crop}, or resized by the option"
                " `size`"
            )
        return channels, self.crop, self.crop

    def __call__(self, data: bytes, *, where: str) -> npt.NDArray[np.uint8]:
        """Return an image, [c, h, w].

        Raises:
            DataError: see `certsmooth.science.datasets._files.decode`.
        """
        image = decode(data, where=where, upright=self.upright)
        if self.colour is not None:
            image = image.convert("L" if self.colour == "grey" else "RGB")
        if (size := self._resized(*image.size)) != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        if self.crop is not None:
            left, top = (round((side - self.crop) / 2) for side in image.size)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        pixels = np.asarray(image)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.size is None:
            return width, height
        short = min(width, height)
        return self.size * width // short, self.size * height // short


@dataclass(frozen=True, kw_only=True)
class EncodedMember(DatasetMember):
    """Base of the data sets whose images are encoded.

    Attributes:
        size: pixels of the shorter side after resizing (bilinear, antialiased, rounded to 8 bits); null: not resized
        crop: pixels of each side of the centre that is used; null: all of it
        colour: ``grey`` or ``rgb``, that all images get; null: as they are, which must be alike
    """

    size: Side | None = None
    crop: Side | None = None
    colour: Colour | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None and self.crop is not None and self.crop > self.size:
            raise ConfigError(f"crop: {self.crop}; must be at most size, {self.size}")

    @property
    def preparation(self) -> Preparation:
        """What is done with each image."""
        return Preparation(self.colour, self.size, self.crop)


@dataclass(frozen=True)
class Decoded:
    """Images that are decoded when they are asked for.

    Attributes:
        files: the encoded images.
        prepare: what is done with each.
        shape: that each must get.
    """

    files: Encoded
    prepare: Preparation
    shape: Shape

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, positions: npt.NDArray[np.int64], /) -> npt.NDArray[np.uint8]:
        """Return the images at ``positions``, uint8 [b, c, h, w]; raise DataError if one is damaged."""
        positions = np.arange(len(self), dtype=np.int64)[positions]
        images = np.empty((len(positions), *self.shape), dtype=np.uint8)
        for place, (name, data) in enumerate(self.files.at(positions)):
            images[place] = _prepared(self, name, data)
        return images


def _prepared(images: Decoded, name: str, data: bytes) -> npt.NDArray[np.uint8]:
    where = images.files.where(name)
    _check_shape(images, images.prepare.shape(data, where=where), where=where)
    return images.prepare(data, where=where)


def _check_shape(images: Decoded, found: Shape, *, where: str) -> None:
    if found == images.shape:
        return
    of = {shape: f"{'grey' if shape[0] == 1 else 'RGB'} image of {shape[2]}x{shape[1]} pixels"
          for shape in (found, images.shape)}  # fmt: skip
    right = "give colour: grey or colour: rgb" if found[1:] == images.shape[1:] else "give size and crop"
    raise DataError(f"{where}: {of[found]}, but the first is a {of[images.shape]}; must be alike: {right}")


def encoded_split(
    images: Decoded, labels: npt.NDArray[np.int64], index: npt.NDArray[np.int64], *, name: str, num_classes: int,
    in_memory: int | None = None,
) -> Split:  # fmt: skip
    """Make a split of encoded images: an array, or decoded when asked for.

    Args:
        images: which, and what is done with them.
        labels: [n], in 0 .. num_classes - 1.
        index: [n], distinct and not negative.
        name: how errors call the split.
        num_classes: number of classes.
        in_memory: bytes up to which it is an array; None for `IN_MEMORY`.

    Raises:
        DataError: an image is damaged, or not alike the others; the message names it.
    """
    if len(images) * math.prod(images.shape) > (IN_MEMORY if in_memory is None else in_memory):
        return Split(images, labels, index, _fingerprint(images, labels, name=name))
    array = np.empty((len(images), *images.shape), np.uint8)
    progress = tqdm(images.files.all(), f"{name}: decoding", len(images), unit="image", disable=None)
    for place, (file, data) in enumerate(progress):
        array[place] = _prepared(images, file, data)
    return array_split(array, labels, name=name, num_classes=num_classes, index=index)


def _fingerprint(images: Decoded, labels: npt.NDArray[np.int64], *, name: str) -> str:
    """Hash preparation, then name, label, size and bytes of each image, one in memory at a time; check each header."""
    digest = hashlib.sha256(f"{images.prepare};".encode())
    progress = tqdm(images.files.all(), f"{name}: content hash", len(images), unit="image", disable=None)
    for label, (file, data) in zip(labels.tolist(), progress, strict=True):
        where = images.files.where(file)
        _check_shape(images, images.prepare.shape(data, where=where), where=where)
        digest.update(f"{file}\0{label}\0{len(data)}\0".encode())
        digest.update(data)
    return f"sha256:{digest.hexdigest()}"


def describe(classes: int, train: int, test: int, prepare: Preparation | None = None) -> str:
    """Return what is said of a data set of one's own: its numbers, and what is done with its images."""
    numbers = f"{classes:,} classes, {train:,} training images, {test:,} test images"
    return numbers if prepare is None else f"{numbers}, {prepare}, 8 bits"


def check_classes(source: object, train: Collection[str], test: Collection[str]) -> None:
    """Check that there are classes to tell apart, and that those of the test images can be learnt.

    Args:
        source: how errors call the data set.
        train: the classes of the training images.
        test: those of the test images.

    Raises:
        DataError: they are not so; names a class.
    """
    if odd := sorted(set(test) - set(train)):
        raise DataError(f"{source}: class {odd[0]!r} has test images, but no training images; must have both")
    if len(set(train)) < 2:
        raise DataError(f"{source}: one class, {next(iter(train))!r}; must be at least two")


def sorted_classes(names: Collection[str]) -> tuple[str, ...]:
    """Return the names of classes in their order: by number if all are whole numbers, else as text."""
    different = set(names)
    numbers = all(name.isascii() and name.isdecimal() and len(name) < 10 for name in different)
    return tuple(sorted(different, key=(lambda name: (int(name), name)) if numbers else (lambda name: (0, name))))


def numbered(names: Iterable[object], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the number of each name among the classes."""
    number = {name: label for label, name in enumerate(classes)}
    return np.array([number[str(name)] for name in names], dtype=np.int64)
