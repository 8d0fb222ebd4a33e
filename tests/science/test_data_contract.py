"""What every data set must do; a new member of certsmooth.science.datasets is tested once it has a line in COPIES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from certsmooth._internal import registry
from certsmooth.errors import ConfigError, DataError
from certsmooth.science import datasets
from factories import (
    class_files,
    imagenet_files,
    make_sample,
    numbered_files,
    own_sample,
    write_folder,
    write_idx,
    write_own_npz,
    write_own_parquet,
)

MEMBERS = registry.names("datasets")
SPLITS = ("train", "test")


def _mnist(folder: Path, change: str | None, split: str) -> dict[str, Any]:
    return {"source": write_idx(folder, make_sample((28, 28, 1)).changed(change, split))}


def _cifar10(folder: Path, change: str | None, split: str) -> dict[str, Any]:
    sample = make_sample((32, 32, 3)).changed(change, split)
    return {"source": write_folder(folder, numbered_files(sample))}


def _imagenet(folder: Path, change: str | None, split: str) -> dict[str, Any]:
    files = imagenet_files()
    part = {"train": "train", "test": "val"}[split]
    if change == "pixel":
        files[f"{part}/n02/n02_1.JPEG"] = imagenet_files(seed=1)[f"{part}/n02/n02_1.JPEG"]
    elif change == "label":
        files[f"{part}/n10/n02_1.JPEG"] = files.pop(f"{part}/n02/n02_1.JPEG")
    return {"source": write_folder(folder, files)}


def _folder(folder: Path, change: str | None, split: str) -> dict[str, Any]:
    sample = own_sample().changed(change, split)
    return {"source": write_folder(folder, class_files(sample))}


def _npz(folder: Path, change: str | None, split: str) -> dict[str, Any]:
    folder.mkdir(parents=True)
    return {"source": write_own_npz(folder / "own.npz", own_sample().changed(change, split))}


def _parquet(folder: Path, change: str | None, split: str) -> dict[str, Any]:
    return {"source": write_own_parquet(folder, own_sample().changed(change, split))}


def _torchvision(folder: Path, change: str | None, split: str) -> dict[str, Any]:
    source = write_idx(folder, make_sample((28, 28, 1)).changed(change, split))
    return {"source": source}


Copy = Callable[[Path, str | None, str], dict[str, Any]]
COPIES: dict[str, Copy | None] = {
    "digits": None,
    "cones": None,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "imagenet": _imagenet,
    "folder": _folder,
    "npz": _npz,
    "parquet": _parquet,
    "torchvision": _torchvision,
}
"""How to get each member: (folder for a small copy, what to change in it: pixel, label or None, where)
-> arguments of load; None: the member needs no source."""

OPTIONS = {"torchvision": {"name": "FashionMNIST"}}
"""Those that a member must be given."""


@pytest.fixture(params=MEMBERS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param not in COPIES:
        pytest.fail(
            f"data set {request.param!r} has no line in COPIES of {Path(__file__).name}: add one that makes "
            f"a small copy of it, or None if it needs no source"
        )
    return request.param


@pytest.fixture
def dataset(name: str, tmp_path: Path) -> datasets.Dataset:
    return _load(name, tmp_path / "copy")


def _load(name: str, folder: Path, change: str | None = None, split: str = "test") -> datasets.Dataset:
    copy = COPIES[name]
    options = OPTIONS.get(name)
    return datasets.load(name, options=options, **({} if copy is None else copy(folder, change, split)))


def _split(dataset: datasets.Dataset, split: str) -> datasets.Split:
    return {"train": dataset.train, "test": dataset.test}[split]()


def test_table_has_no_line_without_a_member() -> None:
    assert set(COPIES) <= set(MEMBERS)


def test_says_what_it_is(dataset: datasets.Dataset, name: str) -> None:
    assert dataset.name == name
    assert dataset.description
    assert dataset.num_classes >= 2
    assert dataset.pixel_range in (None, (0.0, 1.0))
    assert len(dataset.image_shape) in (1, 3)


@pytest.mark.parametrize("split", SPLITS)
def test_types_and_shapes(dataset: datasets.Dataset, split: str) -> None:
    part = _split(dataset, split)
    n = len(part)
    assert n > 0
    assert len(part.images) == n
    assert part.labels.dtype == part.index.dtype == np.int64
    assert part.labels.shape == part.index.shape == (n,)
    positions = np.array([n - 1, 0])
    images = part.images[positions]
    assert images.dtype in (np.uint8, np.float32)
    assert images.shape == (2, *dataset.image_shape)


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_the_classes(dataset: datasets.Dataset, split: str) -> None:
    assert set(_split(dataset, split).labels.tolist()) == set(range(dataset.num_classes))


@pytest.mark.parametrize("split", SPLITS)
def test_index_is_one_number_per_image(dataset: datasets.Dataset, split: str) -> None:
    index = _split(dataset, split).index
    assert len(set(index.tolist())) == len(index)
    assert index.min() >= 0


@pytest.mark.parametrize("split", SPLITS)
def test_batch_is_float32_in_range_and_the_same_images(dataset: datasets.Dataset, split: str) -> None:
    part = _split(dataset, split)
    positions = np.arange(min(len(part), 50))
    batch = part.batch(positions)
    assert batch.dtype == torch.float32
    assert tuple(batch.shape) == (len(positions), *dataset.image_shape)
    assert bool(torch.isfinite(batch).all())
    if dataset.pixel_range is not None:
        low, high = dataset.pixel_range
        assert low <= float(batch.min()) <= 0.1 * high  # some pixel is dark, some is bright
        assert 0.9 * high <= float(batch.max()) <= high
    images = part.images[positions]
    scale = 255 if images.dtype == np.uint8 else 1
    np.testing.assert_array_equal(batch.numpy(), images.astype(np.float32) / np.float32(scale))


@pytest.mark.parametrize("split", SPLITS)
def test_batch_may_be_written_to(dataset: datasets.Dataset, split: str) -> None:
    part = _split(dataset, split)
    positions = np.arange(2)
    before = part.batch(positions).clone()
    part.batch(positions).add_(1)
    assert torch.equal(part.batch(positions), before)


@pytest.mark.parametrize("split", SPLITS)
def test_order_and_batch_size_do_not_matter(dataset: datasets.Dataset, split: str) -> None:
    part = _split(dataset, split)
    last = len(part) - 1
    together = part.batch(np.array([last, 1, 0]))
    for place, position in enumerate((last, 1, 0)):
        assert torch.equal(part.batch(np.array([position]))[0], together[place])


@pytest.mark.parametrize("split", SPLITS)
def test_two_loads_agree(dataset: datasets.Dataset, name: str, split: str, tmp_path: Path) -> None:
    first, second = _split(dataset, split), _split(_load(name, tmp_path / "elsewhere"), split)
    assert first.fingerprint == second.fingerprint
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.index, second.index)
    assert torch.equal(first.batch(np.arange(3)), second.batch(np.arange(3)))


def test_fingerprint_tells_train_from_test(dataset: datasets.Dataset) -> None:
    prints = [_split(dataset, split).fingerprint for split in SPLITS]
    assert prints[0] != prints[1]
    for fingerprint in prints:
        algorithm, digits = fingerprint.split(":")
        assert algorithm == "sha256"
        assert len(bytes.fromhex(digits)) == 32


@pytest.mark.parametrize("changeable", [name for name in MEMBERS if COPIES.get(name)])
@pytest.mark.parametrize("change", ["pixel", "label"])
@pytest.mark.parametrize("split", SPLITS)
def test_fingerprint_tells_a_changed_copy(changeable: str, split: str, change: str, tmp_path: Path) -> None:
    other = {"train": "test", "test": "train"}[split]
    good, bad = _load(changeable, tmp_path / "good"), _load(changeable, tmp_path / "bad", change, split)
    assert _split(good, split).fingerprint != _split(bad, split).fingerprint
    assert _split(good, other).fingerprint == _split(bad, other).fingerprint


@pytest.mark.parametrize("split", SPLITS)
def test_fingerprint_is_that_of_the_arrays(dataset: datasets.Dataset, split: str) -> None:
    part = _split(dataset, split)
    if not isinstance(part.images, np.ndarray):
        pytest.skip(f"{dataset.name} leaves its images in files")
    assert part.fingerprint == datasets.fingerprint(part.images, part.labels, part.index)


def test_train_and_test_have_no_image_in_common(dataset: datasets.Dataset) -> None:
    contents = []
    for part in (dataset.train(), dataset.test()):
        contents.append({part.images[np.array([i])].tobytes() for i in range(len(part))})
        assert len(contents[-1]) == len(part)
    assert not contents[0] & contents[1]


@pytest.mark.parametrize("split", SPLITS)
def test_subset_is_these_images(dataset: datasets.Dataset, split: str) -> None:
    part = _split(dataset, split)
    positions = np.array([3, 0, 2])
    subset = part.subset(positions)
    assert len(subset) == len(subset.images) == 3
    np.testing.assert_array_equal(subset.labels, part.labels[positions])
    np.testing.assert_array_equal(subset.index, part.index[positions])
    assert torch.equal(subset.batch(np.array([2, 0])), part.batch(np.array([2, 3])))
    assert subset.fingerprint == part.subset(positions).fingerprint
    assert len({part.fingerprint, subset.fingerprint, part.subset(positions[::-1]).fingerprint}) == 3


def test_a_source_that_is_not_there(name: str, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises((ConfigError, DataError), match=r"nowhere.*must be"):
        datasets.load(name, source=missing, options=OPTIONS.get(name))


def test_unknown_option(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: unknown key 'dimensoin'; .*valid: "):
        datasets.load(name, options={"dimensoin": 3})
