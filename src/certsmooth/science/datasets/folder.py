"""Images of one's own in a folder: the folders of their classes, or a labels.csv, say what they are.

- ``train/CLASS/*.png`` and ``test/CLASS/*.png`` (``val``, ``valid`` or ``validation`` where there is no ``test``),
  with the same classes in both; images may lie deeper, as ``train/CLASS/images/*.JPEG``. This is torchvision's
  ImageFolder, and the layout of most image data sets.
- ``labels.csv`` with the columns ``split,file,label``: train or test, a path from the folder, and the name of the
  class; or ``split,index,label`` for ``train/00000.png ...``, see `certsmooth.science.datasets._copies`. It wins over
  folders.
- Tiny ImageNet's: ``train/CLASS/images/*.JPEG``, ``val/images/*.JPEG`` and ``val/val_annotations.txt``. Its test
  images have no labels, so the test split is ``val``.

Files are JPEG or PNG; another format is named and refused. Hidden files and other files beside the images are passed
over. What is done with images: `certsmooth.science.datasets._encoded`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from certsmooth.errors import ConfigError, DataError
from certsmooth.science.datasets import Dataset, Split
from certsmooth.science.datasets._encoded import (
    Decoded,
    EncodedMember,
    Preparation,
    check_classes,
    describe,
    encoded_split,
    numbered,
)
from certsmooth.science.datasets._files import reading
from certsmooth.science.datasets._listing import (
    LABELS,
    TEST_NAMES,
    Listed,
    Listing,
    first_of,
    in_class_folders,
    in_labels,
    in_tiny_imagenet,
    is_tiny_imagenet,
)

_FORM = (
    "a folder with train/ and test/ (or val/), each with one folder of images per class, "
    "or with a labels.csv of the columns split,file,label"
)


@dataclass(frozen=True, kw_only=True)
class Folder(EncodedMember):
    """Images of one's own in a folder."""

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load the images, uint8 [1, h, w] or [3, h, w].

        Labels number the classes in the order of their names; ``index`` numbers the files of a split in the order of
        class and path, or is what labels.csv says.

        Args:
            source: the folder.
            download: not used.

        Raises:
            ConfigError: no source.
            DataError: it is in no such form, or what is said of it is wrong; the splits' loaders raise it for an image
                that is damaged or not alike the others.
        """
        if source is None:
            raise ConfigError(f"folder: no source; must be {_FORM}")
        listed = _list(source)
        check_classes(source, listed.train.labels, listed.test.labels)
        return listed_dataset("folder", listed, self.preparation)


def listed_dataset(
    name: str, listed: Listed, prepare: Preparation, *, description: str | None = None, in_memory: int | None = None
) -> Dataset:
    """Return the data set of listed image files.

    Args:
        name: of the member.
        listed: the files.
        prepare: what is done with each image.
        description: None for the numbers of classes and images, and what is done with these.
        in_memory: bytes of a split up to which it is an array; None for the limit of all.

    Raises:
        DataError: the first image is damaged.
    """
    train, test = listed.train, listed.test
    first, data = next(train.at(np.zeros(1, np.int64)))
    shape = prepare.shape(data, where=train.where(first))

    def read(files: Listing, split: str) -> Split:
        labels = numbered(files.labels, listed.classes)
        images = Decoded(files, prepare, shape)
        where = f"{files.root}: {split}"
        return encoded_split(
            images, labels, files.index, name=where, num_classes=len(listed.classes), in_memory=in_memory
        )

    return Dataset(
        name=name,
        description=description or describe(len(listed.classes), len(train), len(test), prepare),
        image_shape=shape,
        num_classes=len(listed.classes),
        pixel_range=(0.0, 1.0),
        train=lambda: read(train, "train"),
        test=lambda: read(test, "test"),
        classes=listed.classes,
    )


def _list(source: Path) -> Listed:
    if not source.is_dir():
        state = "a file" if source.exists() else "no such folder"
        raise DataError(f"{source}: {state}; must be {_FORM}")
    if (source / LABELS).is_file():
        return in_labels(source)
    if is_tiny_imagenet(source):
        return in_tiny_imagenet(source, form=_FORM)
    with reading(source, expected="a readable folder"):
        folders = sorted(path.name for path in source.iterdir() if path.is_dir())
    test = first_of(TEST_NAMES, folders)
    if "train" not in folders or test is None:
        found = ", ".join(f"{name}/" for name in folders[:10]) or "no folders"
        move = " Move a part of the images of each class, which no training is to see, to test/CLASS/"
        right = f"must be {_FORM}.{move if test is None else ''}"
        raise DataError(f"{source}: holds {found}; {right}")
    return in_class_folders(source, "train", test, form=_FORM)
