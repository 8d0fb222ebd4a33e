"""MNIST and CIFAR-10 from copies and downloads: each form gives the same data, each damage is named."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import shutil
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.datasets import CIFAR10, MNIST

from certsmooth.errors import DataError
from certsmooth.science import datasets
from certsmooth.science.datasets import cifar10, mnist
from factories import (
    REAL_IMAGES,
    Sample,
    batches,
    idx_bytes,
    image_bytes,
    make_sample,
    needs_images,
    numbered_files,
    python_files,
    write_binary,
    write_folder,
    write_idx,
    write_npz,
    write_tar,
)

SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _assert_same(split: datasets.Split, sample: Sample, name: str) -> None:
    np.testing.assert_array_equal(split.images, sample.images[name].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(split.labels, sample.labels[name])
    np.testing.assert_array_equal(split.index, sample.index[name])


@pytest.fixture(params=sorted(SHAPES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def sample(name: str) -> Sample:
    return make_sample(SHAPES[name])


@pytest.fixture
def cifar_sample(monkeypatch: pytest.MonkeyPatch) -> Sample:
    """Six batches of five images, and a loader that takes these for the published size and checksums."""
    sample = make_sample(SHAPES["cifar10"], train=25, test=5)
    published = {name: _md5(content) for name, content in python_files(sample).items()}
    monkeypatch.setattr(cifar10, "_BATCH_IMAGES", 5)
    monkeypatch.setattr(CIFAR10, "train_list", [[n, published[n]] for n, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [[n, published[n]] for n, _ in CIFAR10.test_list])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": published["batches.meta"]})
    return sample


class TestForms:
    @pytest.mark.parametrize("suffix", [".tar", ".tar.xz"])
    @pytest.mark.parametrize("prefix", ["", "./", "copy/"])
    @pytest.mark.parametrize("labels_first", [True, False])
    def test_archive(
        self, name: str, sample: Sample, suffix: str, prefix: str, labels_first: bool, tmp_path: Path
    ) -> None:
        files = numbered_files(sample)
        if labels_first:
            files = {"labels.csv": files["labels.csv"], **files}
        dataset = datasets.load(name, source=write_tar(tmp_path / f"copy{suffix}", files, prefix=prefix))
        _assert_same(dataset.train(), sample, "train")
        _assert_same(dataset.test(), sample, "test")

    def test_folder(self, name: str, sample: Sample, tmp_path: Path) -> None:
        dataset = datasets.load(name, source=write_folder(tmp_path, numbered_files(sample)))
        _assert_same(dataset.train(), sample, "train")
        _assert_same(dataset.test(), sample, "test")

    def test_npz_has_test_images_only(self, name: str, sample: Sample, tmp_path: Path) -> None:
        sample = replace(sample, index={**sample.index, "test": sample.index["test"] * 3 + 7})
        dataset = datasets.load(name, source=write_npz(tmp_path / "copy.npz", sample))
        _assert_same(dataset.test(), sample, "test")
        with pytest.raises(DataError, match=r"copy\.npz: an \.npz holds test images only"):
            dataset.train()

    @pytest.mark.parametrize("packed", [True, False])
    def test_idx(self, packed: bool, tmp_path: Path) -> None:
        sample = make_sample(SHAPES["mnist"])
        dataset = datasets.load("mnist", source=write_idx(tmp_path, sample, packed=packed))
        _assert_same(dataset.train(), sample, "train")
        _assert_same(dataset.test(), sample, "test")

    def test_binary_batches(self, cifar_sample: Sample, tmp_path: Path) -> None:
        dataset = datasets.load("cifar10", source=write_binary(tmp_path, cifar_sample))
        _assert_same(dataset.train(), cifar_sample, "train")
        _assert_same(dataset.test(), cifar_sample, "test")

    def test_python_batches(self, cifar_sample: Sample, tmp_path: Path) -> None:
        dataset = datasets.load("cifar10", source=write_folder(tmp_path, python_files(cifar_sample)))
        _assert_same(dataset.train(), cifar_sample, "train")
        _assert_same(dataset.test(), cifar_sample, "test")

    def test_binary_batches_are_preferred(self, cifar_sample: Sample, tmp_path: Path) -> None:
        write_binary(tmp_path, cifar_sample)
        write_folder(tmp_path, dict.fromkeys(python_files(cifar_sample), b"wrong"))
        _assert_same(datasets.load("cifar10", source=tmp_path).test(), cifar_sample, "test")

    def test_the_same_images_have_the_same_fingerprint_in_every_form(
        self, cifar_sample: Sample, tmp_path: Path
    ) -> None:
        sources = [
            write_binary(tmp_path / "binary", cifar_sample),
            write_folder(tmp_path / "python", python_files(cifar_sample)),
            write_folder(tmp_path / "folder", numbered_files(cifar_sample)),
            write_tar(tmp_path / "copy.tar.xz", numbered_files(cifar_sample)),
            write_npz(tmp_path / "copy.npz", cifar_sample),
        ]
        prints = {datasets.load("cifar10", source=source).test().fingerprint for source in sources}
        assert len(prints) == 1

    def test_jpeg_is_decoded(self, name: str, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        grey = np.broadcast_to(rng.integers(0, 256, (20, 1, 1, 1), dtype=np.uint8), (20, *SHAPES[name]))
        sample = make_sample(SHAPES[name], train=20)
        sample = replace(sample, images={"train": grey, "test": grey})
        dataset = datasets.load(name, source=write_folder(tmp_path, numbered_files(sample, kind="JPEG")))
        difference = dataset.test().images.astype(int) - grey.transpose(0, 3, 1, 2)
        assert np.abs(difference).max() <= 2

    def test_only_the_split_asked_for_is_decoded(self, name: str, sample: Sample, tmp_path: Path) -> None:
        files = numbered_files(sample)
        files["train/00004.png"] = b"not an image"
        dataset = datasets.load(name, source=write_tar(tmp_path / "copy.tar", files))
        _assert_same(dataset.test(), sample, "test")
        with pytest.raises(DataError, match=r"copy\.tar: copy/train/00004\.png: cannot be read"):
            dataset.train()

    def test_numbers_are_the_index_and_may_have_gaps(self, name: str, sample: Sample, tmp_path: Path) -> None:
        sample = replace(sample, index={s: sample.index[s] * 20 for s in sample.index})
        dataset = datasets.load(name, source=write_folder(tmp_path, numbered_files(sample)))
        _assert_same(dataset.test(), sample, "test")


class TestDescriptions:
    @pytest.mark.parametrize(("kind", "note"), [("PNG", "PNG files"), ("JPEG", "JPEG files")])
    def test_numbered_images(self, kind: str, note: str, tmp_path: Path) -> None:
        files = numbered_files(make_sample(SHAPES["cifar10"]), kind=kind)
        dataset = datasets.load("cifar10", source=write_tar(tmp_path / "a.tar", files))
        assert dataset.description == f"data in CIFAR-10's format, {note}, 30 training images, 20 test images"

    def test_idx(self, tmp_path: Path) -> None:
        sample = make_sample(SHAPES["mnist"])
        both = datasets.load("mnist", source=write_idx(tmp_path / "both", sample))
        assert both.description == "data in MNIST's format, 30 training images, 20 test images"
        test = datasets.load("mnist", source=write_idx(tmp_path / "test", sample, splits=("test",)))
        assert test.description == "data in MNIST's format, no training images, 20 test images"

    @pytest.mark.parametrize("changed", [None, "train-images-idx3", "t10k-labels-idx1"])
    @pytest.mark.parametrize("packed", [True, False])
    def test_mnist_is_what_has_its_bytes(
        self, changed: str | None, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fashion-MNIST and KMNIST have the names and the shapes of MNIST's files, not their content."""
        folder = write_idx(tmp_path, make_sample(SHAPES["mnist"]), packed=False)
        published = {path.name: _md5(path.read_bytes()) for path in folder.iterdir()}
        assert published.keys() == mnist._MD5.keys()
        monkeypatch.setattr(mnist, "_MD5", published)
        monkeypatch.setattr(mnist, "PUBLISHED", replace(mnist.PUBLISHED, sizes=(30, 20)))
        for path in list(folder.iterdir()):
            content = bytearray(path.read_bytes())
            content[-1] ^= path.name == f"{changed}-ubyte"
            if packed:
                path.unlink()
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
            else:
                path.write_bytes(content)
        description = datasets.load("mnist", source=folder).description
        assert description == ("MNIST, local copy" if changed is None else "data in MNIST's format")

    @needs_images
    def test_the_published_test_set_is_known(self, tmp_path: Path) -> None:
        for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
            packed = REAL_IMAGES / "mnist" / f"{name}.gz"
            assert _md5(packed.read_bytes()) == dict(MNIST.resources)[packed.name]
            (tmp_path / name).write_bytes(gzip.decompress(packed.read_bytes()))
        test = datasets.load("mnist", source=tmp_path)
        assert test.description == "MNIST, local copy, no training images"
        shutil.copytree(REAL_IMAGES / "mnist", tmp_path / "packed", ignore=shutil.ignore_patterns("train*"))
        assert datasets.load("mnist", source=tmp_path / "packed").description == test.description

    def test_an_npz(self, tmp_path: Path) -> None:
        dataset = datasets.load("cifar10", source=write_npz(tmp_path / "a.npz", make_sample(SHAPES["cifar10"])))
        assert dataset.description == "data in CIFAR-10's format, no training images, 20 test images"

    def test_batches_and_downloads(self, cifar_sample: Sample, tmp_path: Path) -> None:
        binary = datasets.load("cifar10", source=write_binary(tmp_path / "binary", cifar_sample))
        assert binary.description == "data in CIFAR-10's format, binary batches"
        python = datasets.load("cifar10", source=write_folder(tmp_path / "python", python_files(cifar_sample)))
        assert python.description == "CIFAR-10"
        assert datasets.load("mnist", download=tmp_path).description == "MNIST"


class TestDamage:
    def test_unknown_form_names_those_that_are_read(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("hello")
        for source in (tmp_path, tmp_path / "notes.txt"):
            with pytest.raises(DataError, match=r"not one of the forms .*labels\.csv.*\.npz"):
                datasets.load(name, source=source)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"labels.csv": b"split,label,index\n"},
                r"labels\.csv: columns split,label,index; must be split,index,label",
            ),
            ({"labels.csv": b""}, r"labels\.csv: columns ; must be split,index,label"),
            ({"labels.csv": b"\xff\xfe"}, r"labels\.csv: cannot be read \(UnicodeDecodeError"),
            (
                {"labels.csv": b"split,index,label\ntest,0,1\nvalid,1,1\n"},
                r"labels\.csv: line 3: \['valid', '1', '1'\]",
            ),
            (
                {"labels.csv": b"split,index,label\ntest,0,-1\n"},
                r"labels\.csv: line 2: .*must be train or test",
            ),
            ({"labels.csv": b"split,index,label\ntest,0\n"}, r"labels\.csv: line 2: .*must be train or test"),
            (
                {"labels.csv": b"split,index,label\ntest,0,1\ntest,0,2\n"},
                r"line 3: test image 0 for the second time",
            ),
            ({"labels.csv": b"split,index,label\ntrain,0,1\n"}, "labels.csv lists no image of this split"),
            (
                {"labels.csv": b"split,index,label\ntest,0,1\n"},
                "test: number 1 has a file, but no line in labels.csv",
            ),
            ({"labels.csv": None}, r"no labels\.csv|not one of the forms"),
            ({"test/00003.png": None}, "test: number 3 has an image in labels.csv, but no file"),
            ({"test/3.png": image_bytes(np.zeros((2, 2, 1), np.uint8))}, "a second image 3"),
            ({"test/00003.png": b""}, r"test/00003\.png: cannot be read"),
            (
                {"test/00003.png": image_bytes(np.zeros((32, 31, 3), np.uint8))},
                r"test/00003\.png: RGB image of size \(31, 32\); must be ",
            ),
            (
                {"test/00003.png": image_bytes(np.zeros((32, 32, 4), np.uint8))},
                r"test/00003\.png: RGBA image of size \(32, 32\); must be ",
            ),
            (
                {"test/00003.png": image_bytes(np.zeros((32, 32, 3), np.uint8), "GIF")},
                "must be a whole JPEG or PNG",
            ),
        ],
    )
    @pytest.mark.parametrize("packed", [True, False])
    def test_numbered_images(
        self,
        name: str,
        sample: Sample,
        change: dict[str, bytes | None],
        message: str,
        packed: bool,
        tmp_path: Path,
    ) -> None:
        files = {**numbered_files(sample), **change}
        there = {key: content for key, content in files.items() if content is not None}
        source = write_tar(tmp_path / "a.tar", there) if packed else write_folder(tmp_path, there)
        with pytest.raises(DataError, match=message):
            datasets.load(name, source=source).test()

    def test_label_of_no_class(self, name: str, sample: Sample, tmp_path: Path) -> None:
        labels = {**sample.labels, "test": sample.labels["test"] + 1}
        source = write_folder(tmp_path, numbered_files(replace(sample, labels=labels)))
        with pytest.raises(DataError, match=r"test: labels from 1 to 10; must be in 0 \.\. 9"):
            datasets.load(name, source=source).test()

    def test_archive_members_are_only_names(self, name: str, sample: Sample, tmp_path: Path) -> None:
        """Hostile names, links and devices: nothing is written, nothing outside is read."""
        secret = tmp_path / "secret.png"
        secret.write_bytes(numbered_files(sample)["test/00000.png"])
        path = tmp_path / "in" / "a.tar"
        path.parent.mkdir()
        with tarfile.open(path, "w") as archive:
            for member, content in numbered_files(sample).items():
                if member == "test/00000.png":
                    info = tarfile.TarInfo(member)
                    info.type, info.linkname = tarfile.SYMTYPE, str(secret)
                    archive.addfile(info)
                else:
                    info = tarfile.TarInfo(f"../../{member}" if member.startswith("train") else f"/{member}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        before = sorted(tmp_path.rglob("*"))
        dataset = datasets.load(name, source=path)
        _assert_same(dataset.train(), sample, "train")
        with pytest.raises(DataError, match=r"test: number 0 has an image in labels\.csv, but no file"):
            dataset.test()
        assert sorted(tmp_path.rglob("*")) == before

    def test_archive_that_announces_too_much(self, name: str, tmp_path: Path) -> None:
        info = tarfile.TarInfo("labels.csv")
        info.size = 2**50
        path = tmp_path / "a.tar"
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        with pytest.raises(DataError, match=rf"a\.tar: labels\.csv: {2**50} bytes; must be at most"):
            datasets.load(name, source=path)

    def test_npz(self, name: str, sample: Sample, tmp_path: Path) -> None:
        images, labels, index = (a["test"] for a in (sample.images, sample.labels, sample.index))
        images = images[..., 0] if name == "mnist" else images
        good = {"images": images, "labels": labels, "index": index}
        for change, message in (
            ({"images": images / 255}, r"images are float64 .*must be uint8"),
            ({"images": images[:, :-1]}, r"images are uint8 .*must be uint8"),
            ({"labels": labels[:-1]}, r"labels uint8 \(19,\); must be integers \(20,\)"),
            ({"labels": labels / 2}, r"labels float64 \(20,\); must be integers"),
            ({"index": np.zeros_like(index)}, "an index is negative or occurs twice"),
            ({"labels": labels + 10}, r"labels from 10 to 19; must be in 0 \.\. 9"),
            ({"labels": np.array([Bomb(tmp_path / "fallen")] * 20)}, "cannot be read .*allow_pickle"),
        ):
            np.savez(tmp_path / "a.npz", **{**good, **change})
            with pytest.raises(DataError, match=rf"a\.npz: {message}"):
                datasets.load(name, source=tmp_path / "a.npz").test()
        np.savez(tmp_path / "a.npz", images=images, labels=labels)
        with pytest.raises(
            DataError, match=r"a\.npz: cannot be read .*0 arrays.*must be an \.npz with the arrays images"
        ):
            datasets.load(name, source=tmp_path / "a.npz")
        assert not (tmp_path / "fallen").exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "magic number 0x; must be 0x00000803"),
            (b"\0\0\x08\x01" + bytes(100), "magic number 0x00000801; must be 0x00000803"),
            (b"\0\0\x0d\x03" + bytes(100), "magic number 0x00000d03; must be 0x00000803"),
            (b"\0\0\x08\x03\0\0", "cannot be read"),
            (idx_bytes(np.zeros((20, 28, 28), np.uint8))[:-1], "15679 bytes after the header"),
            (idx_bytes(np.zeros((20, 28, 28), np.uint8)) + b"\0", "15681 bytes after the header"),
            (idx_bytes(np.zeros((20, 28, 27), np.uint8)), r"images of shape \(28, 27\); must be \(28, 28\)"),
            (idx_bytes(np.zeros((19, 28, 28), np.uint8)), "19 images, 20 labels"),
            (b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 28, 28), "bytes; must be at most"),
        ],
    )
    @pytest.mark.parametrize("packed", [True, False])
    def test_idx(self, content: bytes, message: str, packed: bool, tmp_path: Path) -> None:
        write_idx(tmp_path, make_sample(SHAPES["mnist"]), packed=packed)
        path = tmp_path / f"t10k-images-idx3-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
        with pytest.raises(DataError, match=rf"t10k-images-idx3-ubyte.*{message}"):
            datasets.load("mnist", source=tmp_path).test()

    def test_idx_files_come_in_pairs(self, tmp_path: Path) -> None:
        write_idx(tmp_path, make_sample(SHAPES["mnist"]))
        (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: must be with the labels file"):
            datasets.load("mnist", source=tmp_path)

    def test_idx_split_that_is_not_there(self, tmp_path: Path) -> None:
        write_idx(tmp_path, make_sample(SHAPES["mnist"]), splits=("test",))
        with pytest.raises(DataError, match="no train-images-idx3-ubyte, so no train images"):
            datasets.load("mnist", source=tmp_path).train()

    def test_binary_batches(self, cifar_sample: Sample, tmp_path: Path) -> None:
        write_binary(tmp_path, cifar_sample)
        batch = tmp_path / "data_batch_3.bin"
        content = batch.read_bytes()
        for wrong, message in (
            (content[:-3073], "12292 bytes; must be 15365"),
            (b"\x0a" + content[1:], "label 10;"),
        ):
            batch.write_bytes(wrong)
            with pytest.raises(DataError, match=rf"data_batch_3\.bin: {message}"):
                datasets.load("cifar10", source=tmp_path).train()
        batch.unlink()
        with pytest.raises(DataError, match=r"data_batch_3\.bin: cannot be read"):
            datasets.load("cifar10", source=tmp_path).train()

    def test_standard_size_of_a_binary_batch(self, tmp_path: Path) -> None:
        write_binary(tmp_path, make_sample(SHAPES["cifar10"], train=25, test=5))
        with pytest.raises(DataError, match=r"test_batch\.bin: 15365 bytes; must be 30730000"):
            datasets.load("cifar10", source=tmp_path).test()

    @pytest.mark.parametrize(("batch", "split"), [("data_batch_2", "train"), ("test_batch", "test")])
    def test_python_batches_have_their_checksums(
        self, cifar_sample: Sample, batch: str, split: str, tmp_path: Path
    ) -> None:
        fallen = tmp_path / "fallen"
        write_folder(tmp_path, python_files(cifar_sample))
        (tmp_path / batch).write_bytes(pickle.dumps(Bomb(fallen)))
        dataset = datasets.load("cifar10", source=tmp_path)
        with pytest.raises(DataError, match=rf"{batch}: wrong checksum; must have the published md5"):
            getattr(dataset, split)()
        assert not fallen.exists()
        (tmp_path / batch).unlink()
        with pytest.raises(DataError, match=rf"{batch}: cannot be read .*must be with the other batches"):
            getattr(dataset, split)()

    def test_the_bomb_works(self, tmp_path: Path) -> None:
        pickle.loads(pickle.dumps(Bomb(tmp_path / "fallen")))  # noqa: S301
        assert (tmp_path / "fallen").exists()


class Bomb:
    """A pickle that makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class TestFuzz:
    """Files cut or changed at any place are refused or read, and never end in another error."""

    @pytest.fixture(scope="class", params=["images.gz", "images", "copy.tar.xz", "copy.tar", "copy.npz", "image"])
    def form(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
        """Return a source and the file of it to damage."""
        folder = tmp_path_factory.mktemp("fuzz")
        sample = make_sample(SHAPES["mnist"], train=10, test=10)
        if request.param.startswith("images"):
            packed = request.param.endswith(".gz")
            write_idx(folder, sample, packed=packed)
            return folder, folder / f"t10k-images-idx3-ubyte{'.gz' if packed else ''}"
        if request.param == "image":
            write_folder(folder, numbered_files(sample, kind="JPEG"))
            return folder, folder / "test/00003.jpg"
        path = folder / request.param
        if path.suffix == ".npz":
            write_npz(path, sample)
        else:
            write_tar(path, numbered_files(sample))
        return path, path

    @FUZZ
    @given(cut=st.floats(0, 1, exclude_max=True))
    def test_cut(self, form: tuple[Path, Path], cut: float) -> None:
        source, path = form
        content = path.read_bytes()
        trailer = 10240 if path.suffix == ".tar" else 0  # tar ends in zeros that mean nothing
        try:
            path.write_bytes(content[: int(cut * (len(content) - trailer))])
            with pytest.raises(DataError):
                datasets.load("mnist", source=source).test()
        finally:
            path.write_bytes(content)

    @FUZZ
    @given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
    def test_change(self, form: tuple[Path, Path], place: float, value: int) -> None:
        source, path = form
        content = path.read_bytes()
        changed = bytearray(content)
        changed[int(place * len(content))] ^= value
        try:
            path.write_bytes(changed)
            try:
                split = datasets.load("mnist", source=source).test()
            except DataError as error:
                assert str(source) in str(error)
            else:
                assert split.images[:].shape == (len(split), 1, 28, 28)
        finally:
            path.write_bytes(content)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """Serve a folder over HTTP: (folder, address that ends in a slash)."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}/"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def mnist_mirror(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Sample]:
    """A mirror of a small MNIST whose checksums are taken for the published ones."""
    folder, address = server
    sample = make_sample(SHAPES["mnist"])
    write_idx(folder, sample)
    published = [(name, _md5((folder / name).read_bytes())) for name, _ in MNIST.resources]
    monkeypatch.setattr(MNIST, "resources", published)
    monkeypatch.setattr(MNIST, "mirrors", [f"{address}gone/", address])
    return folder, sample


class TestDownload:
    def test_mnist(self, mnist_mirror: tuple[Path, Sample], tmp_path: Path) -> None:
        served, sample = mnist_mirror
        dataset = datasets.load("mnist", download=tmp_path / "data")
        _assert_same(dataset.test(), sample, "test")
        kept = sorted(path.name for path in (tmp_path / "data" / "MNIST" / "raw").iterdir())
        assert kept == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
        _assert_same(dataset.train(), sample, "train")
        for path in served.iterdir():
            path.unlink()
        _assert_same(dataset.train(), sample, "train")  # from the download folder

    def test_mnist_downloads_a_damaged_file_again(self, mnist_mirror: tuple[Path, Sample], tmp_path: Path) -> None:
        _, sample = mnist_mirror
        dataset = datasets.load("mnist", download=tmp_path / "data")
        dataset.test()
        (tmp_path / "data/MNIST/raw/t10k-images-idx3-ubyte.gz").write_bytes(b"damaged")
        _assert_same(dataset.test(), sample, "test")

    def test_mnist_refuses_a_wrong_checksum(self, mnist_mirror: tuple[Path, Sample], tmp_path: Path) -> None:
        served, sample = mnist_mirror
        write_idx(served, sample.changed("pixel", "test"))
        dataset = datasets.load("mnist", download=tmp_path / "data")
        for _ in range(2):  # what the first attempt left behind is not believed by the second
            with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: download failed .*with md5 [0-9a-f]{32}"):
                dataset.test()
        assert len(dataset.train()) == 30

    @needs_images
    def test_mnist_published_test_set_is_taken_from_the_download_folder(self, tmp_path: Path) -> None:
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for path in (REAL_IMAGES / "mnist").glob("t10k-*"):
            (raw / path.name).symlink_to(path)
        test = datasets.load("mnist", download=tmp_path).test()
        assert test.fingerprint == datasets.load("mnist", source=REAL_IMAGES / "mnist").test().fingerprint

    @needs_images
    def test_mnist_training_file_that_is_not_the_published_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte.gz").symlink_to(REAL_IMAGES / "mnist" / "train-images-idx3-ubyte.gz")
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: download failed"):
            datasets.load("mnist", download=tmp_path).train()

    def _serve_cifar10(
        self, server: tuple[Path, str], files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> Path:
        folder, address = server
        archive = folder / CIFAR10.filename
        with tarfile.open(archive, "w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        monkeypatch.setattr(CIFAR10, "url", f"{address}{archive.name}")
        return archive

    def test_cifar10(
        self, server: tuple[Path, str], cifar_sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = self._serve_cifar10(server, python_files(cifar_sample), monkeypatch)
        monkeypatch.setattr(CIFAR10, "tgz_md5", _md5(archive.read_bytes()))
        dataset = datasets.load("cifar10", download=tmp_path / "data")
        _assert_same(dataset.train(), cifar_sample, "train")
        archive.unlink()
        _assert_same(dataset.test(), cifar_sample, "test")
        assert dataset.description == "CIFAR-10"

    def test_cifar10_refuses_a_wrong_checksum(
        self, server: tuple[Path, str], cifar_sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fallen = tmp_path / "fallen"
        self._serve_cifar10(server, dict.fromkeys(batches(cifar_sample), pickle.dumps(Bomb(fallen))), monkeypatch)
        with pytest.raises(DataError, match=rf"cifar-10-python\.tar\.gz: download failed .*md5 {CIFAR10.tgz_md5}"):
            datasets.load("cifar10", download=tmp_path / "data").test()
        assert not fallen.exists()


@pytest.mark.slow
@needs_images
class TestRealImages:
    def test_mnist(self) -> None:
        dataset = datasets.load("mnist", source=REAL_IMAGES / "mnist")
        assert dataset.description == "data in MNIST's format, 17,435 training images"
        train, test = dataset.train(), dataset.test()
        assert (len(train), len(test)) == (17435, 10000)
        assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        # Published mean and standard deviation of the 60,000 images, of which these are a part.
        assert train.images.mean() / 255 == pytest.approx(0.1307, abs=0.002)
        assert train.images.std() / 255 == pytest.approx(0.3081, abs=0.002)

    def test_cifar10_jpeg_copy_is_close_to_the_lossless_images(self) -> None:
        head = datasets.load("cifar10", source=REAL_IMAGES / "cifar10-test-head.npz")
        assert head.description == "data in CIFAR-10's format, no training images, 1,017 test images"
        copy = datasets.load("cifar10", source=REAL_IMAGES / "cifar10-jpeg.tar.xz")
        assert copy.description == "data in CIFAR-10's format, JPEG files"
        exact, test = head.test(), copy.test()
        assert len(test) == 10000
        assert np.bincount(test.labels).tolist() == [1000] * 10
        np.testing.assert_array_equal(test.labels[exact.index], exact.labels)
        error = np.abs(test.images[exact.index].astype(float) - exact.images)
        assert error.mean() == pytest.approx(5.8, abs=0.1)
        shuffled = np.abs(test.images[exact.index[::-1]].astype(float) - exact.images)
        assert shuffled.mean() > 40
