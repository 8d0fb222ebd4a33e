"""Self-training: a base classifier labels the unlabelled images (SmoothAdv, Section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from certsmooth._internal.storage import exclusive, file_digest
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.provenance import made_by
from certsmooth.errors import DataError
from certsmooth.experiment.specs import LabelSpec
from certsmooth.experiment.steps.data import load_part
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.science.datasets import Split, join
from certsmooth.science.datasets._unlabelled import read_unlabelled
from certsmooth.science.models import numerics

LABELS = Form("pseudo labels 2", "make them with `certsmooth label`", DataError)

_BATCH = 1000


def label_images(spec: LabelSpec, *, results: Path, device: torch.device) -> None:
    """Label the unlabelled images by the base classifier's prediction without noise, and write the labels.

    They are JSON: spec, the labels, what images and which checkpoint they are about, and ``agreement``: the share of
    images whose label is the one that was held back (null for a file).

    Args:
        spec: which labels.
        results: the folder of the results.
        device: where to compute.

    Raises:
        DataError: the images are missing, damaged, or of another shape.
        CheckpointError: the teacher is missing, damaged, or another.
    """
    output = results / spec.path
    loaded = Loaded(results, device)
    split = _unlabelled(spec, loaded.record(spec.teacher.data))
    with exclusive(output, error=DataError):
        classifier = loaded.classifier(spec.teacher)
        labels = []
        with torch.inference_mode(), numerics(classifier.spec.numeric_type):
            for start in tqdm(range(0, len(split), _BATCH), unit="batch", desc=str(output)):
                positions = np.arange(start, min(start + _BATCH, len(split)))
                labels += classifier(split.batch(positions).to(device)).argmax(1).tolist()
        result = {
            "spec": spec.identity,
            "fingerprint": split.fingerprint,
            "teacher": file_digest(results / spec.teacher.path),
            "images": len(split),
            "agreement": None if spec.source else float((np.array(labels) == split.labels).mean()),
            "labels": labels,
            "made_by": asdict(made_by()),
        }
        LABELS.write_json(output, result)


def _unlabelled(spec: LabelSpec, record: Mapping[str, Any]) -> Split:
    """Return the images; labels are those that were held back, or 0 for the images of a file."""
    if spec.source is None:
        return load_part(spec.teacher.data, "unlabelled", record)
    images, fingerprint = read_unlabelled(Path(spec.source), image_shape=tuple(record["image_shape"]))
    return Split(images, np.zeros(len(images), np.int64), np.arange(len(images)), fingerprint)


def with_pseudo_labels(training: Split, spec: LabelSpec, record: Mapping[str, Any], *, results: Path) -> Split:
    """Return the labelled images, and the unlabelled ones with the labels that `label_images` wrote.

    Raises:
        DataError: the labels are damaged, or of another classifier or other images.
    """
    path = results / spec.path
    stored = LABELS.read_json(path)
    split = _unlabelled(spec, record)
    right = {
        "spec": spec.identity,
        "fingerprint": split.fingerprint,
        "teacher": file_digest(results / spec.teacher.path, error=DataError),
    }
    LABELS.check(path, stored, right)
    labels = np.asarray(stored["labels"], dtype=np.int64)
    if len(labels) != len(split):
        raise DataError(f"{path}: {len(labels)} labels of {len(split)} unlabelled images; {LABELS.remedy}")
    if labels.min() < 0 or labels.max() >= record["num_classes"]:
        raise DataError(f"{path}: label {labels.max()}; must be in 0 .. {record['num_classes'] - 1}")
    return join(training, Split(split.images, labels, split.index, f"{split.fingerprint} by {stored['teacher']}"))
