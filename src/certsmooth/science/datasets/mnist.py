"""MNIST (LeCun, Cortes and Burges): handwritten digits, 28x28, 60,000 training and 10,000 test images.

Without a source, each file comes from the mirrors that torchvision knows and must have the checksum that
torchvision knows; files that an earlier download or torchvision itself left in the download folder are used
if they have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from certsmooth.errors import DataError
from certsmooth.science.datasets import Dataset, DatasetMember, Form, Split, _idx, array_split
from certsmooth.science.datasets._copies import FORMS, Published, SplitName, open_copy

PUBLISHED = Published(name="mnist", title="MNIST", image_shape=(1, 28, 28), sizes=(60_000, 10_000))
_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the published files, unpacked. Fashion-MNIST, KMNIST and others come under the same names."""

_PREFIX: dict[SplitName, str] = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class MNIST(DatasetMember):
    """MNIST; no options."""

    PUBLISHED: ClassVar[Form | None] = PUBLISHED

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Load MNIST; images are uint8 [1, 28, 28].

        Args:
            source: None, to download; or a folder of the four IDX files (``train-images-idx3-ubyte`` and so on,
                with or without ``.gz``; fewer images than published, only one split, and other data in this form are
                allowed, and described); or a folder or tar archive of numbered images or an .npz of test images, see
                `certsmooth.science.datasets._copies`.
            download: the folder that downloads go to, as torchvision lays it out.

        Raises:
            DataError: source is in no such form or damaged; the splits' loaders raise it for damaged files, for a
                wrong checksum, and for a download that failed.
        """
        if source is None:
            return PUBLISHED.dataset("MNIST", lambda split: _downloaded(download, split))
        dataset = open_copy(source, PUBLISHED) or _open_idx(source)
        if dataset is None:
            state = "not one of the forms read here" if source.exists() else "no such file or folder"
            raise DataError(f"mnist: source {source}: {state}; must be a folder of IDX files, or {FORMS}")
        return dataset


def _open_idx(folder: Path) -> Dataset | None:
    """Open a folder of IDX files; None if it holds none."""
    found = {split: _find(folder, split) for split in _PREFIX}
    counts = {split: 0 if paths is None else _idx.read_shape(paths[0], ndim=3)[0] for split, paths in found.items()}
    if not any(counts.values()):
        return None
    files = [path for paths in found.values() if paths is not None for path in paths]
    proven = all(_idx.md5(path) == _MD5[path.name.removesuffix(".gz")] for path in files)
    description = PUBLISHED.describe(note="local copy" if proven else "", **counts, proven=proven)
    return PUBLISHED.dataset(description, lambda split: _local(folder, split))


def _find(folder: Path, split: SplitName) -> tuple[Path, Path] | None:
    """Return the files of images and labels of a split, None if neither is there."""
    found = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        name = f"{_PREFIX[split]}-{kind}"
        candidates = [folder / f"{name}.gz", folder / name]
        found.append(next((path for path in candidates if path.is_file()), None))
    images, labels = found
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        raise DataError(f"{images or labels}: must be with the {'images' if images is None else 'labels'} file")
    return images, labels


def _local(folder: Path, split: SplitName) -> Split:
    paths = _find(folder, split)
    if paths is None:
        raise DataError(f"{folder}: no {_PREFIX[split]}-images-idx3-ubyte, so no {split} images")
    return _read(*paths)


def _downloaded(download: Path, split: SplitName) -> Split:
    folder = download / "MNIST" / "raw"
    images = _fetch(folder, f"{_PREFIX[split]}-images-idx3-ubyte.gz")
    labels = _fetch(folder, f"{_PREFIX[split]}-labels-idx1-ubyte.gz")
    return _read(images, labels)


def _fetch(folder: Path, filename: str) -> Path:
    """Download a file unless it is there with the published checksum.

    File by file, because torchvision's MNIST class wants both splits and checks no file that it has unpacked
    before.
    """
    from torchvision.datasets import MNIST as TORCHVISION
    from torchvision.datasets.utils import download_url

    md5 = dict(TORCHVISION.resources)[filename]
    failures = []
    for mirror in TORCHVISION.mirrors:
        try:
            download_url(f"{mirror}{filename}", folder, filename=filename, md5=md5)
        except (OSError, RuntimeError) as error:
            failures.append(f"{mirror}: {error}")
        else:
            return folder / filename
    raise DataError(
        f"{folder / filename}: download failed ({'; '.join(failures)}); "
        f"must be the file with md5 {md5}, or give a local copy as source"
    )


def _read(images: Path, labels: Path) -> Split:
    pixels = _idx.read_array(images, ndim=3)
    if pixels.shape[1:] != PUBLISHED.image_shape[1:]:
        raise DataError(f"{images}: images of shape {pixels.shape[1:]}; must be {PUBLISHED.image_shape[1:]}")
    targets = _idx.read_array(labels, ndim=1)
    return array_split(pixels[:, None], targets, name=f"{images}, {labels.name}", num_classes=10)
