"""Reading files that may be damaged or hostile: every failure becomes a `DataError` that names the file."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from certsmooth.errors import CertsmoothError, DataError

# What gzip, lzma, tarfile, zipfile, numpy, csv and PIL raise on damaged input. MemoryError: a damaged header
# that announces an absurd size.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    MemoryError,
    NotImplementedError,
    struct.error,
    csv.Error,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
)


@contextmanager
def reading(where: object, *, expected: str) -> Iterator[None]:
    """Turn what the libraries raise while they read a damaged file into a `DataError`.

    Args:
        where: the file, as the error names it.
        expected: what the file should be, for example "a JPEG or PNG image".

    Raises:
        DataError: the body raised one of the libraries' errors; the body's own errors of certsmooth pass.
    """
    try:
        yield
    except CertsmoothError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{where}: cannot be read ({type(error).__name__}: {error}); must be {expected}") from error


def read_file(path: Path, *, expected: str = "a readable file") -> bytes:
    """Return the bytes of a file, as it is.

    Raises:
        DataError: it cannot be read.
    """
    with reading(path, expected=expected):
        return path.read_bytes()


_MOST_PACKED = 100
"""No images are packed more than so many times smaller; a file of zeros that fills the memory is, ten times as much."""


def read_npz(path: Path, keys: Sequence[str], *, expected: str) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of an ``.npz``; other arrays in it are not read, and nothing is unpickled.

    Args:
        path: the file.
        keys: names of the arrays.
        expected: what the file should be, for the error.

    Raises:
        DataError: no such file, damaged, an array of Python objects, an array missing or twice, or arrays that unpack
            to over a hundred times the size of the file.
    """
    # Opened here, because numpy leaves a file that it cannot read open.
    with reading(path, expected=expected), path.open("rb") as stream:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
        names, unpacked = [info.filename for info in members], sum(info.file_size for info in members)
        for key in keys:
            if (count := names.count(f"{key}.npy")) != 1:
                raise DataError(f"{path}: cannot be read ({count} arrays {key!r}); must be {expected}")
        if unpacked > _MOST_PACKED * path.stat().st_size:
            raise DataError(
                f"{path}: unpacks to {unpacked} bytes, over {_MOST_PACKED} times its size; must be {expected}"
            )
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in keys}


def open_packed(path: Path) -> IO[bytes]:
    """Open a file for reading; unpack it if its name ends in ``.gz``, ``.bz2`` or ``.xz``.

    The checksum of a packed file is checked when it is read to its end. Use within `reading`.
    """
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return cast(IO[bytes], openers.get(path.suffix, open)(path, "rb"))


_IMAGE = "a whole JPEG or PNG image"
_TO_RGB = ("1", "P", "LA", "RGB", "RGBA", "CMYK")
"""Modes whose 8-bit colours Pillow's conversion to RGB keeps if all is opaque; it clips others without a word."""


def decode(data: bytes, *, where: object, shape: tuple[int, int, int] | None = None) -> Image.Image:
    """Decode a JPEG or PNG image completely; the one place where an image is decoded.

    Grey of 16 bits becomes the nearest of 8: 255 v / 65535.

    Args:
        data: the bytes of the file.
        where: the file, as errors name it.
        shape: (c, h, w) that the image must have as it is stored, 8-bit greyscale (c = 1) or RGB (c = 3); None for any,
            which is converted.

    Returns:
        The image in mode L or RGB, 8 bits per channel.

    Raises:
        DataError: the image is truncated, damaged, in another format, of another shape or mode than it must have, has
            transparent pixels, or colours of 16 bits.
    """
    with reading(where, expected=_IMAGE):
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        # Before decoding: a small file can announce a huge image.
        if shape is not None:
            channels, height, width = shape
            mode, size = "L" if channels == 1 else "RGB", (width, height)
            if (image.mode, image.size) != (mode, size):
                raise DataError(f"{where}: {image.mode} image of size {image.size}; must be {mode} {size}")
        # Before decoding, too: Pillow then forgets that it took the upper 8 bits of 16.
        wide = any(str(tile[3]).endswith("16B") for tile in image.tile)
        image.load()
        return _eight_bits(image, wide=wide, where=where)


def _eight_bits(image: Image.Image, *, wide: bool, where: object) -> Image.Image:
    """Return a decoded image in mode L or RGB; ``wide`` says that its file has 16 bits per channel."""
    transparent = f"{where}: {image.mode} image with transparent pixels, which have no colour; must be opaque"
    has_key = "transparency" in image.info
    # A palette's key names entries. Any other is not compared with the pixels, which Pillow may have scaled.
    if has_key and image.mode != "P":
        raise DataError(transparent)
    if wide and image.getbands() == ("I",):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if wide:
        raise DataError(f"{where}: {image.mode} image of 16 bits per channel; must have 8, or be grey and opaque")
    if image.mode == "L":
        return image
    if image.mode not in _TO_RGB:
        raise DataError(f"{where}: {image.mode} image; must be greyscale, RGB, CMYK or of a palette")
    if image.palette is not None and np.asarray(image).max() >= (colours := len(image.palette.palette) // 3):
        raise DataError(f"{where}: colour {np.asarray(image).max()} of a palette of {colours}; must be in the palette")
    if has_key or image.mode in ("LA", "RGBA"):
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataError(transparent)
    return image.convert("RGB")
