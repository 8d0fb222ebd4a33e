"""Images of one's own in a folder: what is read, in which order, what is done with it, what is named and refused."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from certsmooth.errors import CertsmoothError, ConfigError, DataError
from certsmooth.science import datasets
from certsmooth.science.datasets import _encoded
from certsmooth.science.datasets._files import _MOST_PIXELS
from factories import (
    REAL_IMAGES,
    class_files,
    image_bytes,
    make_sample,
    needs_images,
    numbered_files,
    own_sample,
    write_folder,
)

ORIENTATION = 0x0112


def load(source: Path, **options: Any) -> datasets.Dataset:
    return datasets.load("folder", source=source, options=options)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(*colour: int, size: tuple[int, int] = (6, 4)) -> np.ndarray:
    """An image of one colour; size is width and height."""
    return np.broadcast_to(np.array(colour, np.uint8), (size[1], size[0], len(colour))).copy()


def two_classes(**files: bytes) -> dict[str, bytes]:
    """A data set of two classes with one image each, and more files: ``train__a__x_png`` is train/a/x.png."""
    small = {f"{split}/{name}/0.png": image_bytes(flat(9 * (i + 1), 0, 0)) for split in ("train", "test")
             for i, name in enumerate("ab")}  # fmt: skip
    more = {name.replace("__", "/").replace("_", "."): content for name, content in files.items()}
    return small | more


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images", two_classes())


class TestLayouts:
    def test_class_folders_in_order_of_class_and_name(self, tmp_path: Path) -> None:
        sample = own_sample()
        dataset = load(write_folder(tmp_path, class_files(sample)))
        assert dataset.image_shape == (3, 12, 10)
        assert dataset.classes == tuple(f"k{label}" for label in range(10))
        assert dataset.description == "10 classes, 30 training images, 20 test images, upright, 8 bits"
        for split, read in (("train", dataset.train()), ("test", dataset.test())):
            order = np.argsort(sample.labels[split], kind="stable")
            np.testing.assert_array_equal(read.images, sample.images[split][order].transpose(0, 3, 1, 2))
            np.testing.assert_array_equal(read.labels, sample.labels[split][order])
            np.testing.assert_array_equal(read.index, np.arange(len(order)))

    @pytest.mark.parametrize("name", ["val", "valid", "validation"])
    def test_val_is_the_test_split_where_there_is_no_test(self, name: str, root: Path) -> None:
        expected = load(root).test().fingerprint
        write_folder(
            root, {f"{name}/a/1.png": image_bytes(flat(1, 2, 3)), f"{name}/b/1.png": image_bytes(flat(1, 1, 3))}
        )
        assert load(root).test().fingerprint == expected
        (root / "test").rename(root / "other")
        assert load(root).test().images[0, :, 0, 0].tolist() == [1, 2, 3]

    def test_classes_are_as_many_as_there_are(self, tmp_path: Path) -> None:
        files = {f"{split}/{i:02d}/0.png": image_bytes(flat(i)) for split in ("train", "test") for i in range(100)}
        dataset = load(write_folder(tmp_path, files))
        assert (dataset.num_classes, dataset.image_shape) == (100, (1, 4, 6))
        assert dataset.train().labels.tolist() == dataset.train().images[:, 0, 0, 0].tolist() == list(range(100))

    def test_tiny_imagenet(self, tmp_path: Path) -> None:
        files = {
            f"train/n{c}/images/n{c}_{i}.JPEG": image_bytes(flat(40 * c, 0, i), "JPEG") for c in (1, 2) for i in (0, 1)
        }
        files |= {f"train/n{c}/n{c}_boxes.txt": b"n1_0.JPEG\t0\t0\t3\t3\n" for c in (1, 2)}
        files |= {f"val/images/val_{i}.JPEG": image_bytes(flat(60 * i, 0, 0), "JPEG") for i in range(3)}
        files |= {
            "val/val_annotations.txt": b"val_0.JPEG\tn2\t0\t0\t3\t3\nval_2.JPEG\tn1\t0\t0\t3\t3\nval_1.JPEG\tn2\t0\n"
        }
        files |= {"test/images/test_0.JPEG": image_bytes(flat(0, 0, 0), "JPEG"), "wnids.txt": b"n1\nn2\n"}
        dataset = load(write_folder(tmp_path, files))
        assert dataset.classes == ("n1", "n2")
        assert dataset.train().labels.tolist() == [0, 0, 1, 1]
        assert dataset.test().labels.tolist() == [1, 1, 0]
        (tmp_path / "val/images/val_1.JPEG").unlink()
        with pytest.raises(DataError, match=r"val: val_1\.JPEG has an image in val_annotations\.txt, but no file"):
            load(tmp_path)

    def test_a_list_of_files(self, tmp_path: Path) -> None:
        files = {f"pictures/{i}.png": image_bytes(flat(i)) for i in range(6)}
        rows = ["train,pictures/0.png,dog", "train,pictures/1.png, cat", "test,pictures/3.png,cat",
                "train,./pictures/2.png,dog", "val,pictures/4.png,dog", "test,pictures/5.png,dog"]  # fmt: skip
        labels = "\r\n".join(["split,file,label", *rows])
        dataset = load(write_folder(tmp_path, {**files, "labels.csv": b"\xef\xbb\xbf" + labels.encode()}))
        assert dataset.classes == ("cat", "dog")
        train, test = dataset.train(), dataset.test()
        assert train.images[:, 0, 0, 0].tolist() == [0, 1, 2]
        assert train.labels.tolist() == [1, 0, 1]
        assert (test.images[:, 0, 0, 0].tolist(), test.labels.tolist()) == ([3, 5], [0, 1])

    def test_classes_that_are_numbers_are_in_their_order(self, tmp_path: Path) -> None:
        rows = [f"{split},{i}.png,{10 * i}" for split, offset in (("train", 0), ("test", 0)) for i in range(11)]
        rows = [row.replace(f"{row.split(',')[0]},", f"{row.split(',')[0]},{row.split(',')[0]}/") for row in rows]
        files = {f"{split}/{i}.png": image_bytes(flat(i)) for split in ("train", "test") for i in range(11)}
        files["labels.csv"] = "\n".join(["split,file,label", *rows]).encode()
        dataset = load(write_folder(tmp_path, files))
        assert dataset.classes == tuple(str(10 * i) for i in range(11))
        assert dataset.train().labels.tolist() == list(range(11))

    def test_numbered_images_as_the_copies_of_data_sets(self, tmp_path: Path) -> None:
        sample = make_sample((12, 10, 3))
        dataset = load(write_folder(tmp_path, numbered_files(sample)))
        np.testing.assert_array_equal(dataset.test().images, sample.images["test"].transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(dataset.test().labels, sample.labels["test"])
        np.testing.assert_array_equal(dataset.test().index, sample.index["test"])

    @needs_images
    def test_real_images_as_the_member_of_their_own_reads_them(self, tmp_path: Path) -> None:
        with tarfile.open(REAL_IMAGES / "cifar10-jpeg.tar.xz") as archive:
            files = {}
            for info in archive:
                name = info.name.partition("/")[2]
                if name == "test/00040.jpg":
                    break
                if name.endswith((".csv", ".jpg")):
                    files[name] = archive.extractfile(info).read()  # type: ignore[union-attr]
        rows = files["labels.csv"].decode().splitlines()
        chosen = [row for row in rows if row.startswith("test,") and int(row.split(",")[1]) < 40]
        train = [row.replace("test,", "train,") for row in chosen]
        files |= {
            name.replace("test/", "train/"): content for name, content in files.items() if name.startswith("test/")
        }
        files["labels.csv"] = "\n".join([rows[0], *chosen, *train]).encode()
        source = write_folder(tmp_path, files)
        ours, theirs = load(source).test(), datasets.load("cifar10", source=source).test()
        assert ours.fingerprint == theirs.fingerprint


class TestWhatIsDone:
    def test_mixed_colours_become_what_is_asked_for(self, root: Path) -> None:
        write_folder(root, {"train/a/1.png": image_bytes(flat(77))})
        with pytest.raises(
            DataError, match=r"a/1\.png: grey image of 6x4 pixels, but the first is a RGB image .*colour: rgb"
        ):
            load(root).train()
        assert load(root, colour="rgb").train().images[1, :, 0, 0].tolist() == [77, 77, 77]
        grey = load(root, colour="grey").train()
        assert grey.images.shape == (3, 1, 4, 6)
        assert grey.images[:, 0, 0, 0].tolist() == [round(0.299 * 9), 77, round(0.299 * 18)]

    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            (Image.new("1", (6, 4), 1), [255]),
            (Image.new("L", (6, 4), 5), [5]),
            (Image.new("LA", (6, 4), (5, 255)), [5]),
            (Image.new("I;16", (6, 4), 30_000), [117]),
            (Image.new("RGBA", (6, 4), (1, 2, 3, 255)), [1, 2, 3]),
            (Image.new("RGB", (6, 4), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE), [1, 2, 3]),
        ],
    )
    def test_grey_stays_grey_and_colour_colour(self, image: Image.Image, expected: list[int], tmp_path: Path) -> None:
        data = encoded(image)
        names = [f"{split}/{name}/0.png" for split in ("train", "test") for name in "ab"]
        dataset = load(write_folder(tmp_path, dict.fromkeys(names, data)))
        assert dataset.image_shape == (len(expected), 4, 6)
        assert dataset.train().images[0, :, 0, 0].tolist() == expected

    def test_transparent_images_are_refused(self, root: Path) -> None:
        write_folder(root, {"train/b/1.png": encoded(Image.new("RGBA", (6, 4), (1, 2, 3, 254)))})
        with pytest.raises(DataError, match=r"train/b/1\.png: RGBA image with transparent pixels.*must be opaque"):
            load(root).train()

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation_is_applied(self, orientation: int, tmp_path: Path) -> None:
        """As Pillow's own function does it; without it, the photograph of a portrait lies on its side."""
        pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        data = encoded(Image.fromarray(pixels), exif=exif)
        upright = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.transpose(1, 0, 2),
                   6: np.rot90(pixels, -1), 7: np.rot90(pixels.transpose(1, 0, 2), 2), 8: np.rot90(pixels)}  # fmt: skip
        names = [f"{split}/{name}/0.png" for split in ("train", "test") for name in "ab"]
        dataset = load(write_folder(tmp_path, dict.fromkeys(names, data)))
        np.testing.assert_array_equal(dataset.train().images[0], upright[orientation].transpose(2, 0, 1))
        assert dataset.image_shape == dataset.train().images[0].shape

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.data())
    def test_any_size_becomes_the_one_that_is_asked_for(
        self, width: int, height: int, size: int, data: st.DataObject
    ) -> None:
        crop = data.draw(st.integers(1, size))
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        prepare = _encoded.Preparation(None, size, crop)
        content = image_bytes(pixels)
        found = prepare(content, where="a.png")
        assert found.dtype == np.uint8
        assert found.shape == prepare.shape(content, where="a.png") == (3, crop, crop)
        short = min(width, height)
        resized = Image.fromarray(pixels).resize(
            (size * width // short, size * height // short), Image.Resampling.BILINEAR
        )
        left, top = round((resized.width - crop) / 2), round((resized.height - crop) / 2)
        naive = np.asarray(resized)[top : top + crop, left : left + crop]
        np.testing.assert_array_equal(found, naive.transpose(2, 0, 1))

    def test_images_that_need_no_change_are_not_changed(self, tmp_path: Path) -> None:
        sample = own_sample()
        square = {s: images[:, :10] for s, images in sample.images.items()}
        source = write_folder(tmp_path, class_files(type(sample)(square, sample.labels, sample.index)))
        assert load(source, size=10, crop=10).train().fingerprint == load(source).train().fingerprint

    def test_a_large_split_is_the_same_and_stays_in_its_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = write_folder(tmp_path, class_files(own_sample()))
        small = load(source, size=8, crop=6).train()
        monkeypatch.setattr(_encoded, "IN_MEMORY", small.images[:].nbytes - 1)
        large = load(source, size=8, crop=6).train()
        assert isinstance(small.images, np.ndarray)
        assert not isinstance(large.images, np.ndarray)
        order = np.random.default_rng(0).permutation(len(small))
        np.testing.assert_array_equal(large.images[order], small.images[order])
        np.testing.assert_array_equal(large.labels, small.labels)
        name = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("train/k3/*"))[0]
        (tmp_path / name).write_bytes(image_bytes(flat(1, 2, 3, size=(10, 12))))
        assert load(source, size=8, crop=6).train().fingerprint != large.fingerprint
        assert load(source, size=8, crop=7).train().fingerprint != large.fingerprint
        (tmp_path / name).write_bytes(image_bytes(flat(1)))
        with pytest.raises(DataError, match=rf"{name}: grey image"):
            load(source, size=8, crop=6).train()


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 0}, "size: 0; must be"),
            ({"crop": 2.5}, "crop: 2.5; must be"),
            ({"size": 8, "crop": 9}, "crop: 9; must be at most size, 8"),
            ({"colour": "blue"}, "colour: .*'blue'.*grey, rgb"),
            ({"colour": 3}, "colour: .*3"),
            ({"sizes": 3}, "unknown key 'sizes'; did you mean 'size'"),
        ],
    )
    def test_mistakes_are_named(self, options: dict[str, Any], message: str, root: Path) -> None:
        with pytest.raises(ConfigError, match=rf"^folder: .*{message}"):
            load(root, **options)

    def test_images_smaller_than_the_crop(self, root: Path) -> None:
        with pytest.raises(
            DataError, match=r"a/0\.png: 6x4 pixels; must be at least 5x5, or resized by the option `size`"
        ):
            load(root, crop=5)

    def test_images_of_several_shapes(self, root: Path) -> None:
        write_folder(root, {"train/b/1.png": image_bytes(flat(1, 1, 1, size=(5, 4)))})
        with pytest.raises(
            DataError, match=r"b/1\.png: RGB image of 5x4 pixels, but the first .*6x4.*give size and crop"
        ):
            load(root).train()


class TestDamage:
    @pytest.mark.parametrize(
        ("moved", "message"),
        [
            ({"test": None}, r"holds train/; must be .*Move a part of the images of each class"),
            ({"train": None}, r"holds test/; must be a folder with train/ and test/"),
            ({"train": "a", "test": "b"}, r"holds a/, b/; must be a folder with train/ and test/"),
            ({"train/a": "test/c"}, "class folder a is in only one of train/ and test/"),
            ({"train/a": "train/c"}, "class folder a is in only one of train/ and test/"),
            ({"train/a/0.png": None}, r"train/a: no images of class a; must hold JPEG or PNG files"),
            ({"train/a/0.png": "train/a/.0.png"}, "train/a: no images of class a"),
            ({"train/a": None, "test/a": None}, "one class, 'b'; must be at least two"),
            ({"train/a": None, "train/b": None}, "train: no folders; must hold one folder of images per class"),
        ],
    )
    def test_layouts_that_are_wrong(self, moved: dict[str, str | None], message: str, root: Path) -> None:
        for old, new in moved.items():
            (root / old).rename(root / new if new else root.with_name(f"gone-{old.replace('/', '-')}"))
        with pytest.raises(DataError, match=message):
            load(root)

    def test_other_files_are_passed_over(self, root: Path) -> None:
        expected = load(root).train().fingerprint
        names = ("README.md", "train/README", "train/a/notes.txt", "train/.git/x.png", "train/a/._0.png")
        write_folder(root, dict.fromkeys((*names, "train/a/Thumbs.db", "train/a/.cache/y.png"), b"no image"))
        os.mkfifo(root / "train/a/pipe.png")
        assert load(root).train().fingerprint == expected

    @pytest.mark.parametrize("name", ["0.tif", "1.WebP", "deep/2.bmp"])
    def test_other_formats_are_named(self, name: str, root: Path) -> None:
        write_folder(root, {f"train/a/{name}": b""})
        with pytest.raises(
            DataError, match=rf"train/a/{name}: an image in a format that is not read; must be JPEG or PNG"
        ):
            load(root)

    @pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
    def test_a_truncated_image_is_named(self, part: float, root: Path) -> None:
        content = image_bytes(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8), "JPEG")
        write_folder(root, {"train/b/7.jpg": content[: int(part * len(content))]})
        with pytest.raises(DataError, match=r"train/b/7\.jpg: cannot be read .*must be a whole JPEG or PNG image"):
            load(root).train()

    def test_an_image_that_announces_too_many_pixels(self, root: Path) -> None:
        """A gigabyte of zeros in a few kilobytes: refused by its header."""
        side = 1 + int(_MOST_PIXELS**0.5)
        small = encoded(Image.new("1", (side, 1)))
        data = small[:20] + side.to_bytes(4, "big") + small[24:]
        data = data[:29] + zlib.crc32(data[12:29]).to_bytes(4, "big") + data[33:]
        write_folder(root, {"train/b/7.png": data})
        with pytest.raises(DataError, match=rf"b/7\.png: {side}x{side} pixels; must be at most {_MOST_PIXELS} in all"):
            load(root).train()

    def test_links_that_go_round(self, root: Path) -> None:
        (root / "train/a/again").symlink_to(root / "train/a")
        with pytest.raises(DataError, match=r"train/a/again: the same folder as another of its class, by a link"):
            load(root)

    def test_a_class_folder_may_be_a_link(self, root: Path) -> None:
        expected = load(root).train().fingerprint
        (root / "train/a").rename(root / "elsewhere")
        (root / "train/a").symlink_to(root / "elsewhere")
        assert load(root).train().fingerprint == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "columns ; must be split,file,label"),
            ("file,label\n", "columns file,label; must be split,file,label"),
            ("split,file,label\n", "images of none; must be of train and of test"),
            ("split,file,label\ntrain,train/a/0.png,a\n", "images of train; must be of train and of test"),
            ("split,file,label\ntrain,train/a/0.png\n", "line 2: .*must be train or test, a file and a class"),
            ("split,file,label\nextra,train/a/0.png,a\n", "line 2: .*must be train or test, a file and a class"),
            ("split,file,label\ntrain,train/a/0.png,  \n", "line 2: .*must be train or test, a file and a class"),
            ("split,file,label\ntrain,../x.png,a\n", r"line 2: file '\.\./x\.png'; must be a path below"),
            ("split,file,label\ntrain,train/../../x.png,a\n", "line 2: file .*must be a path below"),
            ("split,file,label\ntrain,/etc/hostname,a\n", "line 2: file '/etc/hostname'; must be a path below"),
            ("split,file,label\ntrain,,a\n", "line 2: file ''; must be a path below"),
            ("split,file,label\ntrain,train,a\n", "line 2: train: no such file"),
            ("split,file,label\ntrain,train/a/9.png,a\n", r"line 2: train/a/9\.png: no such file"),
            (
                "split,file,label\ntrain,train/a/0.png,a\ntest,./train/a/0.png,a\n",
                r"line 3: \./train/a/0\.png for the second time",
            ),
            (
                "split,file,label\ntrain,train/a/0.png,a\ntrain,train/b/0.png,b\ntest,test/a/0.png,c\n",
                "class 'c' has test images, but no training images",
            ),
            ("split,index,label\ntrain,0,a\n", "line 2: .*must be train or test, an index and a label"),
            ("split,index,label\ntrain,0,1\n", "number 0 has an image in labels.csv, but no file"),
        ],
    )
    def test_lists_that_are_wrong(self, text: str, message: str, root: Path) -> None:
        (root / "labels.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            load(root)

    def test_the_sources_that_it_takes(self, tmp_path: Path) -> None:
        (tmp_path / "images.zip").write_bytes(b"PK")
        with pytest.raises(DataError, match=r"images\.zip: a file; must be a folder with train/ and test/"):
            load(tmp_path / "images.zip")
        with pytest.raises(ConfigError, match="folder: no source; must be a folder with train/ and test/"):
            datasets.load("folder")


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=2, max_size=5, unique=True), file=NAMES)
def test_any_names_of_classes_and_files(names: list[str], file: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The classes are the folders that are not hidden, in the order of their names; or one error."""
    folder = tmp_path_factory.mktemp("names")
    for split in ("train", "test"):
        for value, name in enumerate(names):
            if name not in (".", ".."):
                write_folder(folder, {f"{split}/{name}/x{file}.png": image_bytes(flat(value))})
    shown = sorted(name for name in names if name[0] != ".")
    try:
        dataset = load(folder)
    except CertsmoothError as error:
        assert len(shown) < 2 or "a format" in str(error)
    else:
        assert dataset.classes == tuple(shown)
        assert dataset.train().images[:, 0, 0, 0].tolist() == [names.index(name) for name in shown]
