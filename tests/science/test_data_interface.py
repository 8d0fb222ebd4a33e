"""Split, subset, validation split and options: what does not depend on a data set."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certsmooth.errors import ConfigError, DataError
from certsmooth.science import datasets
from certsmooth.science.datasets import array_split, join
from certsmooth.science.datasets._unlabelled import read_unlabelled
from factories import LazyImages


def _images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 2, 3), dtype=np.uint8)


def _split(labels: list[int]) -> datasets.Split:
    return datasets.array_split(_images(len(labels)), np.array(labels), name="a", num_classes=max(labels) + 1)


def _numbered(n: int) -> LazyImages:
    return LazyImages(np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(4, axis=1).reshape(n, 1, 2, 2))


class TestArraySplit:
    def test_fingerprint_from_the_definition(self) -> None:
        images, labels = _images(3), np.array([1, 0, 1])
        digest = hashlib.sha256()
        digest.update(b"|u1(3, 1, 2, 3);" + images.tobytes())
        digest.update(b"<i8(3,);" + labels.astype("<i8").tobytes())
        digest.update(b"<i8(3,);" + np.arange(3).astype("<i8").tobytes())
        split = datasets.array_split(images, labels, name="a", num_classes=2)
        assert split.fingerprint == f"sha256:{digest.hexdigest()}"

    @settings(deadline=None)
    @given(st.integers(0, 2), st.integers(0, 100))
    def test_any_change_changes_the_fingerprint(self, which: int, place: int) -> None:
        arrays = [_images(4), np.array([0, 1, 2, 3]), np.array([5, 6, 7, 8])]
        before = datasets.fingerprint(*arrays)
        flat = arrays[which].reshape(-1)
        flat[place % len(flat)] += 1
        assert datasets.fingerprint(*arrays) != before

    def test_the_same_bytes_in_another_shape_or_type_differ(self) -> None:
        images, labels, index = _images(4), np.arange(4), np.arange(4)
        prints = {
            datasets.fingerprint(images, labels, index),
            datasets.fingerprint(images.reshape(4, 1, 3, 2), labels, index),
            datasets.fingerprint(images.view(np.int8), labels, index),
            datasets.fingerprint(images, labels.astype(np.int64).view(np.uint64), index),
        }
        assert len(prints) == 4

    def test_not_contiguous_is_the_same_content(self) -> None:
        images = _images(4)
        backwards = np.asfortranarray(images)
        assert datasets.fingerprint(images, np.arange(4), np.arange(4)) == datasets.fingerprint(
            backwards, np.arange(4), np.arange(4)
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"labels": np.arange(3)}, "4 images, 3 labels, 3 indices; must be equal"),
            ({"index": np.arange(5)}, "4 images, 4 labels, 5 indices; must be equal"),
            ({"images": _images(0), "labels": np.arange(0)}, "no images"),
            ({"labels": np.array([0, 1, 2, 4])}, r"labels from 0 to 4; must be in 0 \.\. 3"),
            ({"labels": np.array([0, 1, 2, -1])}, r"labels from -1 to 2; must be in 0 \.\. 3"),
            ({"index": np.array([0, 1, 2, 2])}, "occurs twice"),
            ({"index": np.array([0, 1, 2, -1])}, "negative"),
            ({"images": _images(4).astype(np.float32)}, r"must be in \(0.0, 1.0\)"),
            ({"images": np.full((4, 1), -1e-6, np.float32)}, r"pixels from -1e-06 .*must be in \(0.0, 1.0\)"),
            ({"images": np.full((4, 1), np.nan, np.float32)}, "not finite"),
            ({"images": np.full((4, 1), np.inf, np.float32), "pixel_range": None}, "not finite"),
            ({"images": np.zeros((4, 1))}, "float64; must be uint8 or float32"),
        ],
    )
    def test_refuses(self, change: dict[str, object], message: str) -> None:
        arguments = {
            "images": _images(4),
            "labels": np.arange(4),
            "name": "toy test",
            "num_classes": 4,
            **change,
        }
        with pytest.raises(DataError, match=rf"toy test: .*{message}"):
            datasets.array_split(**arguments)

    def test_toy_data_have_no_range(self) -> None:
        images = np.array([[-7.0], [9.0]], dtype=np.float32)
        split = datasets.array_split(images, np.array([0, 1]), name="toy", num_classes=2, pixel_range=None)
        np.testing.assert_array_equal(split.batch(np.array([1, 0])).numpy(), images[::-1])


class TestSubset:
    def test_images_in_files_are_not_read_before_they_are_asked_for(self) -> None:
        files = _numbered(10)
        split = datasets.Split(files, np.arange(10) % 2, np.arange(10) * 7, "sha256:00")
        subset = split.subset(np.array([9, 4, 5])).subset(np.array([2, 0]))
        assert files.reads == []
        np.testing.assert_array_equal(subset.images[np.array([1, 0, 1])][:, 0, 0, 0], [9, 5, 9])
        np.testing.assert_array_equal(subset.index, [35, 63])
        assert files.reads == [3]

    def test_fingerprint_from_the_definition(self) -> None:
        split = datasets.Split(_numbered(3), np.zeros(3, np.int64), np.array([4, 5, 6]), "sha256:ab")
        expected = hashlib.sha256(b"subset of sha256:ab;" + np.array([6, 4], dtype="<i8").tobytes())
        assert split.subset(np.array([2, 0])).fingerprint == f"sha256:{expected.hexdigest()}"

    def test_does_not_share_memory(self) -> None:
        split = _split([0, 1, 0, 1])
        subset = split.subset(np.arange(4))
        assert isinstance(subset.images, np.ndarray)
        assert not np.shares_memory(subset.images, split.images)

    @pytest.mark.parametrize(
        "positions",
        [[], [4], [-1], [1, 1], [[0, 1]], [0.0, 1.0], [True, False, True, False]],
    )
    def test_refuses(self, positions: list[object]) -> None:
        with pytest.raises(ConfigError, match=r"^positions: .*must be"):
            _split([0, 1, 0, 1]).subset(np.array(positions))


class TestSplitValidation:
    @settings(deadline=None)
    @given(
        counts=st.lists(st.integers(5, 30), min_size=1, max_size=5),
        fraction=st.floats(0.2, 0.6),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_divides_each_class(self, counts: list[int], fraction: float, seed: int) -> None:
        split = _split(np.repeat(np.arange(len(counts)), counts).tolist())
        training, validation = datasets.split_validation(split, fraction=fraction, seed=seed)
        assert sorted([*training.index, *validation.index]) == list(range(len(split)))
        assert len(validation) == np.ceil(fraction * len(split))
        for label, count in enumerate(counts):
            assert abs((validation.labels == label).sum() - fraction * count) < 2
            assert (training.labels == label).any()
        for part in (training, validation):
            np.testing.assert_array_equal(part.index, np.sort(part.index))
            np.testing.assert_array_equal(part.images, split.images[part.index])
            np.testing.assert_array_equal(part.labels, split.labels[part.index])
        assert len({split.fingerprint, training.fingerprint, validation.fingerprint}) == 3

    def test_depends_on_the_seed_only(self) -> None:
        split = _split([0, 1, 2, 3] * 25)
        once, again, other = (datasets.split_validation(split, fraction=0.3, seed=s)[1] for s in (7, 7, 8))
        assert once.fingerprint == again.fingerprint != other.fingerprint
        assert once.index.tolist() == again.index.tolist() != other.index.tolist()

    def test_is_the_same_with_every_version_of_the_libraries(self) -> None:
        _, validation = datasets.split_validation(_split([0, 1, 2, 3] * 5), fraction=0.25, seed=0)
        assert validation.index.tolist() == PINNED_VALIDATION

    def test_images_stay_in_their_files(self) -> None:
        files = _numbered(20)
        split = datasets.Split(files, np.arange(20) % 2, np.arange(20), "sha256:00")
        datasets.split_validation(split, fraction=0.5, seed=0)
        assert files.reads == []

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
    def test_refuses_a_fraction_outside_the_interval(self, fraction: float) -> None:
        with pytest.raises(ConfigError, match=r"validation fraction: .*must be a finite number > 0 and < 1"):
            datasets.split_validation(_split([0, 1] * 10), fraction=fraction, seed=0)

    @pytest.mark.parametrize("seed", [-1, 2**32])
    def test_refuses_a_seed_outside_the_range(self, seed: int) -> None:
        with pytest.raises(ConfigError, match=rf"validation seed: {seed}; must be .*at (least 0|most 4294967295)$"):
            datasets.split_validation(_split([0, 1] * 10), fraction=0.5, seed=seed)

    @pytest.mark.parametrize(
        ("labels", "fraction"),
        [([0, 1] * 10, 0.04), ([0, 1] * 10, 0.96), ([0] * 20 + [1], 0.5), ([0] * 1000 + [1, 1], 0.01)],
    )
    def test_refuses_a_part_without_a_class(self, labels: list[int], fraction: float) -> None:
        with pytest.raises(ConfigError, match=r"validation fraction = .*must each get an image of each class"):
            datasets.split_validation(_split(labels), fraction=fraction, seed=0)


class TestOptions:
    def test_become_the_members_options(self) -> None:
        dataset = datasets.load("cones", options={"dimension": 5, "half_angle": 1, "train_per_class": 7})
        assert dataset.image_shape == (5,)
        assert len(dataset.train()) == 14

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("cones", {"dimensions": 3}, "cones: unknown key 'dimensions'; did you mean 'dimension'?"),
            ("digits", {"dimension": 3}, r"digits: unknown key 'dimension'; valid: \(none\)"),
            ("cones", {"dimension": 2.0}, "cones: dimension: 2.0; must be a whole number: 2"),
            ("cones", {"dimension": True}, "cones: dimension: True; must be a whole number"),
            ("cones", {"half_angle": "1"}, "cones: half_angle: '1'; must be a finite number > 0 and < 1.5708: 1.0"),
            ("cones", {"half_angle": (0.1, 0.2)}, r"cones: half_angle: \(0.1, 0.2\); must be a finite number"),
            ("cones", {"dimension": 1}, "cones: dimension: 1; must be a whole number, at least 2"),
            ("cone", {}, "datasets: unknown name 'cone'; did you mean 'cones'?"),
        ],
    )
    def test_refuses(self, name: str, options: dict[str, object], message: str) -> None:
        for refuse in (lambda: datasets.load(name, options=options), lambda: datasets.member(name, options)):
            with pytest.raises(ConfigError, match=f"^{message}"):
                refuse()

    @pytest.mark.parametrize("name", ["digits", "imagenet", "cones"])
    def test_no_options_are_good_options(self, name: str) -> None:
        datasets.member(name, {})


PINNED_VALIDATION = [2, 3, 9, 12, 16]


@given(st.integers(1, 9), st.integers(1, 9), st.randoms())
def test_joined_splits_are_one_after_the_other_in_memory_or_not(first, second, random):
    def split(n, low):
        images = np.arange(low, low + 4 * n, dtype=np.uint8).reshape(n, 1, 2, 2)
        return array_split(images, np.arange(n) % 3, name="x", num_classes=3, index=np.arange(n) * 2)

    one, other = split(first, 0), split(second, 100)
    joined = join(one, other)
    np.testing.assert_array_equal(joined.images, np.concatenate([one.images, other.images]))
    np.testing.assert_array_equal(joined.labels, np.concatenate([one.labels, other.labels]))
    assert len(set(joined.index)) == len(joined) == first + second
    lazy = join(one, dataclasses.replace(other, images=LazyImages(other.images)))
    assert not isinstance(lazy.images, np.ndarray)
    order = np.array(random.sample(range(first + second), first + second))
    np.testing.assert_array_equal(lazy.images[order], joined.images[order])
    assert lazy.fingerprint == joined.fingerprint != join(other, one).fingerprint


def test_images_of_different_shapes_or_types_are_not_joined():
    def split(shape, dtype):
        return array_split(np.zeros((2, *shape), dtype), np.array([0, 1]), name="x", num_classes=2)

    for shape, dtype in (((1, 2, 3), np.uint8), ((1, 2, 2), np.float32)):
        with pytest.raises(DataError, match="must be of one type and shape"):
            join(split((1, 2, 2), np.uint8), split(shape, dtype))


def test_unlabelled_images_are_read_in_either_layout(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    np.savez(tmp_path / "first.npz", images=images)
    np.savez(tmp_path / "last.npz", images=np.moveaxis(images, 1, 3), labels=np.zeros(5))
    for name in ("first.npz", "last.npz"):
        found, digest = read_unlabelled(tmp_path / name, image_shape=(3, 4, 6))
        np.testing.assert_array_equal(found, images)
        assert digest == f"sha256:{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((5, 3, 4, 5), np.uint8)}, ["[3, 4, 5]", "[3, 4, 6]"]),
        ({"images": np.zeros((5, 3, 4, 6), np.float32)}, ["float32", "uint8"]),
        ({"images": np.zeros((5, 24), np.uint8)}, ["[5, 24]"]),
        ({"images": np.zeros((0, 3, 4, 6), np.uint8)}, ["[0, 3, 4, 6]"]),
        ({"image": np.zeros((5, 3, 4, 6), np.uint8)}, ["cannot be read", "images"]),
        ({"images": np.array([{}], object)}, ["cannot be read"]),
    ],
)
def test_unlabelled_images_of_another_form_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "u.npz", **arrays)
    with pytest.raises(DataError) as caught:
        read_unlabelled(tmp_path / "u.npz", image_shape=(3, 4, 6))
    for word in (str(tmp_path / "u.npz"), *words):
        assert word in str(caught.value)


def test_missing_or_damaged_unlabelled_images_are_named(tmp_path):
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    for name in ("absent.npz", "damaged.npz"):
        with pytest.raises(DataError, match=name):
            read_unlabelled(tmp_path / name, image_shape=(3, 4, 6))
