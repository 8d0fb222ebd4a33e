"""Handwritten digits, 8x8 pixels: the 1,797 real scans that come with scikit-learn; nothing is downloaded.

They are the test set of the UCI "Optical recognition of handwritten digits" data (Alpaydin and Kaynak, 1998).
They have no published split into training and test images, so this module fixes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from certsmooth.errors import ConfigError
from certsmooth.science.datasets import Dataset, DatasetMember, Published, Split, SplitName, array_split

TEST_IMAGES = 360
"""A fifth, rounded; the other 1,437 images are for training."""

_SPLIT_SEED = 0
_MAX_VALUE = 16


@dataclass(frozen=True)
class Digits(DatasetMember):
    """scikit-learn's digits; no options."""

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load the digits: 1,437 training and 360 test images with the same part of each class.

        Images are float32 [1, 8, 8], the scan's values 0 .. 16 divided by 16; ``index`` is the position in
        scikit-learn's array. Nothing is downloaded.

        Raises:
            ConfigError: a source was given.
        """
        if source is not None:
            raise ConfigError(f"digits: source = {str(source)!r}; must be empty, the images come with scikit-learn")
        title = "scikit-learn digits"
        return Published("digits", title, image_shape=(1, 8, 8), sizes=(1_437, TEST_IMAGES)).dataset(title, _read)


def _read(split: SplitName) -> Split:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, test = train_test_split(
        np.arange(len(digits.target)), test_size=TEST_IMAGES, stratify=digits.target, random_state=_SPLIT_SEED
    )
    index = np.sort(train if split == "train" else test)
    images = (digits.images[index, None] / _MAX_VALUE).astype(np.float32)
    return array_split(images, digits.target[index], name=f"digits {split}", num_classes=10, index=index)
