"""The IDX format of the MNIST files: a header (magic number, one size per dimension), then the bytes."""

from __future__ import annotations

import hashlib
import math
import struct
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from certsmooth.errors import DataError
from certsmooth.science.datasets._files import open_packed, reading

_UNSIGNED_BYTE = 0x08
_MAX_BYTES = 2**30
"""MNIST's largest file has 2**25.5; a damaged header may announce anything."""


def read_shape(path: Path, *, ndim: int) -> tuple[int, ...]:
    """Return the shape that the header of an IDX file announces, without reading the rest.

    Args:
        path: an IDX file of unsigned bytes; compressed if its name ends in ``.gz``.
        ndim: the number of dimensions that it must have.

    Raises:
        DataError: damaged, or not such a file.
    """
    with reading(path, expected=_expected(path, ndim)), open_packed(path) as file:
        return _header(file, path, ndim)


def read_array(path: Path, *, ndim: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Args:
        path: the file; compressed if its name ends in ``.gz``.
        ndim: the number of dimensions that it must have.

    Raises:
        DataError: damaged, truncated, too long, or not such a file.
    """
    with reading(path, expected=_expected(path, ndim)), open_packed(path) as file:
        shape = _header(file, path, ndim)
        size = math.prod(shape)
        if size > _MAX_BYTES:
            raise DataError(f"{path}: shape {shape} makes {size} bytes; must be at most {_MAX_BYTES}")
        data = file.read(size)
        surplus = file.read(1)  # also makes gzip check its checksum
    if len(data) != size or surplus:
        found = "more" if surplus else f"{len(data)}"
        raise DataError(f"{path}: {found} bytes after the header; its shape {shape} makes {size}")
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(shape)


def md5(path: Path) -> str:
    """Return the MD5 of a file's content, unpacked if its name ends in ``.gz``.

    Raises:
        DataError: damaged, or longer than any file that is read here.
    """
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with reading(path, expected="an IDX file"), open_packed(path) as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
            if (size := size + len(chunk)) > 2 * _MAX_BYTES:
                raise DataError(f"{path}: over {2 * _MAX_BYTES} bytes; must be at most that")
    return digest.hexdigest()


def _header(file: IO[bytes], path: Path, ndim: int) -> tuple[int, ...]:
    magic = file.read(4)
    if magic != bytes((0, 0, _UNSIGNED_BYTE, ndim)):
        raise DataError(f"{path}: magic number 0x{magic.hex()}; must be 0x{_UNSIGNED_BYTE << 8 | ndim:08x} (IDX)")
    return struct.unpack(f">{ndim}I", file.read(4 * ndim))


def _expected(path: Path, ndim: int) -> str:
    packed = "gzip-compressed " if path.suffix == ".gz" else ""
    return f"a {packed}IDX file of unsigned bytes in {ndim} dimensions"
