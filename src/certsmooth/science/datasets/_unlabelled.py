"""Images without labels, from a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from certsmooth.errors import DataError
from certsmooth.science.datasets._files import read_npz, reading

_FORM = "an .npz with images, uint8 [n, h, w, c] or [n, c, h, w]"


def read_unlabelled(path: Path, *, image_shape: tuple[int, ...]) -> tuple[npt.NDArray[np.uint8], str]:
    """Read images without labels.

    Args:
        path: .npz with ``images``, uint8 [n, h, w, c] or [n, c, h, w]; other arrays in it are not read.
        image_shape: (c, h, w), which the images must have.

    Returns:
        The images, uint8 [n, c, h, w], and the hash of the file, ``sha256:`` and 64 hexadecimal digits.

    Raises:
        DataError: no such file, damaged, or images of another type or shape.
    """
    with reading(path, expected=_FORM), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    images = read_npz(path, ["images"], expected=_FORM)["images"]
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
        raise DataError(f"{path}: images are {images.dtype} {list(images.shape)}; must be {_FORM}")
    if images.shape[1:] != image_shape:
        channels, *size = image_shape
        if images.shape[1:] != (*size, channels):
            raise DataError(f"{path}: images of shape {list(images.shape[1:])}; the data set has {list(image_shape)}")
        images = np.ascontiguousarray(np.moveaxis(images, 3, 1))
    return images, f"sha256:{digest}"
