"""CIFAR-10 (Krizhevsky, 2009): photographs of ten kinds of things, 50,000 for training, 10,000 for testing.

Without a source, torchvision downloads the archive and checks its checksum and that of each file in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity

from certsmooth.data import Dataset, Split, array_split
from certsmooth.data._copies import FORMS, Published, SplitName, open_copy
from certsmooth.data._files import reading
from certsmooth.errors import DataError

_PUBLISHED = Published(name="cifar10", title="CIFAR-10", image_shape=(3, 32, 32), sizes=(50_000, 10_000))
_BINARY: dict[SplitName, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
_BATCH_IMAGES = 10_000
_RECORD_BYTES = 1 + 3 * 32 * 32


def load(*, source: Path | None, download: Path) -> Dataset:
    """Load CIFAR-10; images are uint8 [3, 32, 32].

    Args:
        source: None, to download; or a folder of the binary version's batches (``data_batch_1.bin``,
            ``test_batch.bin`` and so on); or a folder of the Python version's batches (``data_batch_1``,
            ``test_batch``, ``batches.meta`` and so on), which are pickles and therefore read only if each one
            has its published checksum; or a folder or tar archive of numbered images or an .npz of test
            images, see `certsmooth.data._copies`.
        download: the folder that downloads go to, as torchvision lays it out.

    Raises:
        DataError: source is in no such form or damaged; the splits' loaders raise it for damaged files, for a
            wrong checksum, and for a download that failed.
    """
    if source is None:
        return _PUBLISHED.dataset("CIFAR-10", lambda split: _downloaded(download, split))
    dataset = open_copy(source, _PUBLISHED) or _open_batches(source)
    if dataset is None:
        state = "not one of the forms read here" if source.exists() else "no such file or folder"
        raise DataError(
            f"cifar10: source {source}: {state}; must be a folder of the batches of the binary version "
            f"(data_batch_1.bin ...) or of the Python version (data_batch_1 ...), or {FORMS}"
        )
    return dataset


def _open_batches(folder: Path) -> Dataset | None:
    """Open a folder of binary or, without those, Python batches; None if it holds neither."""
    if any((folder / name).is_file() for names in _BINARY.values() for name in names):
        return _PUBLISHED.dataset("CIFAR-10, binary batches", lambda split: _read_binary(folder, split))
    if any((folder / name).is_file() for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list]):
        return _PUBLISHED.dataset("CIFAR-10", lambda split: _read_python(folder, split))
    return None


def _downloaded(download: Path, split: SplitName) -> Split:
    try:
        dataset = CIFAR10(download, train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{download / CIFAR10.filename}: download failed ({error}); must be the file with md5 "
            f"{CIFAR10.tgz_md5}, or give a local copy as source"
        ) from error
    return _from_torchvision(dataset, split)


class _Batches(CIFAR10):  # type: ignore[misc]  # torchvision is not typed
    """The Python batches, lying directly in the root folder."""

    base_folder = ""


def _read_python(folder: Path, split: SplitName) -> Split:
    """Read the Python batches, which nothing may unpickle before their checksums are known to be right."""
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
        with reading(folder / name, expected="a readable file"):
            good = check_integrity(folder / name, md5)
        if not good:
            state = "wrong checksum" if (folder / name).is_file() else "missing"
            raise DataError(
                f"{folder / name}: {state}; must have the published md5 {md5}, because a pickle can run any "
                f"program (the binary version, data_batch_1.bin ..., needs none)"
            )
    return _from_torchvision(_Batches(folder, train=split == "train"), split)


def _from_torchvision(dataset: CIFAR10, split: SplitName) -> Split:
    images: npt.NDArray[np.uint8] = np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2))
    return array_split(images, np.array(dataset.targets), name=f"cifar10 {split}", num_classes=10)


def _read_binary(folder: Path, split: SplitName) -> Split:
    batches = [_read_batch(folder / name) for name in _BINARY[split]]
    images = np.concatenate([batch[:, 1:] for batch in batches]).reshape(-1, *_PUBLISHED.image_shape)
    labels = np.concatenate([batch[:, 0] for batch in batches])
    return array_split(images, labels, name=f"{folder}: {split} batches", num_classes=10)


def _read_batch(path: Path) -> npt.NDArray[np.uint8]:
    """Return the records of a binary batch, uint8 [10000, 3073]: the label, then the image [3, 32, 32]."""
    with reading(path, expected="a binary batch of CIFAR-10"):
        size = path.stat().st_size
        if size != _BATCH_IMAGES * _RECORD_BYTES:
            raise DataError(f"{path}: {size} bytes; must be {_BATCH_IMAGES * _RECORD_BYTES}")
        records = np.fromfile(path, dtype=np.uint8).reshape(_BATCH_IMAGES, _RECORD_BYTES)
    if records[:, 0].max() > 9:
        raise DataError(f"{path}: label {records[:, 0].max()}; must be in 0 .. 9")
    return records
