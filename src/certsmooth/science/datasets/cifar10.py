"""CIFAR-10 (Krizhevsky, 2009): photographs of ten kinds of things, 50,000 for training, 10,000 for testing.

Without a source, the archive of the Python version is downloaded. Its batches are pickles: each must have its published
checksum, and even then none is unpickled, see `_listed`.
"""

from __future__ import annotations

import hashlib
import pickletools
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from certsmooth.errors import DataError
from certsmooth.science.datasets import Dataset, DatasetMember, Published, Split, SplitName, array_split
from certsmooth.science.datasets._copies import fetch, open_copy
from certsmooth.science.datasets._files import read_file, reading

PUBLISHED = Published(name="cifar10", title="CIFAR-10", image_shape=(3, 32, 32), sizes=(50_000, 10_000))
_BINARY: dict[SplitName, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
_BATCH_IMAGES = 10_000
_IMAGE_BYTES = 3 * 32 * 32
_RECORD_BYTES = 1 + _IMAGE_BYTES

Records = npt.NDArray[np.uint8]
"""Of a batch, uint8 [10000, 3073]: the label, then the image [3, 32, 32]."""


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
            return PUBLISHED.dataset("CIFAR-10", lambda split: _downloaded(download, split))
        form = (
            "a folder of the batches of the binary version (data_batch_1.bin ...) "
            "or of the Python version (data_batch_1 ...)"
        )
        return open_copy(source, PUBLISHED, own=_open_batches, form=form)


def _python() -> Any:  # noqa: ANN401 - a class without types
    """Return what is known of the Python version; imported here, as torchvision takes seconds."""
    from torchvision import datasets

    return datasets.CIFAR10


def _open_batches(folder: Path) -> Dataset | None:
    """Open a folder of binary or, without those, Python batches; None if it holds neither."""
    if any((folder / name).is_file() for names in _BINARY.values() for name in names):
        # The checksums of these files were not published, only that of their archive.
        description = PUBLISHED.describe(note="binary batches", train=50_000, test=10_000)
        return PUBLISHED.dataset(description, lambda split: _read_binary(folder, split))
    if any((folder / name).is_file() for name, _ in [*_python().train_list, *_python().test_list]):
        return PUBLISHED.dataset("CIFAR-10", lambda split: _read_python(folder, split))
    return None


def _downloaded(download: Path, split: SplitName) -> Split:
    archive = fetch(download / _python().filename, [_python().url], md5=_python().tgz_md5)
    with reading(archive, expected="the published archive"), tarfile.open(archive) as files:

        def read(name: str) -> bytes:
            file = files.extractfile(f"{_python().base_folder}/{name}")
            return b"" if file is None else file.read()

        return _python_split(archive, split, read)


def _read_python(folder: Path, split: SplitName) -> Split:
    return _python_split(folder, split, lambda name: read_file(folder / name, expected="with the other batches"))


def _python_split(where: Path, split: SplitName, read: Callable[[str], bytes]) -> Split:
    """Read a split from the batches of the Python version, of which ``read`` returns the bytes by name."""
    batches = []
    for name, md5 in _python().train_list if split == "train" else _python().test_list:
        content = read(name)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise DataError(f"{where / name}: wrong checksum; must have the published md5 {md5}")
        with reading(where / name, expected="a batch of the Python version"):
            batches.append(_listed(content, where=where / name))
    return _from_records(batches, name=f"cifar10 {split}")


def _listed(content: bytes, *, where: Path) -> Records:
    """Take images and labels out of a batch of the Python version, a pickled dict of ``data`` and ``labels``.

    To unpickle is to run a program. Here its instructions are only listed: the pixels are the one string of their size,
    the labels are the numbers that are pushed after the key ``labels``.
    """
    pixels, labels, key, in_columns = b"", [], "", False
    for instruction, argument, _ in pickletools.genops(content):
        if isinstance(argument, str | bytes) and len(argument) == _BATCH_IMAGES * _IMAGE_BYTES:
            pixels = argument.encode("latin-1") if isinstance(argument, str) else argument
        elif isinstance(argument, str):
            key = argument
        elif instruction.name == "BININT1" and key == "labels":
            labels.append(argument)
        elif instruction.name in ("NEWTRUE", "NEWFALSE") and not pixels:  # in an array's state, just before its bytes
            in_columns = instruction.name == "NEWTRUE"
    if not pixels or len(labels) != _BATCH_IMAGES:
        raise DataError(f"{where}: {len(pixels)} bytes of pixels, {len(labels)} labels; must be {_BATCH_IMAGES} images")
    images = np.frombuffer(pixels, np.uint8).reshape((_BATCH_IMAGES, _IMAGE_BYTES), order="F" if in_columns else "C")
    return np.column_stack([np.array(labels, np.uint8), images])


def _from_records(batches: list[Records], *, name: str) -> Split:
    images = np.concatenate([batch[:, 1:] for batch in batches]).reshape(-1, *PUBLISHED.image_shape)
    return array_split(images, np.concatenate([batch[:, 0] for batch in batches]), name=name, num_classes=10)


def _read_binary(folder: Path, split: SplitName) -> Split:
    batches = [_read_batch(folder / name) for name in _BINARY[split]]
    return _from_records(batches, name=f"{folder}: {split} batches")


def _read_batch(path: Path) -> Records:
    with reading(path, expected="a binary batch of CIFAR-10"):
        size = path.stat().st_size
        if size != _BATCH_IMAGES * _RECORD_BYTES:
            raise DataError(f"{path}: {size} bytes; must be {_BATCH_IMAGES * _RECORD_BYTES}")
        records = np.fromfile(path, dtype=np.uint8).reshape(_BATCH_IMAGES, _RECORD_BYTES)
    if records[:, 0].max() > 9:
        raise DataError(f"{path}: label {records[:, 0].max()}; must be in 0 .. 9")
    return records
