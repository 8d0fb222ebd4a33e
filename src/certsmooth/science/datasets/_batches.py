"""The Python versions of CIFAR-10 and CIFAR-100: batches that are pickles, of which none is unpickled.

Each must have its published checksum, and even then its instructions are only listed.
"""

from __future__ import annotations

import hashlib
import pickletools
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from certsmooth.errors import DataError
from certsmooth.science.datasets import Published, Split, SplitName, array_split
from certsmooth.science.datasets._copies import fetch
from certsmooth.science.datasets._files import published_file, read_file, reading

_IMAGE_BYTES = 3 * 32 * 32

Records = npt.NDArray[np.uint8]
"""Of a batch, uint8 [n, 3073]: the label, then the image [3, 32, 32]."""


@dataclass(frozen=True)
class PythonBatches:
    """A data set in batches.

    Attributes:
        published: what it is.
        name: of torchvision's class, which knows addresses, names and checksums.
        key: of the labels in a batch.
    """

    published: Published
    name: str
    key: str

    def are_in(self, folder: Path) -> bool:
        """Return whether a folder holds a batch."""
        return any((folder / name).is_file() for split in ("train", "test") for name, _ in self._list(split))

    def read(self, folder: Path, split: SplitName) -> Split:
        """Read a split from a folder of batches.

        Raises:
            DataError: a batch is missing, or has another checksum.
        """
        return self._split(folder, split, lambda name: read_file(folder / name, expected="with the other batches"))

    def downloaded(self, download: Path, split: SplitName) -> Split:
        """Read a split from the published archive, which goes to a folder unless it is there.

        Raises:
            DataError: the download failed.
        """
        known = self._known()
        return self.archived(fetch(download / known.filename, [known.url], md5=known.tgz_md5), split)

    def archived(self, archive: Path, split: SplitName) -> Split:
        """Read a split from the published archive.

        Raises:
            DataError: it, or a batch in it, has another checksum.
        """
        known = self._known()
        checked = published_file(archive, known.tgz_md5)
        with reading(archive, expected="the published archive"), tarfile.open(checked) as files:

            def read(name: str) -> bytes:
                file = files.extractfile(f"{known.base_folder}/{name}")
                return b"" if file is None else file.read()

            return self._split(archive, split, read)

    def _known(self) -> Any:  # noqa: ANN401 - a class without types
        from torchvision import datasets  # here, as torchvision takes seconds

        return getattr(datasets, self.name)

    def _list(self, split: str) -> list[tuple[str, str]]:
        known = self._known()
        return [tuple(each) for each in (known.train_list if split == "train" else known.test_list)]

    def _split(self, where: Path, split: SplitName, read: Callable[[str], bytes]) -> Split:
        """Read a split from batches of which ``read`` returns the bytes by name."""
        batches = []
        for name, md5 in self._list(split):
            content = read(name)
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                raise DataError(f"{where / name}: wrong checksum; must have the published md5 {md5}")
            with reading(where / name, expected="a batch of the Python version"):
                batches.append(listed(content, key=self.key, where=where / name))
        return split_of(batches, self.published, name=f"{self.published.name} {split}")


def split_of(batches: list[Records], published: Published, *, name: str) -> Split:
    """Return the split that batches make.

    Raises:
        DataError: a label is of no class.
    """
    images = np.concatenate([batch[:, 1:] for batch in batches]).reshape(-1, *published.image_shape)
    labels = np.concatenate([batch[:, 0] for batch in batches])
    return array_split(images, labels, name=name, num_classes=published.num_classes)


def listed(content: bytes, *, key: str, where: Path) -> Records:
    """Take images and labels out of a batch, a pickled dict of ``data`` and of labels under a key.

    To unpickle is to run a program. Here its instructions are only listed: the labels are the numbers that are pushed
    after their key, the pixels are the longest string.

    Raises:
        DataError: there are not as many of both.
    """
    pixels: str | bytes = b""
    labels, last, in_columns = [], "", False
    for instruction, argument, _ in pickletools.genops(content):
        if isinstance(argument, str | bytes) and len(argument) >= _IMAGE_BYTES:
            pixels = max(pixels, argument, key=len)
        elif isinstance(argument, str):
            last = argument
        elif instruction.name == "BININT1" and last == key:
            labels.append(argument)
        elif instruction.name in ("NEWTRUE", "NEWFALSE") and not pixels:  # in an array's state, just before its bytes
            in_columns = instruction.name == "NEWTRUE"
    data = pixels.encode("latin-1") if isinstance(pixels, str) else pixels
    if not labels or len(data) != len(labels) * _IMAGE_BYTES:
        right = f"must be {_IMAGE_BYTES} bytes for each"
        raise DataError(f"{where}: {len(data)} bytes of pixels, {len(labels)} labels under {key!r}; {right}")
    images = np.frombuffer(data, np.uint8).reshape((len(labels), _IMAGE_BYTES), order="F" if in_columns else "C")
    return np.column_stack([np.array(labels, np.uint8), images])
