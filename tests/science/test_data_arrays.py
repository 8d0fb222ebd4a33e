"""Images of one's own in an .npz, in Parquet files, or in a set that torchvision knows."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision.datasets
from scipy.io import savemat

from certsmooth.errors import ConfigError, DataError
from certsmooth.science import datasets
from certsmooth.science.datasets import _encoded
from factories import (
    REAL_IMAGES,
    Sample,
    idx_bytes,
    image_bytes,
    make_sample,
    needs_images,
    own_sample,
    parquet_bytes,
    write_folder,
    write_idx,
    write_own_npz,
    write_own_parquet,
)


def assert_same(split: datasets.Split, sample: Sample, name: str) -> None:
    np.testing.assert_array_equal(split.images[:], sample.images[name].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(split.labels, sample.labels[name])
    np.testing.assert_array_equal(split.index, np.arange(len(split)))


class TestNpz:
    def test_as_medmnist_has_it(self, tmp_path: Path) -> None:
        sample = own_sample()
        val = {"val_images": sample.images["test"][:3], "val_labels": sample.labels["test"][:3]}
        dataset = datasets.load("npz", source=write_own_npz(tmp_path / "a.npz", sample, **val))
        assert_same(dataset.train(), sample, "train")
        assert_same(dataset.test(), sample, "test")
        assert (dataset.image_shape, dataset.classes) == ((3, 12, 10), tuple("0123456789"))
        assert dataset.description == "10 classes, 30 training images, 20 test images"

    def test_val_where_there_is_no_test(self, tmp_path: Path) -> None:
        sample = own_sample()
        named = {"train": "train", "val": "test"}
        arrays = {f"{name}_images": sample.images[split] for name, split in named.items()}
        arrays |= {f"{name}_labels": sample.labels[split] for name, split in named.items()}
        np.savez_compressed(tmp_path / "a.npz", **arrays)
        assert_same(datasets.load("npz", source=tmp_path / "a.npz").test(), sample, "test")

    @pytest.mark.parametrize("kind", ["U", "S"])
    def test_all_images_with_a_split(self, kind: str, tmp_path: Path) -> None:
        sample = make_sample((5, 4, 1))
        order = np.random.default_rng(0).permutation(50)
        images = np.concatenate([sample.images["train"], sample.images["test"]])[..., 0]
        names = np.concatenate([sample.labels["train"], sample.labels["test"]])
        split = np.array(["train"] * 30 + ["test"] * 20).astype(kind)
        np.savez(
            tmp_path / "a.npz",
            images=images[order],
            labels=np.array(list("cabdefghij"))[names][order],
            split=split[order],
        )
        dataset = datasets.load("npz", source=tmp_path / "a.npz")
        assert (dataset.classes, dataset.image_shape) == (tuple("abcdefghij"), (1, 5, 4))
        for name, part in (("train", dataset.train()), ("test", dataset.test())):
            chosen = order[split[order] == np.array(name).astype(kind)]
            np.testing.assert_array_equal(part.images[:, 0], images[chosen])
            assert ["abcdefghij"[label] for label in part.labels] == ["cabdefghij"[label] for label in names[chosen]]

    def test_classes_are_the_numbers_that_occur(self, tmp_path: Path) -> None:
        sample = own_sample()
        shifted = {split: 7 * labels.astype(np.int64) + 3 for split, labels in sample.labels.items()}
        source = write_own_npz(tmp_path / "a.npz", Sample(sample.images, shifted, sample.index))
        dataset = datasets.load("npz", source=source)
        assert dataset.classes == tuple(str(7 * i + 3) for i in range(10))
        assert_same(dataset.train(), sample, "train")

    @needs_images
    def test_a_real_file(self, tmp_path: Path) -> None:
        with np.load(REAL_IMAGES / "cifar10-test-head.npz", allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
        np.savez(
            tmp_path / "a.npz",
            images=images,
            labels=labels,
            split=np.where(np.arange(len(labels)) < 800, "train", "test"),
        )
        test = datasets.load("npz", source=tmp_path / "a.npz").test()
        theirs = datasets.load("cifar10", source=REAL_IMAGES / "cifar10-test-head.npz").test()
        np.testing.assert_array_equal(test.images, theirs.images_at(np.arange(800, len(labels))))
        with pytest.raises(DataError, match=r"holds images, index, labels; must be an \.npz with train_images"):
            datasets.load("npz", source=REAL_IMAGES / "cifar10-test-head.npz")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"train_images": np.zeros((30, 12, 10, 3), np.uint16)}, r"uint16 .*must be uint8 .*: \(x / 257\)"),
            ({"train_images": np.zeros((30, 12, 10, 3), np.float32)}, r"float32 .*must be uint8 .*: \(255 \* x\)"),
            ({"train_images": np.zeros((30, 3, 12, 10), np.uint8)}, r"train_images is uint8 .*with 1 or 3 channels"),
            ({"train_images": np.zeros((30, 120), np.uint8)}, r"train_images is uint8 \[30, 120\]; must be"),
            ({"train_images": np.zeros((29, 12, 10, 3), np.uint8)}, "29 images, 30 labels"),
            ({"test_images": np.zeros((20, 12, 11, 3), np.uint8)}, "must be of one shape"),
            ({"test_labels": None}, "test_images, but no test_labels"),
            ({"test_images": None, "test_labels": None}, "holds train_images, train_labels; must be an .npz with"),
            ({"train_labels": np.zeros((30, 14), np.uint8)}, r"labels are uint8 \[30, 14\]; must be whole"),
            ({"train_labels": np.zeros(30)}, "labels are float64"),
            ({"train_labels": np.zeros(30, np.uint8), "test_labels": np.zeros(20, np.uint8)}, "one class, '0'"),
            ({"test_labels": np.full(20, 77, np.uint8)}, "class '77' has test images, but no training images"),
            ({"train_labels": np.array([Path("x")] * 30, object)}, "cannot be read .*allow_pickle"),
        ],
    )  # fmt: skip
    def test_arrays_that_are_wrong(self, change: dict[str, np.ndarray | None], message: str, tmp_path: Path) -> None:
        with np.load(write_own_npz(tmp_path / "good.npz", own_sample()), allow_pickle=False) as good:
            arrays = {**good, **change}
        np.savez(tmp_path / "a.npz", **{key: array for key, array in arrays.items() if array is not None})
        with pytest.raises(DataError, match=rf"a\.npz: .*{message}"):
            datasets.load("npz", source=tmp_path / "a.npz").train()

    def test_a_split_that_is_none(self, tmp_path: Path) -> None:
        sample = own_sample()
        for split, message in (
            (np.arange(30), "split is int64"),
            (np.array(["train"] * 29), r"split is <U5 \[29\]"),
            (np.array(["train"] * 30), "split has train; must have train and test"),
            (np.array(["train", "test", "extra"] * 10), "split has extra, test, train; must have"),
        ):
            images, labels = sample.images["train"], sample.labels["train"]
            np.savez(tmp_path / "a.npz", images=images, labels=labels, split=split)
            with pytest.raises(DataError, match=rf"a\.npz: {message}"):
                datasets.load("npz", source=tmp_path / "a.npz")


class TestParquet:
    def test_as_the_hub_has_it(self, tmp_path: Path) -> None:
        sample = own_sample()
        dataset = datasets.load("parquet", source=write_own_parquet(tmp_path, sample))
        assert_same(dataset.train(), sample, "train")
        assert_same(dataset.test(), sample, "test")
        assert (dataset.image_shape, dataset.classes) == ((3, 12, 10), tuple(f"k{i}" for i in range(10)))

    @pytest.mark.parametrize(
        "where",
        ["train.parquet {0}.parquet", "train/0.parquet {0}/0.parquet", "data/train-x.parquet data/{0}-x.parquet"],
    )
    @pytest.mark.parametrize("test", ["test", "validation", "valid", "val"])
    @pytest.mark.parametrize("plain", [True, False])
    def test_places_and_columns(self, where: str, test: str, plain: bool, tmp_path: Path) -> None:
        images = [image_bytes(np.full((4, 4, 3), 10 * i, np.uint8)) for i in range(4)]
        content = parquet_bytes(images, ["b", "a", "b", "c"], plain=plain, columns=("img", "fine_label"))
        write_folder(tmp_path, dict.fromkeys(where.format(test).split(), content))
        dataset = datasets.load(
            "parquet",
            source=tmp_path,
            options={"image": "img", "label": "fine_label", "size": 2, "crop": 2, "colour": "grey"},
        )
        assert (dataset.classes, dataset.image_shape) == (("a", "b", "c"), (1, 2, 2))
        assert dataset.test().images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
        assert dataset.test().labels.tolist() == [1, 0, 1, 2]

    @pytest.mark.parametrize("rows", [1, 7, 30])
    def test_a_large_split_is_the_same_and_stays_in_its_files(
        self, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sample = own_sample()
        source = write_own_parquet(tmp_path, sample)
        images, names = [image_bytes(pixels) for pixels in sample.images["test"]], [f"k{label}" for label in range(10)]
        content = parquet_bytes(images, sample.labels["test"].tolist(), rows=rows, names=names)
        write_folder(tmp_path, {"data/test-00000-of-00001.parquet": content})
        monkeypatch.setattr(_encoded, "IN_MEMORY", 1)
        for name, part in (
            ("train", (large := datasets.load("parquet", source=source)).train()),
            ("test", large.test()),
        ):
            assert not isinstance(part.images, np.ndarray)
            order = np.random.default_rng(0).permutation(len(part))
            order = np.concatenate([order, order[:3]])
            np.testing.assert_array_equal(part.images[order], sample.images[name].transpose(0, 3, 1, 2)[order])

    def test_paths_in_a_table_are_not_opened(self, tmp_path: Path) -> None:
        content = parquet_bytes([None, None], ["a", "b"])
        write_folder(tmp_path, {"train.parquet": content, "test.parquet": content})
        with pytest.raises(
            DataError, match=r"train\.parquet: row 0 holds no image; must hold its bytes, not the path of a file"
        ):
            datasets.load("parquet", source=tmp_path)

    def test_a_shard_that_is_missing(self, tmp_path: Path) -> None:
        source = write_own_parquet(tmp_path, own_sample())
        (tmp_path / "data/train-00000-of-00002.parquet").unlink()
        with pytest.raises(DataError, match=r"data: no train-00000-of-00002\.parquet; all must be there"):
            datasets.load("parquet", source=source)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"train\.parquet: cannot be read .*must be a Parquet file"),
            (b"PAR1" * 10, r"train\.parquet: cannot be read .*must be a Parquet file"),
            (parquet_bytes([b""] * 2, [0, 1], columns=("x", "label")), "0 columns 'image' of x, label, other; give"),
            (parquet_bytes([b""] * 2, [0, 1], columns=("image", "y")), "0 columns 'label' of image, y, other; give"),
            (parquet_bytes([b""] * 2, [0, 1], columns=("x", "image")), "0 columns 'label'|column image is int64"),
            (parquet_bytes([b""] * 2, [0, None]), "row 1: label 'None'; must be a whole number >= 0 or text"),
            (parquet_bytes([b""] * 2, [0.0, 1.0]), "row 0: label '0.0'; must be a whole number >= 0 or text"),
            (parquet_bytes([b""] * 2, ["a", " "]), "row 1: label ' '; must be"),
            (parquet_bytes([b""] * 2, ["a", "b" * 201]), "a label of over 200 characters"),
            (parquet_bytes([b""] * 2, [0, -1], names=["a", "b"]), r"row 1: label '-1'; must be a class, 0 \.\. 1"),
            (parquet_bytes([b""] * 2, [0, 2], names=["a", "b"]), r"row 1: label 2; must be a class, 0 \.\. 1"),
            (parquet_bytes([], []), "no rows; must hold images"),
            (parquet_bytes([b""] * 2, [5, 5]), "one class, '5'"),
            (parquet_bytes([b"", b""], [0, 1]), "row 0: cannot be read .*must be a whole JPEG or PNG image"),
        ],
    )  # fmt: skip
    def test_files_that_are_wrong(self, content: bytes, message: str, tmp_path: Path) -> None:
        write_folder(tmp_path, {"train.parquet": content, "test.parquet": content})
        with pytest.raises(DataError, match=message):
            datasets.load("parquet", source=tmp_path).train()

    def test_splits_that_name_other_classes(self, tmp_path: Path) -> None:
        image = image_bytes(np.zeros((4, 4, 3), np.uint8))
        for split, names in (("train", ["a", "b"]), ("test", ["b", "a"])):
            write_folder(tmp_path, {f"{split}.parquet": parquet_bytes([image] * 2, [0, 1], names=names)})
        with pytest.raises(DataError, match="train and test name different classes; must be the same"):
            datasets.load("parquet", source=tmp_path)

    def test_small_files_that_unpack_to_much_are_refused(self, tmp_path: Path) -> None:
        image = pa.array([bytes(2**20)] * 64, pa.binary())
        table = pa.table({"image": image, "label": list(range(64))})
        pq.write_table(table, tmp_path / "train.parquet", compression="zstd", use_dictionary=False)
        pq.write_table(table, tmp_path / "test.parquet", compression="zstd", use_dictionary=False)
        with pytest.raises(DataError, match=r"train\.parquet: unpacks to over 20 times its size"):
            datasets.load("parquet", source=tmp_path)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def cifar100_files(sample: Sample) -> dict[str, bytes]:
    def batch(split: str) -> bytes:
        pixels = sample.images[split].transpose(0, 3, 1, 2).reshape(len(sample.labels[split]), -1)
        fine = sample.labels[split].tolist()
        names = [f"{i}.png" for i in fine]
        return pickle.dumps(
            {"coarse_labels": [9 - i for i in fine], "filenames": names, "fine_labels": fine, "data": pixels}, 2
        )

    return {split: batch(split) for split in ("train", "test")}


class TestTorchvision:
    @pytest.mark.parametrize("place", ["cifar-100-python/", ""])
    def test_cifar100_is_read_without_unpickling(
        self, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sample = make_sample((32, 32, 3), train=25, test=5)
        files = cifar100_files(sample)
        cls = torchvision.datasets.CIFAR100
        monkeypatch.setattr(cls, "train_list", [["train", md5(files["train"])]])
        monkeypatch.setattr(cls, "test_list", [["test", md5(files["test"])]])
        monkeypatch.setattr(pickle, "load", None)
        monkeypatch.setattr(pickle, "loads", None)
        write_folder(tmp_path, {place + name: content for name, content in files.items()})
        dataset = datasets.load("torchvision", source=tmp_path, options={"name": "CIFAR100"})
        assert (dataset.description, dataset.num_classes) == ("CIFAR-100", 100)
        assert_same(dataset.train(), sample, "train")
        assert_same(dataset.test(), sample, "test")
        (tmp_path / place / "test").write_bytes(files["test"] + b"x")
        with pytest.raises(DataError, match="test: wrong checksum; must have the published md5"):
            dataset.test()

    def test_the_archive_of_cifar100(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sample = make_sample((32, 32, 3), train=25, test=5)
        path = tmp_path / "cifar-100-python.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in cifar100_files(sample).items():
                info = tarfile.TarInfo(f"cifar-100-python/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        cls = torchvision.datasets.CIFAR100
        dataset = datasets.load("torchvision", source=tmp_path, options={"name": "CIFAR100"})
        with pytest.raises(DataError, match=r"cifar-100-python\.tar\.gz: wrong checksum"):
            dataset.train()
        monkeypatch.setattr(cls, "tgz_md5", md5(path.read_bytes()))
        monkeypatch.setattr(cls, "train_list", [["train", md5(cifar100_files(sample)["train"])]])
        assert_same(dataset.train(), sample, "train")
        with pytest.raises(DataError, match="test: wrong checksum"):
            dataset.test()

    def test_svhn(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sample = make_sample((32, 32, 3))
        known = {}
        for split in ("train", "test"):
            labels = np.where(sample.labels[split] == 0, 10, sample.labels[split]).astype(np.uint8)
            savemat(
                tmp_path / f"{split}_32x32.mat", {"X": sample.images[split].transpose(1, 2, 3, 0), "y": labels[:, None]}
            )
            known[split] = [
                "http://nowhere.invalid/x",
                f"{split}_32x32.mat",
                md5((tmp_path / f"{split}_32x32.mat").read_bytes()),
            ]
        dataset = datasets.load("torchvision", source=tmp_path, options={"name": "SVHN"})
        with pytest.raises(DataError, match=r"train_32x32\.mat: wrong checksum"):
            dataset.train()
        monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", known)
        assert_same(dataset.train(), sample, "train")
        assert_same(dataset.test(), sample, "test")

    @pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
    @pytest.mark.parametrize("place", ["", "{0}/raw"])
    def test_idx_families(self, name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sample = make_sample((28, 28, 1))
        folder = write_idx(tmp_path / place.format(name), sample)
        load = lambda: datasets.load("torchvision", source=tmp_path, options={"name": name})  # noqa: E731
        title = {"FashionMNIST": "Fashion-MNIST"}.get(name, name)
        assert load().description == f"data in {title}'s format, 30 training images, 20 test images"
        assert_same(load().train(), sample, "train")
        known = [(path.name, md5(path.read_bytes())) for path in folder.iterdir()]
        monkeypatch.setattr(getattr(torchvision.datasets, name), "resources", known)
        assert load().description == f"{title}, local copy, 30 training images, 20 test images"

    @pytest.mark.parametrize(
        ("split", "classes", "first"), [("letters", 26, 1), ("digits", 10, 0), ("balanced", 47, 0)]
    )
    @pytest.mark.parametrize("zipped", [True, False])
    def test_emnist(
        self, split: str, classes: int, first: int, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sample = make_sample((28, 28, 1))
        folder = write_idx(tmp_path, sample, packed=True)
        for path in list(folder.iterdir()):
            old, _, rest = path.name.partition("-")
            new = path.with_name(f"emnist-{split}-{'train' if old == 'train' else 'test'}-{rest}")
            path.rename(new)
            if "labels" in rest:
                labels = sample.labels["train" if old == "train" else "test"] + first
                new.write_bytes(gzip.compress(idx_bytes(labels)))
        if zipped:
            with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as archive:
                for path in list(tmp_path.glob("emnist-*")):
                    archive.write(path, f"gzip/{path.name}")
                    path.unlink()
            monkeypatch.setattr(torchvision.datasets.EMNIST, "md5", md5((tmp_path / "gzip.zip").read_bytes()))
        dataset = datasets.load("torchvision", source=tmp_path, options={"name": "EMNIST", "split": split})
        assert (dataset.num_classes, dataset.image_shape) == (classes, (1, 28, 28))
        assert_same(dataset.train(), sample, "train")
        assert_same(dataset.test(), sample, "test")

    @pytest.mark.parametrize("name", ["CIFAR100", "EMNIST", "FashionMNIST", "KMNIST", "SVHN"])
    def test_nothing_is_downloaded_before_a_split_is_asked_for(self, name: str, tmp_path: Path) -> None:
        options = {"name": name, **({"split": "balanced"} if name == "EMNIST" else {})}
        dataset = datasets.load("torchvision", options=options, download=tmp_path)
        assert dataset.image_shape in ((1, 28, 28), (3, 32, 32))
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(DataError, match=rf"must be a folder of the files of {name}"):
            datasets.load("torchvision", source=tmp_path, options=options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "missing key 'name'"),
            ({"name": "ImageNet"}, "name: .*'ImageNet'.*CIFAR100, EMNIST, FashionMNIST, KMNIST, SVHN"),
            ({"name": "EMNIST"}, "split: None of EMNIST; must be one of byclass, bymerge, balanced"),
            ({"name": "EMNIST", "split": "all"}, "split: .*'all'"),
            ({"name": "SVHN", "split": "digits"}, "split: 'digits' of SVHN; must be null"),
        ],
    )
    def test_mistakes_are_named(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=rf"^torchvision: .*{message}"):
            datasets.load("torchvision", options=options)

    def test_the_sets_are_those_of_torchvision(self) -> None:
        """What is read of its classes is there, and EMNIST's splits are all of it."""
        from certsmooth.science.datasets.torchvision import _SIZES

        cls = torchvision.datasets.EMNIST
        assert tuple(_SIZES) == cls.splits
        counts = {split: len([c for c in classes if c != "N/A"]) for split, classes in cls.classes_split_dict.items()}
        assert {split: classes for split, (_, classes) in _SIZES.items()} == counts
        assert json.dumps(torchvision.datasets.SVHN.split_list["train"])
