"""Data sets, one file each, behind one small interface.

A member module defines one frozen dataclass, a subclass of `DatasetMember`; its fields are the options that params.yaml
may give.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from certsmooth._internal import registry
from certsmooth._internal.checks import check_integer, check_number
from certsmooth._internal.options import Member, make
from certsmooth.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

# torch and scikit-learn are imported where they are used: steps that only need pixels start without them.


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
        images: uint8 [n, c, h, w] (divided by 255 when read), or float32 (in [0, 1] for images; unbounded for
            toy data, whose data set has ``pixel_range`` None).
        labels: int64 [n].
        index: int64 [n], each image's position in the split as its authors published it; no two are equal.
        fingerprint: content hash of images, labels and index, ``sha256:`` and 64 hexadecimal digits.
    """

    images: Images
    labels: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, positions: npt.NDArray[np.int64]) -> Float[Tensor, " b *shape"]:
        """Return the images at ``positions`` as float32, uint8 divided by 255."""
        import torch

        tensor = torch.tensor(self.images[positions])  # a copy: what is read may not be writable
        return tensor.to(torch.float32).div_(255) if tensor.dtype == torch.uint8 else tensor

    def images_at(self, index: Int[np.ndarray, " m"]) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        """Return the images whose published positions are ``index``, as they are stored, [m, *image_shape]."""
        return self.images[self.positions(index)]

    def positions(self, index: Int[np.ndarray, " m"]) -> npt.NDArray[np.int64]:
        """Return where the images are whose published positions are ``index``."""
        order = np.argsort(self.index)
        found: npt.NDArray[np.int64] = order[np.searchsorted(self.index, index, sorter=order)]
        return found

    def subset(self, positions: Int[np.ndarray, " m"]) -> Split:
        """Return the images at ``positions``, in that order; images in files stay in their files.

        The subset keeps each image's ``index``. Its fingerprint is the hash of this split's fingerprint and
        of the subset's index array, so that it costs no second reading of the images.

        Args:
            positions: [m], distinct, in 0 .. n - 1, at least one.

        Raises:
            ConfigError: positions are not so.
        """
        positions = np.asarray(positions)
        if positions.ndim != 1 or positions.dtype.kind not in "iu" or len(positions) == 0:
            raise ConfigError(
                f"positions: {positions.dtype} of shape {positions.shape}; must be integers in one dimension"
            )
        chosen = positions.astype(np.int64)
        if chosen.min() < 0 or chosen.max() >= len(self) or len(np.unique(chosen)) != len(chosen):
            raise ConfigError(
                f"positions: {len(chosen)} from {chosen.min()} to {chosen.max()}; "
                f"must be distinct and in 0 .. {len(self) - 1}"
            )
        images = self.images[chosen] if isinstance(self.images, np.ndarray) else _Selected(self.images, chosen)
        index = self.index[chosen]
        digest = hashlib.sha256(f"subset of {self.fingerprint};".encode() + index.astype("<i8").tobytes())
        return Split(images, self.labels[chosen], index, f"sha256:{digest.hexdigest()}")


@dataclass(frozen=True)
class _Selected:
    """Some of the images of ``images``, still read only when they are asked for."""

    images: Images
    positions: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, positions: npt.NDArray[np.int64], /) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        return self.images[self.positions[positions]]


@dataclass(frozen=True)
class _Joined:
    """The images of two sources, one after the other."""

    first: Images
    second: Images

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, positions: npt.NDArray[np.int64], /) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        is_first = positions < len(self.first)
        first = self.first[positions[is_first]]
        images = np.empty((len(positions), *first.shape[1:]), first.dtype)
        images[is_first], images[~is_first] = first, self.second[positions[~is_first] - len(self.first)]
        return images


def join(first: Split, second: Split) -> Split:
    """Return two splits as one; the images of the second get indices above all of the first.

    Raises:
        DataError: their images differ in shape or type.
    """
    one, other = (split.images[np.zeros(1, np.int64)] for split in (first, second))
    if one.shape != other.shape or one.dtype != other.dtype:
        found = f"{other.dtype} {list(other.shape[1:])} and {one.dtype} {list(one.shape[1:])}"
        raise DataError(f"images of two sets are {found}; must be of one type and shape to be joined")
    arrays = isinstance(first.images, np.ndarray) and isinstance(second.images, np.ndarray)
    joined = _Joined(first.images, second.images)
    return Split(
        joined[np.arange(len(joined))] if arrays else joined,
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.index, second.index + first.index.max() + 1]),
        f"sha256:{hashlib.sha256(f'{first.fingerprint} and {second.fingerprint}'.encode()).hexdigest()}",
    )


@dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: the member's name.
        description: what was really used, for people: "data in CIFAR-10's format, JPEG files".
        image_shape: shape of one image, (c, h, w); toy data in d dimensions have (d,).
        num_classes: labels are 0 .. num_classes - 1.
        pixel_range: (0.0, 1.0) for images, None for toy data without one.
        train: loads the training split.
        test: loads the test split.
        classes: the names of the classes, in the order of their numbers; None where nothing gives them.
    """

    name: str
    description: str
    image_shape: tuple[int, ...]
    num_classes: int
    pixel_range: tuple[float, float] | None
    train: Callable[[], Split]
    test: Callable[[], Split]
    classes: tuple[str, ...] | None = None


SplitName = Literal["train", "test"]


@dataclass(frozen=True)
class Published:
    """What is known of published images without reading them.

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

    def describe(self, *, note: str = "", train: int, test: int, proven: bool = False) -> str:
        """Return the description of a copy, with each number of images that is not the published one.

        Args:
            note: what else to say of it.
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


@dataclass(frozen=True)
class DatasetMember(Member, ABC):
    """Base of the data sets: a member is one with its options.

    Attributes:
        PUBLISHED: of a member that is about images published in one form: that form, so that a run can be planned
            without the data.
    """

    PUBLISHED: ClassVar[Published | None] = None

    @abstractmethod
    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load the data set; the splits are read when they are asked for.

        Args:
            source: a local copy, in a form that the member documents; None for the member's own way (download, or
                none).
            download: the folder that downloads go to.

        Raises:
            ConfigError: a source where none can be used, or none where it is needed.
            DataError: missing or corrupt files, or a wrong checksum; the message names the file.
        """


BASE = DatasetMember


def load(
    name: str,
    *,
    source: Path | None = None,
    download: Path = Path("data"),
    options: Mapping[str, object] | None = None,
) -> Dataset:
    """Load a data set by name, see `DatasetMember.load`; name and options are those of `member`."""
    return member(name, options or {}).load(source=source, download=download)


def member(name: str, options: Mapping[str, object]) -> DatasetMember:
    """Return a data set's member with its options; nothing is loaded.

    Args:
        name: a module of this package.
        options: fields of the member.

    Raises:
        ConfigError: no such data set or option, or an option of the wrong type or out of range.
    """
    cls: type[DatasetMember] = registry.member("datasets", name)
    return make(cls, options, name)


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
        index: [n], distinct and not negative; positions 0 .. n - 1 if None.

    Raises:
        DataError: images, labels and index differ in number, a label, an index or a pixel is out of range, an
            index occurs twice, or a pixel is not finite.
    """
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    index = np.arange(len(labels), dtype=np.int64) if index is None else np.ascontiguousarray(index, np.int64)
    if len(images) != len(labels) or len(index) != len(labels):
        raise DataError(f"{name}: {len(images)} images, {len(labels)} labels, {len(index)} indices; must be equal")
    if len(labels) == 0:
        raise DataError(f"{name}: no images")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(f"{name}: labels from {labels.min()} to {labels.max()}; must be in 0 .. {num_classes - 1}")
    if index.min() < 0 or len(np.unique(index)) != len(index):
        raise DataError(f"{name}: an index is negative or occurs twice; each image must have its own")
    if images.dtype not in (np.uint8, np.float32):
        raise DataError(f"{name}: images of type {images.dtype}; must be uint8 or float32")
    if images.dtype == np.float32:
        if not np.isfinite(images).all():
            raise DataError(f"{name}: a pixel is not finite")
        if pixel_range is not None and (images.min() < pixel_range[0] or images.max() > pixel_range[1]):
            raise DataError(f"{name}: pixels from {images.min():g} to {images.max():g}; must be in {pixel_range}")
    return Split(images, labels, index, fingerprint(images, labels, index))


def fingerprint(images: npt.NDArray[np.generic], labels: npt.NDArray[np.int64], index: npt.NDArray[np.int64]) -> str:
    """Return the content hash of a split: types, shapes and bytes of its three arrays."""
    digest = hashlib.sha256()
    for array in (images, labels, index):
        digest.update(f"{array.dtype.str}{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def split_validation(split: Split, *, fraction: float, seed: int) -> tuple[Split, Split]:
    """Set a part of each class aside, at random; the same part for the same seed.

    Args:
        split: what to divide.
        fraction: the part of the images that validation gets, in (0, 1), rounded up to a whole number of
            images.
        seed: of the random choice, in 0 .. 2**32 - 1.

    Returns:
        The training part and the validation split, each in the order of ``split``, see `Split.subset`.

    Raises:
        ConfigError: fraction or seed is out of range, or one part would lack a class of ``split``.
    """
    fraction = check_number("validation fraction", fraction, above=0, below=1)
    seed = check_integer("validation seed", seed, minimum=0, maximum=2**32 - 1)
    from sklearn.model_selection import train_test_split

    classes = np.unique(split.labels)
    too_few = (
        f"validation fraction = {fraction!r} of {len(split)} images of {len(classes)} classes: "
        f"training and validation must each get an image of each class"
    )
    try:
        parts = train_test_split(np.arange(len(split)), test_size=fraction, stratify=split.labels, random_state=seed)
    except ValueError as error:
        raise ConfigError(f"{too_few} ({error})") from error
    for positions in parts:
        missing = np.setdiff1d(classes, split.labels[positions])
        if len(missing) > 0:
            raise ConfigError(f"{too_few} (one has none of class {missing[0]})")
    training, validation = (split.subset(np.sort(positions)) for positions in parts)
    return training, validation
