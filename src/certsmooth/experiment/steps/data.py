"""Fetch a data set, and record what it is."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from certsmooth._internal.storage import atomic_write, write_json
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import log_path
from certsmooth.errors import DataError
from certsmooth.science import datasets

if TYPE_CHECKING:
    from certsmooth.experiment.runs import Part

_KEPT = Path("data", "parts")  # beside downloads; neither git nor DVC holds it


@dataclass(frozen=True)
class DataChoice:
    """Which data: see `certsmooth.experiment.config.DatasetParams`.

    Attributes:
        dataset: the name of the entry.
        member: of certsmooth.science.datasets.
        source: a local copy.
        options: of the member.
        validation: share of the training split that is held back.
        unlabelled: share of the rest whose labels are not used; None for none.
        seed: of both choices.
    """

    dataset: str
    member: str
    source: str | None
    options: Mapping[str, Any]
    validation: float
    unlabelled: float | None
    seed: int

    def load(self) -> datasets.Dataset:
        """Load the data set."""
        source = None if self.source is None else Path(self.source)
        return datasets.load(self.member, source=source, options=self.options or None)

    def training_parts(self, dataset: datasets.Dataset) -> dict[str, datasets.Split]:
        """Return the parts of the training split: "training", "validation" and, if there is a share, "unlabelled"."""
        training, validation = datasets.split_validation(dataset.train(), fraction=self.validation, seed=self.seed)
        if self.unlabelled is None:
            return {"training": training, "validation": validation}
        training, unlabelled = datasets.split_validation(training, fraction=self.unlabelled, seed=self.seed)
        return {"training": training, "validation": validation, "unlabelled": unlabelled}


def record_data(choice: DataChoice, output: Path) -> None:
    """Load a data set (downloading it where that is its way) and write its record.

    Args:
        choice: which data.
        output: JSON file: name, description, image_shape, num_classes, pixel_range, and per part the number of images
            and the fingerprint. Every later step compares what it loads with it. Parts that fit in memory are kept
            in data/parts, for later steps to read. What made the record is beside it, in the same name with
            ``.log.json``: every later step depends on the record, which so is the same whatever made it.

    Raises:
        DataError: see `certsmooth.science.datasets.load`.
    """
    dataset = choice.load()
    parts = {**choice.training_parts(dataset), "test": dataset.test()}
    for part in parts.values():
        _keep(part)
    record = {
        "name": dataset.name,
        "description": dataset.description,
        "image_shape": dataset.image_shape,
        "num_classes": dataset.num_classes,
        "pixel_range": dataset.pixel_range,
        "parts": {
            name: {"images": len(part), "fingerprint": part.fingerprint, "content": _content(part)}
            for name, part in parts.items()
        },
    }
    write_json(output, record, error=DataError)
    write_json(log_path(output), asdict(made_by()), error=DataError)


def load_part(choice: DataChoice, part: Part | str, record: Mapping[str, Any]) -> datasets.Split:
    """Load one part of a data set, and check that it is the one of the record.

    A part that `record_data` kept is read from there: that saves decoding, and the start-up of the libraries that
    decode, in every job.

    Raises:
        DataError: the data changed since the record was made, or the kept part is damaged.
    """
    if part not in record["parts"]:
        raise DataError(f"{choice.dataset}: the record has no part {part!r}; run `certsmooth data` again")
    expected = record["parts"][part]["fingerprint"]
    if (kept := _kept(expected)).is_file():
        return _read_kept(kept, expected, record["parts"][part]["content"])
    dataset = choice.load()
    split = dataset.test() if part == "test" else choice.training_parts(dataset)[part]
    if split.fingerprint != expected:
        raise DataError(
            f"{choice.dataset} {part}: fingerprint {split.fingerprint}, but the record says {expected}: "
            "the files changed; run `certsmooth data` again"
        )
    return split


def _content(split: datasets.Split) -> str | None:
    """Return the content hash of a part in memory; None for images in files, which are not kept."""
    if not isinstance(split.images, np.ndarray):
        return None
    return datasets.fingerprint(split.images, split.labels, split.index)


def _kept(fingerprint: str) -> Path:
    return _KEPT / f"{fingerprint.removeprefix('sha256:')}.npz"


def _keep(split: datasets.Split) -> None:
    """Write a part in memory to a file named after its fingerprint."""
    if isinstance(split.images, np.ndarray):
        _KEPT.mkdir(parents=True, exist_ok=True)
        with atomic_write(_kept(split.fingerprint), error=DataError) as file:
            np.savez(file, images=split.images, labels=split.labels, index=split.index)


def _read_kept(path: Path, fingerprint: str, content: str) -> datasets.Split:
    """Read what `_keep` wrote, and check every byte of the arrays."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            split = datasets.Split(arrays["images"], arrays["labels"], arrays["index"], fingerprint)
    except (OSError, EOFError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); delete it") from error
    if _content(split) != content:
        raise DataError(f"{path}: not the data of the record; delete it")
    return split
