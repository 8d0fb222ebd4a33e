"""Classification sets that torchvision knows: it gives names, addresses and checksums; the files are read here.

Its own classes are not used: that of CIFAR-100 unpickles, and those of the MNIST family check no file that
they have unpacked before. What is downloaded must have the published checksum before anything in it is read.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from certsmooth.errors import ConfigError, DataError
from certsmooth.science.datasets import Dataset, DatasetMember, Published, Split, SplitName, array_split
from certsmooth.science.datasets._batches import PythonBatches
from certsmooth.science.datasets._copies import fetch, fetch_idx
from certsmooth.science.datasets._files import published_file, reading
from certsmooth.science.datasets._idx import IdxFiles, unpacked

Name = Literal["CIFAR100", "EMNIST", "FashionMNIST", "KMNIST", "SVHN"]
EMNISTSplit = Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"]

_SIZES: dict[str, tuple[tuple[int, int], int]] = {
    "byclass": ((697_932, 116_323), 62),
    "bymerge": ((697_932, 116_323), 47),
    "balanced": ((112_800, 18_800), 47),
    "letters": ((124_800, 20_800), 26),
    "digits": ((240_000, 40_000), 10),
    "mnist": ((60_000, 10_000), 10),
}
"""Of EMNIST's splits: numbers of images, and of classes."""

_MOST_BYTES = 2**30
_IDX = {"FashionMNIST": "Fashion-MNIST", "KMNIST": "KMNIST"}
_SVHN = Published("torchvision", "SVHN", image_shape=(3, 32, 32), sizes=(73_257, 26_032))
_CIFAR100 = PythonBatches(
    Published("torchvision", "CIFAR-100", image_shape=(3, 32, 32), sizes=(50_000, 10_000), num_classes=100),
    name="CIFAR100",
    key="fine_labels",
)


@dataclass(frozen=True, kw_only=True)
class Torchvision(DatasetMember):
    """A set that torchvision knows.

    Attributes:
        name: ``CIFAR100``; ``EMNIST``; ``FashionMNIST``; ``KMNIST``; ``SVHN``, without its extra images
        split: of EMNIST: ``byclass``, ``bymerge``, ``balanced``, ``letters``, ``digits`` or ``mnist``; its images are
            as in the files, transposed
    """

    name: Name
    split: EMNISTSplit | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.name == "EMNIST") != (self.split is not None):
            right = (
                f"must be one of {', '.join(_SIZES)}" if self.name == "EMNIST" else "must be null: EMNIST has splits"
            )
            raise ConfigError(f"split: {self.split!r} of {self.name}; {right}")

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load the set; images are uint8.

        Args:
            source: None, to download; or a folder of what is downloaded, or torchvision's own folder: the IDX files,
                packed or not (other data in this form are allowed, and described); for EMNIST ``gzip.zip`` as well; the
                batches of CIFAR-100 and the ``.mat`` files of SVHN, which must have their published checksums.
            download: the folder that downloads go to, as torchvision lays it out.

        Raises:
            DataError: source holds no such files; the splits' loaders raise it for damaged files, for a wrong checksum,
                and for a download that failed.
        """
        if source is not None and not source.is_dir():
            state = "a file" if source.exists() else "no such folder"
            raise DataError(f"{source}: {state}; must be a folder of the files of {self.name}")
        if self.name == "CIFAR100":
            return _cifar100(source, download)
        if self.name == "SVHN":
            return _svhn(source, download)
        return self._idx(source, download)

    def _idx(self, source: Path | None, download: Path) -> Dataset:
        files = _emnist_files(self.split) if self.split is not None else _idx_files(self.name)
        if source is None:
            return files.published.dataset(
                files.published.title, lambda split: self._downloaded(files, split, download)
            )
        for folder in (source, source / self.name / "raw"):
            if (dataset := files.open(folder)) is not None:
                return dataset
            if self.split is not None and (archive := folder / "gzip.zip").is_file():
                title = files.published.title
                return files.published.dataset(title, partial(_from_zip, files, archive))
        raise DataError(f"{source}: no {files.names('test')[0]}; must be a folder of the files of {self.name}")

    def _downloaded(self, files: IdxFiles, split: SplitName, download: Path) -> Split:
        if self.split is None:
            return fetch_idx(self.name, files, split, download=download)
        known = _known("EMNIST")
        archive = fetch(download / "EMNIST" / "raw" / "gzip.zip", [known.url], md5=known.md5)
        return _from_zip(files, archive, split)


def _known(name: str) -> Any:  # noqa: ANN401 - a class without types
    """Return what torchvision knows of a set."""
    from torchvision import datasets  # here, as torchvision takes seconds

    return getattr(datasets, name)


def _idx_files(name: str) -> IdxFiles:
    published = Published("torchvision", _IDX[name], image_shape=(1, 28, 28), sizes=(60_000, 10_000))
    md5 = [checksum for _, checksum in _known(name).resources]
    return IdxFiles(published, {"train": "train", "test": "t10k"}, md5)


def _emnist_files(split: str) -> IdxFiles:
    sizes, classes = _SIZES[split]
    published = Published("torchvision", f"EMNIST {split}", image_shape=(1, 28, 28), sizes=sizes, num_classes=classes)
    names: dict[SplitName, str] = {"train": f"emnist-{split}-train", "test": f"emnist-{split}-test"}
    # Only the archive has a published checksum, so files out of it are not known to be EMNIST's.
    return IdxFiles(published, names, (), first_label=1 if split == "letters" else 0)


def _from_zip(files: IdxFiles, archive: Path, split: SplitName) -> Split:
    """Read a split from the archive of EMNIST, which must be the published one."""
    contents = {}
    with (
        reading(archive, expected="the published archive"),
        zipfile.ZipFile(published_file(archive, _known("EMNIST").md5)) as zipped,
    ):
        for name in files.names(split):
            info = zipped.getinfo(f"gzip/{name}.gz") if f"gzip/{name}.gz" in zipped.namelist() else None
            if info is None or info.file_size > _MOST_BYTES:
                raise DataError(f"{archive}: no gzip/{name}.gz; must be the published archive")
            contents[f"{archive}: {name}"] = unpacked(zipped.read(info), where=f"{archive}: {name}")
    return files.parse(contents)


def _cifar100(source: Path | None, download: Path) -> Dataset:
    published = _CIFAR100.published
    if source is None:
        return published.dataset(published.title, lambda split: _CIFAR100.downloaded(download, split))
    known = _known("CIFAR100")
    for folder in (source, source / known.base_folder):
        if _CIFAR100.are_in(folder):
            return published.dataset(published.title, partial(_CIFAR100.read, folder))
    if (archive := source / known.filename).is_file():
        return published.dataset(published.title, partial(_CIFAR100.archived, archive))
    raise DataError(f"{source}: no {known.base_folder} or {known.filename}; must be a folder of the files of CIFAR100")


def _svhn(source: Path | None, download: Path) -> Dataset:
    def read(split: SplitName) -> Split:
        url, name, md5 = _known("SVHN").split_list[split]
        if source is None:
            return _read_mat(fetch(download / name, [url], md5=md5), md5, split)
        return _read_mat(source / name, md5, split)

    names = [name for _, name, _ in (_known("SVHN").split_list[split] for split in ("train", "test"))]
    if source is not None and not any((source / name).is_file() for name in names):
        raise DataError(f"{source}: no {names[0]}; must be a folder of the files of SVHN")
    return _SVHN.dataset(_SVHN.title, read)


def _read_mat(path: Path, md5: str, split: SplitName) -> Split:
    """Read MATLAB's arrays X, [32, 32, 3, n], and y, [n, 1], in which the digit 0 is 10; the published ones alone."""
    from scipy.io import loadmat

    with reading(path, expected="the published file"):
        arrays = loadmat(str(published_file(path, md5)), variable_names=["X", "y"])
    images = np.ascontiguousarray(arrays["X"].transpose(3, 2, 0, 1))
    return array_split(images, arrays["y"].reshape(-1).astype(np.int64) % 10, name=f"SVHN {split}", num_classes=10)
