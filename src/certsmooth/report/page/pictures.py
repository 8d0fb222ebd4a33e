"""Pictures as the page holds them: many small ones in one sheet, a PNG in a data URI."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from jaxtyping import Float, UInt8

LARGEST = 64
"""Pixels of the longer side; larger images are made smaller."""


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of an image as it is shown."""
    factor = min(1.0, LARGEST / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def as_bytes(images: Float[np.ndarray, "n c h w"]) -> UInt8[np.ndarray, "n h w c"]:
    """Return images of one or three channels as bytes; what is outside [0, 1] is cut off."""
    return np.moveaxis(np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8), 1, -1)


def sheet(images: UInt8[np.ndarray, "n h w c"]) -> str:
    """Return a PNG that holds images row by row, `columns` in a row, as a data URI; equal images give equal text."""
    from PIL import Image

    number, height, width = images.shape[:3]
    small_height, small_width = shown_size(height, width)
    across = columns(number)
    whole = np.zeros((math.ceil(number / across) * small_height, across * small_width, images.shape[3]), np.uint8)
    for place, image in enumerate(images):
        if (small_height, small_width) != (height, width):
            smaller = Image.fromarray(image.squeeze()).resize((small_width, small_height), Image.Resampling.BOX)
            image = np.asarray(smaller).reshape(small_height, small_width, -1)
        top, left = place // across * small_height, place % across * small_width
        whole[top : top + small_height, left : left + small_width] = image
    file = io.BytesIO()
    Image.fromarray(whole.squeeze(-1) if whole.shape[2] == 1 else whole).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def columns(number: int) -> int:
    """Return how many of so many images stand in a row of their sheet."""
    return max(1, math.ceil(math.sqrt(number)))
