"""ImageNet (ILSVRC 2012) in torchvision's layout: ``train/`` and ``val/`` with a folder of images per class.

Images stay in their files and are decoded when they are asked for: shorter side resized to 256 pixels
(bilinear, antialiased), then the 224x224 pixels in the centre, as Cohen et al. 2019 and torchvision's
evaluation do.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from certsmooth.errors import ConfigError, DataError
from certsmooth.science.datasets import Dataset, DatasetMember, Published, Split
from certsmooth.science.datasets._files import decode, read_file, reading

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

RESIZE = 256
"""Pixels of the shorter side after resizing."""

CROP = 224
"""Pixels of each side of the centre that is used."""

_FORM = "the folder that holds train/ and val/, each with one folder of images per class"

PUBLISHED = Published(
    name="imagenet", title="ImageNet", image_shape=(3, CROP, CROP), sizes=(1_281_167, 50_000), num_classes=1000
)


@dataclass(frozen=True)
class ImageFiles:
    """Images in JPEG or PNG files that are decoded when they are asked for."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, positions: npt.NDArray[np.int64], /) -> npt.NDArray[np.uint8]:
        """Return the images at ``positions``, uint8 [b, 3, 224, 224]; raise DataError if one is damaged."""
        from torchvision.transforms.functional import center_crop, resize  # here, as torchvision takes seconds

        images = np.empty((len(positions), 3, CROP, CROP), dtype=np.uint8)
        for place, position in enumerate(positions):
            image = decode(read_file(self.paths[position]), where=self.paths[position]).convert("RGB")
            images[place] = np.asarray(center_crop(resize(image, [RESIZE]), [CROP])).transpose(2, 0, 1)
        return images


@dataclass(frozen=True)
class ImageNet(DatasetMember):
    """ImageNet; no options."""

    PUBLISHED: ClassVar[Published | None] = PUBLISHED

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load ImageNet; images are uint8 [3, 224, 224], the test split is ``val/``.

        Labels number the class folders in the order of their names; ``index`` numbers the files in the order of
        class and name. The fingerprint is over each file's path in ``source``, label, size and bytes, so making a
        split reads every file of it once.

        Args:
            source: the folder that holds ``train/`` and ``val/``; it cannot be downloaded.
            download: not used.

        Raises:
            ConfigError: no source.
            DataError: no such folders, a class without images, or classes that differ between ``train/`` and
                ``val/``.
        """
        if source is None:
            raise ConfigError(f"imagenet: no source; it cannot be downloaded, so source must be {_FORM}")
        train, val = _list(source / "train"), _list(source / "val")
        if train.classes != val.classes:
            odd = sorted(set(train.classes) ^ set(val.classes))[0]
            raise DataError(
                f"{source}: class folder {odd} is in only one of train/ and val/; both must have each class"
            )
        sizes = (len(train.classes), len(train.samples), len(val.samples))
        published = (PUBLISHED.num_classes, *PUBLISHED.sizes)
        # Nothing short of its 150 GB tells ImageNet from other images in the same layout.
        counts = "" if sizes == published else ", {:,} classes, {:,} training images, {:,} test images".format(*sizes)
        return replace(PUBLISHED, num_classes=len(train.classes)).dataset(
            f"data in {PUBLISHED.title}'s format{counts}",
            lambda split: _split(source, train if split == "train" else val),
        )


def _list(folder: Path) -> ImageFolder:
    from torchvision.datasets import ImageFolder  # here, as torchvision takes seconds

    with reading(folder, expected=f"one of the two folders of {_FORM}"):
        return ImageFolder(folder)


def _split(root: Path, listing: ImageFolder) -> Split:
    paths = tuple(Path(path) for path, _ in listing.samples)
    labels = np.array(listing.targets, dtype=np.int64)
    return Split(ImageFiles(paths), labels, np.arange(len(paths), dtype=np.int64), _fingerprint(root, paths, labels))


def _fingerprint(root: Path, paths: tuple[Path, ...], labels: npt.NDArray[np.int64]) -> str:
    """Hash preprocessing, then path, label, size and bytes of each file, one file in memory at a time."""
    digest = hashlib.sha256(f"RGB, resize {RESIZE}, crop {CROP};".encode())
    progress = tqdm(zip(paths, labels, strict=True), "imagenet: content hash", len(paths), unit="file", disable=None)
    for path, label in progress:
        data = read_file(path)
        digest.update(f"{path.relative_to(root).as_posix()}\0{label}\0{len(data)}\0".encode())
        digest.update(data)
    return f"sha256:{digest.hexdigest()}"
