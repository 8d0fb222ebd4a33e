"""MNIST (LeCun, Cortes and Burges): handwritten digits, 28x28, 60,000 training and 10,000 test images.

Without a source, each file comes from the mirrors that torchvision knows and must have the checksum that
torchvision knows; files that an earlier download or torchvision itself left in the download folder are used
if they have it. (File by file, because torchvision's MNIST class wants both splits and checks no file that it has
unpacked before.)

The files are in the IDX format: a header (magic number, one size per dimension), then the bytes.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from certsmooth.errors import DataError
from certsmooth.science.datasets import Dataset, DatasetMember, Published, Split, SplitName, array_split
from certsmooth.science.datasets._copies import fetch, open_copy
from certsmooth.science.datasets._files import open_packed, reading

PUBLISHED = Published(name="mnist", title="MNIST", image_shape=(1, 28, 28), sizes=(60_000, 10_000))
_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the published files, unpacked. Fashion-MNIST, KMNIST and others come under the same names."""

_PREFIX: dict[SplitName, str] = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 0x08
_MAX_BYTES = 2**30
"""MNIST's largest file has 2**25.5; a damaged header, or a packed file, may announce anything."""


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
        if source is None:
            return PUBLISHED.dataset("MNIST", lambda split: _downloaded(download / "MNIST" / "raw", split))
        return open_copy(source, PUBLISHED, own=_open_idx, form="a folder of IDX files")


def _open_idx(folder: Path) -> Dataset | None:
    """Open a folder of IDX files; None if it holds none."""
    counts, proven = dict.fromkeys(_PREFIX, 0), True
    for split in _PREFIX:
        for path in _find(folder, split):
            content = _content(path)
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            proven = proven and digest == _MD5[path.name.removesuffix(".gz")]
            if "images" in path.name:
                counts[split] = _shape(path, content, 3)[0]
    if not any(counts.values()):
        return None
    description = PUBLISHED.describe(note="local copy" if proven else "", **counts, proven=proven)
    return PUBLISHED.dataset(description, lambda split: _local(folder, split))


def _find(folder: Path, split: SplitName) -> list[Path]:
    """Return the files of images and labels of a split, none if neither is there."""
    found = []
    for kind in ("images", "labels"):
        name = f"{_PREFIX[split]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
        found += [path for path in (folder / f"{name}.gz", folder / name) if path.is_file()][:1]
    if len(found) == 1:
        missing = "labels" if "images" in found[0].name else "images"
        raise DataError(f"{found[0]}: must be with the {missing} file")
    return found


def _local(folder: Path, split: SplitName) -> Split:
    if not (paths := _find(folder, split)):
        raise DataError(f"{folder}: no {_PREFIX[split]}-images-idx3-ubyte, so no {split} images")
    return _read(*paths)


def _downloaded(folder: Path, split: SplitName) -> Split:
    from torchvision.datasets import MNIST as TORCHVISION  # here, as torchvision takes seconds

    names = [name for name, _ in TORCHVISION.resources if name.startswith(_PREFIX[split])]
    md5 = dict(TORCHVISION.resources)
    paths = [fetch(folder / name, [f"{m}{name}" for m in TORCHVISION.mirrors], md5=md5[name]) for name in names]
    return _read(*paths)


def _read(images: Path, labels: Path) -> Split:
    pixels = _array(images, 3)
    if pixels.shape[1:] != PUBLISHED.image_shape[1:]:
        raise DataError(f"{images}: images of shape {pixels.shape[1:]}; must be {PUBLISHED.image_shape[1:]}")
    return array_split(pixels[:, None], _array(labels, 1), name=f"{images}, {labels.name}", num_classes=10)


def _array(path: Path, ndim: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes in ``ndim`` dimensions."""
    content = _content(path)
    shape, header = _shape(path, content, ndim), 4 * (1 + ndim)
    if (size := math.prod(shape)) > _MAX_BYTES:
        raise DataError(f"{path}: shape {shape} makes {size} bytes; must be at most {_MAX_BYTES}")
    if len(content) - header != size:
        raise DataError(f"{path}: {len(content) - header} bytes after the header; its shape {shape} makes {size}")
    return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape)


def _content(path: Path) -> bytes:
    """Return the content of a file, unpacked if its name ends in ``.gz``."""
    expected = "a gzip-compressed IDX file" if path.suffix == ".gz" else "an IDX file"
    with reading(path, expected=expected), open_packed(path) as file:
        content = file.read(_MAX_BYTES + 1)  # to the end, so that gzip checks its checksum
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: over {_MAX_BYTES} bytes; must be at most that")
    return content


def _shape(path: Path, content: bytes, ndim: int) -> tuple[int, ...]:
    """Return the shape that the header of an IDX file of unsigned bytes announces."""
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTE, ndim)):
        found = f"magic number 0x{content[:4].hex()}"
        raise DataError(f"{path}: {found}; must be 0x{_UNSIGNED_BYTE << 8 | ndim:08x} (IDX)")
    with reading(path, expected=f"an IDX file of unsigned bytes in {ndim} dimensions"):
        return struct.unpack_from(f">{ndim}I", content, 4)
