"""MNIST (LeCun, Cortes and Burges): handwritten digits, 28x28, 60,000 training and 10,000 test images.

Without a source, each file comes from the mirrors that torchvision knows and must have the checksum that
torchvision knows; files that an earlier download or torchvision itself left in the download folder are used
if they have it. (File by file, because torchvision's MNIST class wants both splits and checks no file that it has
unpacked before.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from certsmooth.science.datasets import Dataset, DatasetMember, Published
from certsmooth.science.datasets._copies import fetch_idx, open_copy
from certsmooth.science.datasets._idx import IdxFiles

PUBLISHED = Published(name="mnist", title="MNIST", image_shape=(1, 28, 28), sizes=(60_000, 10_000))
_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the published files, unpacked. Fashion-MNIST, KMNIST and others come under the same names."""


@dataclass(frozen=True)
class MNIST(DatasetMember):
    """MNIST; no options."""

    PUBLISHED: ClassVar[Published | None] = PUBLISHED

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load MNIST; images are uint8 [1, 28, 28].

        Args:
            source: None, to download; or a folder of the four IDX files (``train-images-idx3-ubyte`` and so on,
                with or without ``.gz``; fewer images than published, only one split, and other data in this form are
                allowed, and described); or a folder or tar archive of numbered images or an .npz of test images, see
                `certsmooth.science.datasets._copies`.
            download: the folder that downloads go to, as torchvision lays it out.

        Raises:
            DataError: source is in no such form or damaged; the splits' loaders raise it for damaged files, for a
                wrong checksum, and for a download that failed.
        """
        files = IdxFiles(PUBLISHED, {"train": "train", "test": "t10k"}, frozenset(_MD5.values()))
        if source is None:
            return PUBLISHED.dataset("MNIST", lambda split: fetch_idx("MNIST", files, split, download=download))
        return open_copy(source, PUBLISHED, own=files.open, form="a folder of IDX files")
