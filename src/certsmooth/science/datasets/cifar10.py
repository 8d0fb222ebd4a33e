"""CIFAR-10 (Krizhevsky, 2009): photographs of ten kinds of things, 50,000 for training, 10,000 for testing.

Without a source, the archive of the Python version is downloaded. Its batches are pickles: each must have its published
checksum, and even then none is unpickled, see `certsmooth.science.datasets._batches`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from certsmooth.errors import DataError
from certsmooth.science.datasets import Dataset, DatasetMember, Published, Split, SplitName
from certsmooth.science.datasets._batches import PythonBatches, Records, split_of
from certsmooth.science.datasets._copies import open_copy
from certsmooth.science.datasets._files import reading

PUBLISHED = Published(name="cifar10", title="CIFAR-10", image_shape=(3, 32, 32), sizes=(50_000, 10_000))
_PYTHON = PythonBatches(PUBLISHED, name="CIFAR10", key="labels")
_BINARY: dict[SplitName, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
_BATCH_IMAGES = 10_000
_RECORD_BYTES = 1 + 3 * 32 * 32


@dataclass(frozen=True)
class CIFAR10(DatasetMember):
    """CIFAR-10; no options."""

    PUBLISHED: ClassVar[Published | None] = PUBLISHED

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load CIFAR-10; images are uint8 [3, 32, 32].

        Args:
            source: None, to download; or a folder of the binary version's batches (``data_batch_1.bin``,
                ``test_batch.bin`` and so on); or a folder of the Python version's batches (``data_batch_1``,
                ``test_batch``), each with its published checksum; or a folder or tar archive of numbered images or
                an .npz of test images, see `certsmooth.science.datasets._copies`.
            download: the folder that the archive goes to.

        Raises:
            DataError: source is in no such form or damaged; the splits' loaders raise it for damaged files, for a
                wrong checksum, and for a download that failed.
        """
        if source is None:
            return PUBLISHED.dataset("CIFAR-10", lambda split: _PYTHON.downloaded(download, split))
        form = (
            "a folder of the batches of the binary version (data_batch_1.bin ...) "
            "or of the Python version (data_batch_1 ...)"
        )
        return open_copy(source, PUBLISHED, own=_open_batches, form=form)


def _open_batches(folder: Path) -> Dataset | None:
    """Open a folder of binary or, without those, Python batches; None if it holds neither."""
    if any((folder / name).is_file() for names in _BINARY.values() for name in names):
        # The checksums of these files were not published, only that of their archive.
        description = PUBLISHED.describe(note="binary batches", train=50_000, test=10_000)
        return PUBLISHED.dataset(description, lambda split: _read_binary(folder, split))
    if _PYTHON.are_in(folder):
        return PUBLISHED.dataset("CIFAR-10", lambda split: _PYTHON.read(folder, split))
    return None


def _read_binary(folder: Path, split: SplitName) -> Split:
    batches = [_read_batch(folder / name) for name in _BINARY[split]]
    return split_of(batches, PUBLISHED, name=f"{folder}: {split} batches")


def _read_batch(path: Path) -> Records:
    with reading(path, expected="a binary batch of CIFAR-10"):
        size = path.stat().st_size
        if size != _BATCH_IMAGES * _RECORD_BYTES:
            raise DataError(f"{path}: {size} bytes; must be {_BATCH_IMAGES * _RECORD_BYTES}")
        records = np.fromfile(path, dtype=np.uint8).reshape(_BATCH_IMAGES, _RECORD_BYTES)
    if records[:, 0].max() > 9:
        raise DataError(f"{path}: label {records[:, 0].max()}; must be in 0 .. 9")
    return records
