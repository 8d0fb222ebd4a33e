"""Reading files that may be damaged or hostile: every failure becomes a `DataError` that names the file."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

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


_MOST_BYTES = 2**28
"""Of a file that is read whole; a batch of CIFAR-100's Python version has 2**27.2."""


def read_file(path: Path, *, expected: str = "a readable file", most: int = _MOST_BYTES) -> bytes:
    """Return the bytes of a file, as it is.

    Raises:
        DataError: it cannot be read, is not a regular file, or has over ``most`` bytes.
    """
    with reading(path, expected=expected):
        if path.exists() and not path.is_file():  # a pipe would wait for its other end, a device never end
            raise DataError(f"{path}: not a regular file; must be {expected}")
        with path.open("rb") as file:
            content = file.read(most + 1)
    if len(content) > most:
        raise DataError(f"{path}: over {most} bytes; must be at most that")
    return content


def published_file(path: Path, md5: str) -> Path:
    """Return a file that is the published one.

    Raises:
        DataError: it cannot be read, or has another checksum.
    """
    with reading(path, expected="a published file"), path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise DataError(f"{path}: wrong checksum; must have the published md5 {md5}")
    return path


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


def npz_headers(path: Path, *, expected: str) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return shape and type of each array of an ``.npz``; no array is read.

    Args:
        path: the file.
        expected: what the file should be, for the error.

    Raises:
        DataError: no such file, or damaged.
    """
    found: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    with reading(path, expected=expected), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                formats = np.lib.format
                header = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
                shape, _, kind = header(file)
            found[info.filename.removesuffix(".npy")] = shape, kind
    return found


def open_packed(path: Path) -> IO[bytes]:
    """Open a file for reading; unpack it if its name ends in ``.gz``, ``.bz2`` or ``.xz``.

    The checksum of a packed file is checked when it is read to its end. Use within `reading`.
    """
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return cast(IO[bytes], openers.get(path.suffix, open)(path, "rb"))


_IMAGE = "a whole JPEG or PNG image"
_TO_GREY = ("1", "LA")
_TO_RGB = ("P", "RGB", "RGBA", "CMYK")
"""Modes whose 8-bit colours Pillow's conversion to L and to RGB keeps if all is opaque; it clips others without a word.
"""
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of files whose images become grey: depths of up to 16 bits."""

_MOST_PIXELS = 2**26
"""A small file can announce, and unpack to, any number; 8192x8192 pixels in colour take 200 MB."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the value of EXIF's orientation: what sets the image upright."""


def decode(
    data: bytes, *, where: object, shape: tuple[int, int, int] | None = None, upright: bool = False
) -> Image.Image:
    """Decode a JPEG or PNG image completely; the one place where an image is decoded.

    Grey of 16 bits becomes the nearest of 8: 255 v / 65535.

    Args:
        data: the bytes of the file.
        where: the file, as errors name it.
        shape: (c, h, w) that the image must have as it is stored, 8-bit greyscale (c = 1) or RGB (c = 3); None for any,
            which is converted.
        upright: whether to turn it as the orientation says that a camera left in it (EXIF).

    Returns:
        The image in mode L or RGB, 8 bits per channel.

    Raises:
        DataError: the image is truncated, damaged, in another format, of another shape or mode than it must have, of
            over 2**26 pixels, has transparent pixels, or colours of 16 bits.
    """
    with reading(where, expected=_IMAGE):
        image = _opened(data, where=where)
        # Before decoding: a small file can announce a huge image.
        if shape is not None:
            channels, height, width = shape
            mode, size = "L" if channels == 1 else "RGB", (width, height)
            if (image.mode, image.size) != (mode, size):
                raise DataError(f"{where}: {image.mode} image of size {image.size}; must be {mode} {size}")
        # Before decoding, too: Pillow then forgets that it took the upper 8 bits of 16.
        wide = any(str(tile[3]).endswith("16B") for tile in image.tile)
        turn = _turn(image) if upright else None
        image.load()
        result = _eight_bits(image, wide=wide, where=where)
        return result if turn is None else result.transpose(turn)


def stored_shape(data: bytes, *, where: object, upright: bool = False) -> tuple[int, int, int]:
    """Return the shape that `decode` would give an image: (1, h, w) or (3, h, w). Only its header is read.

    Raises:
        DataError: it is no JPEG or PNG image, or of over 2**26 pixels.
    """
    with reading(where, expected=_IMAGE):
        image = _opened(data, where=where)
        width, height = image.size
        turn = _turn(image) if upright else None
    if turn is not None and turn.name in ("TRANSPOSE", "TRANSVERSE", "ROTATE_90", "ROTATE_270"):
        width, height = height, width
    return 1 if image.mode in _GREY else 3, height, width


def _opened(data: bytes, *, where: object) -> ImageFile.ImageFile:
    """Return an image of which only the header is read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    width, height = image.size
    if width * height > _MOST_PIXELS:
        raise DataError(f"{where}: {width}x{height} pixels; must be at most {_MOST_PIXELS} in all")
    return image


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what sets an image upright; None where nothing says so, or what says so is damaged.

    In a PNG it must stand before the pixels: Pillow would decode these to look behind them.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return None
    try:
        value = image.getexif().get(_ORIENTATION)
    except (*_DAMAGE, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        return None
    return _TURNS.get(value) if isinstance(value, int) else None


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
    if image.mode not in (*_TO_GREY, *_TO_RGB):
        raise DataError(f"{where}: {image.mode} image; must be greyscale, RGB, CMYK or of a palette")
    if image.palette is not None and np.asarray(image).max() >= (colours := len(image.palette.palette) // 3):
        raise DataError(f"{where}: colour {np.asarray(image).max()} of a palette of {colours}; must be in the palette")
    kind = "L" if image.mode in _TO_GREY else "RGB"
    if has_key or image.mode in ("LA", "RGBA"):
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataError(transparent)
    return image.getchannel("R") if kind == "L" and image.mode == "RGBA" else image.convert(kind)
