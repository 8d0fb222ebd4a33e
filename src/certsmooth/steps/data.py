"""Fetch a data set, and record what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certsmooth import data
from certsmooth.errors import DataError
from certsmooth.runs import Part
from certsmooth.storage import atomic_write


@dataclass(frozen=True)
class DataChoice:
    """Which data: see `certsmooth.config.DatasetParams`; ``seed`` is that of the validation split."""

    dataset: str
    source: str | None
    options: Mapping[str, Any]
    validation: float
    seed: int

    def load(self) -> data.Dataset:
        """Load the data set."""
        source = None if self.source is None else Path(self.source)
        return data.load(self.dataset, source=source, options=self.options or None)

    def part(self, dataset: data.Dataset, part: Part | str) -> data.Split:
        """Return a part of it: "training", "validation" (a part of its training split) or "test"."""
        if part == "test":
            return dataset.test()
        training, validation = data.split_validation(dataset.train(), fraction=self.validation, seed=self.seed)
        return training if part == "training" else validation


def record_data(choice: DataChoice, output: Path) -> None:
    """Load a data set (downloading it where that is its way) and write its record.

    Args:
        choice: which data.
        output: JSON file: name, description, image_shape, num_classes, pixel_range, and per part the number of images
            and the fingerprint. Every later step compares what it loads with it.

    Raises:
        DataError: see `certsmooth.data.load`.
    """
    dataset = choice.load()
    training, validation = data.split_validation(dataset.train(), fraction=choice.validation, seed=choice.seed)
    parts = {"training": training, "validation": validation, "test": dataset.test()}
    record = {
        "name": dataset.name,
        "description": dataset.description,
        "image_shape": dataset.image_shape,
        "num_classes": dataset.num_classes,
        "pixel_range": dataset.pixel_range,
        "parts": {name: {"images": len(part), "fingerprint": part.fingerprint} for name, part in parts.items()},
    }
    with atomic_write(output) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def load_part(choice: DataChoice, part: Part | str, record: Mapping[str, Any]) -> data.Split:
    """Load one part of a data set, and check that it is the one of the record.

    Raises:
        DataError: the data changed since the record was made.
    """
    split = choice.part(choice.load(), part)
    expected = record["parts"][part]["fingerprint"]
    if split.fingerprint != expected:
        raise DataError(
            f"{choice.dataset} {part}: fingerprint {split.fingerprint}, but the record says {expected}: "
            "the files changed; run `certsmooth data` again"
        )
    return split
