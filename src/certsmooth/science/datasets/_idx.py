"""Files in the IDX format: a header (magic number, one size per dimension), then the bytes.

MNIST has it, and the sets that were made to take its place.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from certsmooth.errors import DataError
from certsmooth.science.datasets import Dataset, Published, Split, SplitName, array_split
from certsmooth.science.datasets._files import open_packed, reading

_UNSIGNED_BYTE = 0x08
_MAX_BYTES = 2**30
"""The largest file of EMNIST has 2**29.1; a damaged header, or a packed file, may announce anything."""

Contents = Mapping[str, bytes]
"""Of two files, images and labels, by how errors call them."""


@dataclass(frozen=True)
class IdxFiles:
    """A data set in four files, ``PREFIX-images-idx3-ubyte`` and ``PREFIX-labels-idx1-ubyte`` for each split.

    Attributes:
        published: what it is.
        prefix: of the names, by split.
        md5: checksums of the published files, packed or unpacked. Other data come under the same names.
        first_label: the number of the first class in the files.
    """

    published: Published
    prefix: Mapping[SplitName, str]
    md5: Collection[str]
    first_label: int = 0

    def open(self, folder: Path) -> Dataset | None:
        """Open a folder of such files, unpacked or as ``.gz``; None if it holds none.

        Raises:
            DataError: a file is damaged, or without its fellow.
        """
        counts, proven = dict.fromkeys(self.prefix, 0), True
        for split in self.prefix:
            for path in self._find(folder, split):
                content = _content(path)
                proven = proven and not {_md5(content), _md5(path.read_bytes())}.isdisjoint(self.md5)
                if "images" in path.name:
                    counts[split] = _shape(path, content, 3)[0]
        if not any(counts.values()):
            return None
        description = self.published.describe(note="local copy" if proven else "", **counts, proven=proven)
        return self.published.dataset(description, lambda split: self._local(folder, split))

    def names(self, split: SplitName) -> tuple[str, str]:
        """Return the names of a split's files of images and of labels, unpacked."""
        return f"{self.prefix[split]}-images-idx3-ubyte", f"{self.prefix[split]}-labels-idx1-ubyte"

    def read(self, images: Path, labels: Path) -> Split:
        """Read a split from its two files.

        Raises:
            DataError: a file is damaged or of other images.
        """
        return self.parse({str(path): _content(path) for path in (images, labels)})

    def parse(self, contents: Contents) -> Split:
        """Make a split of the contents of its two files, unpacked.

        Raises:
            DataError: a file is damaged or of other images.
        """
        (images, pixels), (labels, numbers) = contents.items()
        array, shape = _array(images, pixels, 3), self.published.image_shape
        if array.shape[1:] != shape[1:]:
            raise DataError(f"{images}: images of shape {array.shape[1:]}; must be {shape[1:]}")
        classes = _array(labels, numbers, 1).astype(np.int64) - self.first_label
        name = f"{images}, {Path(labels).name}"
        return array_split(array[:, None], classes, name=name, num_classes=self.published.num_classes)

    def _find(self, folder: Path, split: SplitName) -> list[Path]:
        """Return the files of images and labels of a split, none if neither is there."""
        found = []
        for name in self.names(split):
            found += [path for path in (folder / f"{name}.gz", folder / name) if path.is_file()][:1]
        if len(found) == 1:
            missing = "labels" if "images" in found[0].name else "images"
            raise DataError(f"{found[0]}: must be with the {missing} file")
        return found

    def _local(self, folder: Path, split: SplitName) -> Split:
        if not (paths := self._find(folder, split)):
            raise DataError(f"{folder}: no {self.names(split)[0]}, so no {split} images")
        return self.read(*paths)


def unpacked(data: bytes, *, where: str) -> bytes:
    """Return the content of a ``.gz`` file, given its bytes.

    Raises:
        DataError: it is damaged, or unpacks to over 2**30 bytes.
    """
    with reading(where, expected="a gzip-compressed IDX file"), gzip.open(io.BytesIO(data)) as file:
        return _limited(file.read(_MAX_BYTES + 1), where)


def _content(path: Path) -> bytes:
    """Return the content of a file, unpacked if its name ends in ``.gz``."""
    expected = "a gzip-compressed IDX file" if path.suffix == ".gz" else "an IDX file"
    with reading(path, expected=expected), open_packed(path) as file:
        return _limited(file.read(_MAX_BYTES + 1), path)  # to the end, so that gzip checks its checksum


def _limited(content: bytes, where: object) -> bytes:
    if len(content) > _MAX_BYTES:
        raise DataError(f"{where}: over {_MAX_BYTES} bytes; must be at most that")
    return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _array(where: object, content: bytes, ndim: int) -> npt.NDArray[np.uint8]:
    """Return the array of an IDX file of unsigned bytes in ``ndim`` dimensions."""
    shape, header = _shape(where, content, ndim), 4 * (1 + ndim)
    if (size := math.prod(shape)) > _MAX_BYTES:
        raise DataError(f"{where}: shape {shape} makes {size} bytes; must be at most {_MAX_BYTES}")
    if len(content) - header != size:
        raise DataError(f"{where}: {len(content) - header} bytes after the header; its shape {shape} makes {size}")
    return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape)


def _shape(where: object, content: bytes, ndim: int) -> tuple[int, ...]:
    """Return the shape that the header of an IDX file of unsigned bytes announces."""
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTE, ndim)):
        found = f"magic number 0x{content[:4].hex()}"
        raise DataError(f"{where}: {found}; must be 0x{_UNSIGNED_BYTE << 8 | ndim:08x} (IDX)")
    with reading(where, expected=f"an IDX file of unsigned bytes in {ndim} dimensions"):
        return struct.unpack_from(f">{ndim}I", content, 4)
