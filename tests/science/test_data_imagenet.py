"""ImageNet's layout: classes by name, images decoded when asked for, and damage that is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certsmooth.errors import ConfigError, DataError
from certsmooth.science import datasets
from factories import image_bytes, imagenet_files, write_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path, imagenet_files())


def _naive(path: Path) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    width, height = image.size
    short = min(width, height)
    size = (256 * width // short, 256 * height // short)
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    return np.asarray(image.crop((left, top, left + 224, top + 224))).transpose(2, 0, 1)


def test_files_in_order_of_class_and_name(root: Path) -> None:
    dataset = datasets.load("imagenet", source=root)
    assert dataset.num_classes == 3
    assert dataset.image_shape == (3, 224, 224)
    test = dataset.test()
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert test.index.tolist() == [0, 1, 2, 3, 4, 5]
    paths = [root / f"val/{wnid}/{wnid}_{number}.JPEG" for wnid in ("n01", "n02", "n10") for number in (0, 1)]
    np.testing.assert_array_equal(test.images[np.arange(6)], np.stack([_naive(path) for path in paths]))


def test_description_counts_what_is_there(root: Path) -> None:
    description = datasets.load("imagenet", source=root).description
    assert description == "data in ImageNet's format, 3 classes, 9 training images, 6 test images"


def test_fingerprint_from_the_definition(root: Path) -> None:
    digest = hashlib.sha256(b"RGB, resize 256, crop 224;")
    for label, wnid in enumerate(("n01", "n02", "n10")):
        for number in (0, 1):
            name = f"val/{wnid}/{wnid}_{number}.JPEG"
            content = (root / name).read_bytes()
            digest.update(f"{name}\0{label}\0{len(content)}\0".encode() + content)
    assert datasets.load("imagenet", source=root).test().fingerprint == f"sha256:{digest.hexdigest()}"


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_every_mode_becomes_rgb(root: Path, mode: str) -> None:
    path = root / "val/n01/n01_0.JPEG"
    picture = Image.open(path)
    picture.load()
    picture.convert(mode).save(path, format="PNG" if mode in ("RGBA", "P") else "JPEG")
    np.testing.assert_array_equal(datasets.load("imagenet", source=root).test().images[np.array([0])][0], _naive(path))


def test_nothing_is_decoded_before_it_is_asked_for(root: Path) -> None:
    path = root / "val/n01/n01_0.JPEG"
    path.write_bytes(path.read_bytes()[:-500])
    test = datasets.load("imagenet", source=root).test()
    assert test.batch(np.array([1])).shape == (1, 3, 224, 224)
    with pytest.raises(DataError, match=r"val/n01/n01_0\.JPEG: cannot be read .*must be a whole JPEG or PNG"):
        test.batch(np.array([1, 0]))


def test_what_is_no_image_is_named_before_anything_is_trained(root: Path) -> None:
    (root / "val/n01/n01_0.JPEG").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"val/n01/n01_0\.JPEG: cannot be read .*must be a whole JPEG or PNG"):
        datasets.load("imagenet", source=root).test()


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_image_is_named(root: Path, part: float) -> None:
    path = root / "val/n02/n02_1.JPEG"
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DataError, match=r"val/n02/n02_1\.JPEG: cannot be read"):
        datasets.load("imagenet", source=root).test().batch(np.array([3]))


def test_an_image_that_vanishes_is_named(root: Path) -> None:
    test = datasets.load("imagenet", source=root).test()
    (root / "val/n02/n02_1.JPEG").unlink()
    with pytest.raises(DataError, match=r"val/n02/n02_1\.JPEG: cannot be read"):
        test.batch(np.array([3]))


def test_classes_must_agree(root: Path) -> None:
    write_folder(root, {"train/n03/a.JPEG": image_bytes(np.zeros((300, 300, 3), np.uint8), "JPEG")})
    with pytest.raises(DataError, match=r"class folder n03 is in only one of train/ and val/"):
        datasets.load("imagenet", source=root)


def test_a_class_without_images(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "n03").mkdir()
    with pytest.raises(DataError, match=r"train/n03: no images of class n03; must hold"):
        datasets.load("imagenet", source=root)


@pytest.mark.parametrize("split", ["train", "val"])
def test_both_folders_must_be_there(root: Path, split: str) -> None:
    (root / split).rename(root / "other")
    with pytest.raises(DataError, match=rf"{split}: cannot be read .*must be one of the two folders"):
        datasets.load("imagenet", source=root)


def test_a_source_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"imagenet: no source; .*holds train/ and val/"):
        datasets.load("imagenet")
