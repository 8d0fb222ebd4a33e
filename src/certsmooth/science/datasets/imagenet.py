"""ImageNet (ILSVRC 2012) in torchvision's layout: ``train/`` and ``val/`` with a folder of images per class.

That is the layout of `folder`. Images stay in their files and are decoded when they are asked for: shorter side
resized to 256 pixels (bilinear, antialiased), then the 224x224 pixels in the centre, as Cohen et al. 2019 and
torchvision's evaluation do; like these, this takes no notice of EXIF's orientation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from certsmooth.errors import ConfigError
from certsmooth.science.datasets import Dataset, DatasetMember, Published
from certsmooth.science.datasets._encoded import Preparation
from certsmooth.science.datasets._listing import in_class_folders
from certsmooth.science.datasets.folder import listed_dataset

RESIZE = 256
"""Pixels of the shorter side after resizing."""

CROP = 224
"""Pixels of each side of the centre that is used."""

_FORM = "the folder that holds train/ and val/, each with one folder of images per class"
_PREPARE = Preparation("rgb", RESIZE, CROP, upright=False)

PUBLISHED = Published(
    name="imagenet", title="ImageNet", image_shape=(3, CROP, CROP), sizes=(1_281_167, 50_000), num_classes=1000
)


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
        listed = in_class_folders(source, "train", "val", form=_FORM)
        sizes = (len(listed.classes), len(listed.train), len(listed.test))
        published = (PUBLISHED.num_classes, *PUBLISHED.sizes)
        # Nothing short of its 150 GB tells ImageNet from other images in the same layout.
        counts = "" if sizes == published else ", {:,} classes, {:,} training images, {:,} test images".format(*sizes)
        description = f"data in {PUBLISHED.title}'s format{counts}"
        return listed_dataset("imagenet", listed, _PREPARE, description=description, in_memory=0)
