"""Every image is read as the colours that it stores, to the nearest of 8 bits, or refused by name."""

from __future__ import annotations

import ast
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from certsmooth.errors import DataError
from certsmooth.science import datasets
from certsmooth.science.datasets._files import decode
from factories import make_sample, numbered_files, write_folder

DECODES = re.compile(r"Image\.open$|imread|_loader$|decode_(image|png|jpeg)|read_image")
SOURCE = Path(datasets.__file__).parents[2]
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
"""PNG's colour types."""


def png(
    pixels: np.ndarray, depth: int, colour: int, *, palette: list[int] | None = None, key: bytes | None = None
) -> bytes:
    """Write a PNG by its specification: pixels [h, w, c], whole bytes for less than 8 bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, channels = pixels.shape
    bits = ((pixels[..., None] >> np.arange(depth)[::-1]) & 1).astype(np.uint8).reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    assert channels == {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}[colour]
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)),
            chunk(b"PLTE", bytes(palette)) if palette else b"",
            chunk(b"tRNS", key) if key else b"",
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""),
        ]
    )


def row(*values: int, channels: int = 1) -> np.ndarray:
    """One row of pixels."""
    return np.array(values, np.int64).reshape(1, -1, channels)


def rgb(content: bytes) -> list[list[int]]:
    return np.asarray(decode(content, where="a.png").convert("RGB")).reshape(-1, 3).tolist()


def in_format(kind: str, mode: str) -> bytes | None:
    """Return a small image of a mode in a format, None where the format has no such mode."""
    buffer = io.BytesIO()
    try:
        Image.new(mode, (4, 4)).save(buffer, kind)
    except (OSError, KeyError, ValueError):
        return None
    return buffer.getvalue()


def test_grey_of_16_bits() -> None:
    assert rgb(png(row(0, 3000, 30_000, 65_535), 16, GREY)) == [[v] * 3 for v in (0, 12, 117, 255)]


@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=40))
def test_grey_of_16_bits_becomes_the_nearest_of_8(values: list[int]) -> None:
    found = np.asarray(decode(png(row(*values), 16, GREY), where="a.png"))[0]
    assert found.tolist() == [round(value * 255 / 65_535) for value in values]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_of_fewer_bits_fills_the_range(depth: int) -> None:
    most = 2**depth - 1
    values = [0, 1, most - 1, most]
    assert rgb(png(row(*values), depth, GREY)) == [[round(255 * value / most)] * 3 for value in values]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette(depth: int) -> None:
    assert rgb(png(row(1, 0, 1), depth, PALETTE, palette=[9, 8, 7, 6, 5, 4])) == [[6, 5, 4], [9, 8, 7], [6, 5, 4]]


def test_a_colour_that_the_palette_has_not() -> None:
    """Pillow shows it black."""
    with pytest.raises(DataError, match=r"^a\.png: colour 3 of a palette of 2; must be in the palette"):
        decode(png(row(0, 3), 8, PALETTE, palette=[9, 8, 7, 6, 5, 4]), where="a.png")


@pytest.mark.parametrize(
    "content",
    [
        png(row(10, 255, 20, 255, channels=2), 8, GREY_ALPHA),
        png(row(10, 10, 10, 255, 20, 20, 20, 255, channels=4), 8, COLOUR_ALPHA),
        png(row(0, 1), 8, PALETTE, palette=[10] * 3 + [20] * 3 + [30] * 3, key=bytes([255, 255, 0])),
    ],
)
def test_opaque_alpha_changes_nothing(content: bytes) -> None:
    assert rgb(content) == [[10] * 3, [20] * 3]


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (png(row(10, 254, 20, 255, channels=2), 8, GREY_ALPHA), "LA"),
        (png(row(1, 2, 3, 0, channels=4), 8, COLOUR_ALPHA), "RGBA"),
        (png(row(0, 1), 8, PALETTE, palette=[10] * 3 + [20] * 3, key=bytes([0])), "P"),
        (png(row(0, 1), 8, PALETTE, palette=[10] * 3 + [20] * 3, key=bytes([255, 128])), "P"),
        (png(row(0, 1), 1, GREY, key=b"\0\1"), "1"),
        (png(row(0, 1, 2, 3), 2, GREY, key=b"\0\1"), "L"),  # Pillow compares this key with 85, and finds none
        (png(row(0, 3000), 16, GREY, key=struct.pack(">H", 3000)), "I;16"),
        (png(row(1, 2, 3, channels=3), 8, COLOUR, key=struct.pack(">3H", 1, 2, 3)), "RGB"),
    ],
)
def test_transparent_pixels_have_no_colour(content: bytes, mode: str) -> None:
    with pytest.raises(DataError, match=rf"^a\.png: {mode} image with transparent pixels.*; must be opaque"):
        decode(content, where="a.png")


@pytest.mark.parametrize(("colour", "channels"), [(COLOUR, 3), (GREY_ALPHA, 2), (COLOUR_ALPHA, 4)])
def test_other_images_of_16_bits_are_refused(colour: int, channels: int) -> None:
    """Pillow takes the upper byte: 3000 would become 11, not 12."""
    content = png(row(*[3000, 3000, 3000, 65_535][-channels:], channels=channels), 16, colour)
    with pytest.raises(DataError, match=r"^a\.png: RGBA? image of 16 bits per channel; must have 8, or be grey"):
        decode(content, where="a.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "PPM", "BMP", "WEBP", "GIF"])
@pytest.mark.parametrize("mode", Image.MODES)
def test_every_mode_of_every_format_is_read_as_it_is_or_refused(mode: str, kind: str) -> None:
    """Zeros, in the formats that are read; TIFF, PGM and PFM hold whole numbers and reals of no known range."""
    content = in_format(kind, mode)
    if content is None:
        return
    if kind in ("PNG", "JPEG") and mode not in ("LA", "RGBA"):
        colour = {"CMYK": [255, 255, 255], "YCbCr": [0, 135, 0]}.get(mode, [0, 0, 0])
        assert rgb(content) == [colour] * 16
        assert decode(content, where="a.png").mode in ("L", "RGB")
    else:
        right = "must be opaque" if kind == "PNG" else "must be a whole JPEG or PNG image"
        with pytest.raises(DataError, match=rf"^a\.png: .*{right}"):
            decode(content, where="a.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mnist", png(np.full((28, 28, 1), 3000), 16, GREY), r"I;16 image of size \(28, 28\); must be L \(28, 28\)"),
        ("mnist", png(np.zeros((28, 28, 1), int), 8, GREY, key=b"\0\0"), "L image with transparent pixels"),
        ("cifar10", png(np.full((32, 32, 3), 3000), 16, COLOUR), "RGB image of 16 bits per channel; must have 8"),
        ("cifar10", png(np.zeros((32, 32, 3), int), 8, COLOUR, key=bytes(6)), "RGB image with transparent pixels"),
    ],
)
def test_copies_of_data_sets(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    sample = make_sample({"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[name])
    source = write_folder(tmp_path, numbered_files(sample) | {"test/00003.png": content})
    with pytest.raises(DataError, match=rf"test/00003\.png: {message}"):
        datasets.load(name, source=source).test()


def test_imagenet(tmp_path: Path) -> None:
    """What the example of all-white images becomes: 12 and 117 everywhere."""
    for split in ("train", "val"):
        images = {f"{split}/n01/{value}.png": png(np.full((300, 260, 1), value), 16, GREY) for value in (3000, 30_000)}
        write_folder(tmp_path, images)
    test = datasets.load("imagenet", source=tmp_path).test()
    assert [np.unique(image).tolist() for image in test.images[np.arange(2)]] == [[12], [117]]


def test_images_are_decoded_in_one_place() -> None:
    calls = [
        f"{path.relative_to(SOURCE).as_posix()}: {ast.unparse(node.func)}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and DECODES.search(ast.unparse(node.func))
    ]
    assert calls == ["science/datasets/_files.py: Image.open"]
