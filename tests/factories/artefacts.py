"""The content of artefacts: counts, certificates, their logs, and checkpoints of classifiers that nothing trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.certificates import PROVENANCE_KEYS
from certsmooth.artefacts.checkpoint import CheckpointHeader
from certsmooth.artefacts.provenance import MadeBy
from certsmooth.artefacts.records import RECORD, Log
from certsmooth.experiment.specs import DataSpec
from certsmooth.science.models import ModelSpec, build
from certsmooth.science.sampling.counts import Counts

DIGEST = "sha256:" + "ab" * 32
IDENTITY = {"dataset": "digits", "n": 100, "policy": {"name": "fixed", "sigma": 0.25}, "shard": [0, 4]}
"""Of something that is stored."""

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32), "imagenet": (3, 224, 224)}
CLASSES = {"cones": 2, "imagenet": 1000}  # of the others, 10


def made_by(**changes: Any) -> MadeBy:
    """Return what made an artefact."""
    return MadeBy(**{"versions": {"torch": "2.15.0"}, "git_commit": None, "image": None} | changes)


def random_counts(images: int = 4, classes: int = 3, seed: int = 0) -> Counts:
    """Return counts of any images, as far as they are valid."""
    generator = np.random.default_rng(seed)
    return Counts(
        index=generator.integers(0, 10_000, images),
        label=generator.integers(-1, classes, images),
        sigma=generator.random(images),
        constant_within=np.where(generator.random(images) < 0.5, np.inf, generator.random(images)),
        selection=generator.integers(0, 100, (images, classes)),
        estimation=generator.integers(0, 100_000, (images, classes)),
        batch_size=generator.integers(1, 4000, images),
    )


def log(seconds: list[float], *, threads: int = 1, **made: Any) -> Log:
    """Return the log of counts that were made by such a program."""
    return Log(seconds=seconds, device="cpu", threads=threads, made_by=made_by(**made))


def certificates_frame(**changes: object) -> pd.DataFrame:
    """Return four certificates: one holds, one abstains, one is of the wrong class, one has no label."""
    columns = {
        "idx": [0, 20, 40, 60],
        "label": [3, 7, 1, -1],
        "predict": [3, -1, 2, 5],
        "radius": [0.1 + 0.2, 0.0, 1.0, 0.0],
        "correct": [1, 0, 0, 0],
        "time": [0.5, 1e-7, 2.0, 3.0],
        "sigma": [0.25, 0.1, 0.5, 0.5],
        "p_a_lower": [0.9, 0.4, 0.99, 0.5],
        "p_b_upper": [0.1, 0.6, 0.01, 0.5],
        "n": [1000] * 4,
        "alpha": [0.001] * 4,
        "guarantee": ["memory", "memory", "global", "none"],
        "radius_before_memory": [0.5, 0.0, np.nan, np.nan],
        "radius_linf": [0.1, 0.0, 0.5, 0.0],
    }
    return pd.DataFrame(columns | changes)


def certificates_provenance(**changes: object) -> dict[str, Any]:
    """Return how these certificates were made."""
    return dict.fromkeys(PROVENANCE_KEYS) | {"fingerprint": DIGEST, "images": 4, "versions": {}} | changes


def checkpoint_header(model: ModelSpec, **changes: Any) -> CheckpointHeader:
    """Return the header of a classifier of images in [0, 1]."""
    values = {
        "spec": {"data": {"dataset": "digits"}, "seed": 3},
        "sigma": 0.25,
        "dataset_fingerprint": DIGEST,
        "images": 100,
        "images_fingerprint": DIGEST,
        "pixel_range": (0.0, 1.0),
        "device": "cpu",
        "made_by": made_by(),
    }
    return CheckpointHeader(model=model, **values | changes)


def save_classifier(path: Path, model: ModelSpec, *, seed: int = 0, **header: Any) -> Path:
    """Write the checkpoint of a classifier with the weights that training starts from; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, build(model, seed=seed), checkpoint_header(model, **header))
    return path


def image_shape(data: DataSpec) -> tuple[int, ...]:
    """Return the shape of an image of a data set."""
    return SHAPES.get(data.member) or (int(data.options["dimension"]),)


def num_classes(data: DataSpec) -> int:
    """Return the number of classes of a data set."""
    return CLASSES.get(data.member, 10)


def write_record(path: Path, data: DataSpec, parts: Mapping[str, Any]) -> Path:
    """Write the record of a data set, whose parts are given as it has them; return its path."""
    content = {
        "spec": data.identity,
        "name": data.member,
        "description": f"{data.member}, made for a test",
        "image_shape": list(image_shape(data)),
        "num_classes": num_classes(data),
        "pixel_range": None if data.member == "cones" else [0.0, 1.0],
        "parts": parts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_json(path, content)
    return path
