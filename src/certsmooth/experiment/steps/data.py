"""Fetch a data set, and record what it is."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from certsmooth._internal.storage import atomic_write, exclusive
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import RECORD, RECORD_LOG, log_path
from certsmooth.errors import ConfigError, DataError
from certsmooth.experiment.specs import DataSpec, Fold
from certsmooth.science import datasets
from certsmooth.science.theory.pixel_grid import PixelGrid

_MOST_LEVELS = 4096
"""Steps from 0 to 1 that are tried to name the right one."""

_KEPT = Path("data", "parts")  # beside downloads; neither git nor DVC holds it


def load_data(spec: DataSpec) -> datasets.Dataset:
    """Load a data set.

    Raises:
        DataError: see `certsmooth.science.datasets.load`.
    """
    source = None if spec.source is None else Path(spec.source)
    return datasets.load(spec.member, source=source, options=spec.options or None)


def _training_parts(spec: DataSpec, dataset: datasets.Dataset) -> dict[str, datasets.Split]:
    """Return the parts of the training split: "training", "validation" and, if there is a share, "unlabelled"."""
    training, validation = datasets.split_validation(dataset.train(), fraction=spec.validation, seed=spec.seed)
    if spec.unlabelled is None:
        return {"training": training, "validation": validation}
    training, unlabelled = datasets.split_validation(training, fraction=spec.unlabelled, seed=spec.seed)
    return {"training": training, "validation": validation, "unlabelled": unlabelled}


def record_data(spec: DataSpec, *, results: Path, step: str | None = None) -> None:
    """Load a data set (downloading it where that is its way) and write its record.

    The record is JSON: spec, name, description, image_shape, num_classes, pixel_range, the names of the classes where
    the data have some, and per part the number of images and the fingerprint. Every later step compares what it loads
    with it. Parts that fit in memory are kept in data/parts, for later steps to read. What made the record is beside
    it, in the same name with ``.log.json``: every later step depends on the record, which so is the same whatever
    made it.

    Args:
        spec: which data.
        results: the folder of the results.
        step: of the pixels, as params.yaml states it, which the images must lie on; None for none.

    Raises:
        ConfigError: they do not; names the right one.
        DataError: see `certsmooth.science.datasets.load`.
    """
    output = results / spec.path
    with exclusive(output, error=DataError):
        dataset = load_data(spec)
        parts = {**_training_parts(spec, dataset), "test": dataset.test()}
        if dataset.pixel_range is not None:
            for part in parts.values():
                check_step(spec.dataset, part, step)
        for part in parts.values():
            _keep(part)
        RECORD.write_json(output, _record(spec, dataset, parts))
        RECORD_LOG.write_json(log_path(output), {"made_by": asdict(made_by())})


def check_step(dataset: str, split: datasets.Split, step: str | None) -> None:
    """Check that images lie on the step that params.yaml states.

    Certificates hold for others as well (`certsmooth.science.theory.pixel_grid`), but what is classified then is not
    what these images are, rounded as nobody meant it. Points without a range of pixels may lie anywhere.

    Raises:
        ConfigError: they do not; names the right step.
    """
    if step is None:
        return
    pixels = _values(split)
    if not PixelGrid.of_step(step).holds(pixels):
        tried = range(1, _MOST_LEVELS + 1) if len(pixels) <= _MOST_LEVELS + 1 else ()
        fits = next((levels for levels in tried if PixelGrid(levels).holds(pixels)), None)
        right = "null: no step fits them" if fits is None else f"1/{fits}"
        raise ConfigError(f"datasets.{dataset}.step: {step}; the images do not lie on it; must be {right}")


def _values(split: datasets.Split) -> npt.NDArray[np.float32]:
    """Return the different values that pixels of images can have: all of 8 bits, or those that occur."""
    if isinstance(split.images, np.ndarray) and split.images.dtype == np.float32:
        return np.unique(split.images)
    return np.arange(256, dtype=np.float32) / np.float32(255)


def _record(spec: DataSpec, dataset: datasets.Dataset, parts: Mapping[str, datasets.Split]) -> dict[str, Any]:
    return {
        "spec": spec.identity,
        "name": dataset.name,
        "description": dataset.description,
        "image_shape": dataset.image_shape,
        "num_classes": dataset.num_classes,
        "pixel_range": dataset.pixel_range,
        # Left out where there are none, so that records made before stay as they are.
        **({} if dataset.classes is None else {"classes": dataset.classes}),
        "parts": {
            name: {"images": len(part), "fingerprint": part.fingerprint, "content": _content(part)}
            for name, part in parts.items()
        },
    }


def load_part(spec: DataSpec, part: str, record: Mapping[str, Any]) -> datasets.Split:
    """Load one part of a data set, and check that it is the one of the record.

    A part that `record_data` kept is read from there: that saves decoding, and the start-up of the libraries that
    decode, in every job.

    Raises:
        DataError: the data changed since the record was made, or the kept part is damaged.
    """
    if part not in record["parts"]:
        raise DataError(f"{spec.dataset}: the record has no part {part!r}; run `certsmooth data` again")
    expected = record["parts"][part]["fingerprint"]
    if (kept := _kept(expected)).is_file():
        return _read_kept(kept, expected, record["parts"][part]["content"])
    dataset = load_data(spec)
    split = dataset.test() if part == "test" else _training_parts(spec, dataset)[part]
    if split.fingerprint != expected:
        raise DataError(
            f"{spec.dataset} {part}: fingerprint {split.fingerprint}, but the record says {expected}: "
            "the files changed; run `certsmooth data` again"
        )
    return split


def without_fold(training: datasets.Split, fold: Fold | None) -> datasets.Split:
    """Return the training images but for those of a fold; all if there is none."""
    if fold is None:
        return training
    return training.subset(np.setdiff1d(np.arange(len(training)), fold.positions(len(training))))


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
