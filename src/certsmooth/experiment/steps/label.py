"""Self-training: a base classifier labels the unlabelled images (SmoothAdv, Section 4.2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from certsmooth._internal.storage import file_digest, read_json, write_json
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import read_record
from certsmooth.errors import DataError
from certsmooth.experiment.steps.data import DataChoice, load_part
from certsmooth.science.datasets import Split, join
from certsmooth.science.datasets._unlabelled import read_unlabelled
from certsmooth.science.models import numerics

if TYPE_CHECKING:
    from certsmooth.experiment.runs import ModelRun

_BATCH = 1000


@dataclass(frozen=True)
class UnlabelledChoice:
    """Which images: the part of the data set that is held back, or those of a file."""

    choice: DataChoice
    source: Path | None

    def load(self, record: dict[str, Any]) -> Split:
        """Return the images; labels are those that were held back, or 0 for the images of a file.

        Raises:
            DataError: there is no such part, or the file is damaged or of another shape.
        """
        if self.source is None:
            return load_part(self.choice, "unlabelled", record)
        images, fingerprint = read_unlabelled(self.source, image_shape=tuple(record["image_shape"]))
        return Split(images, np.zeros(len(images), np.int64), np.arange(len(images)), fingerprint)


def label_images(
    teacher: ModelRun, *, unlabelled: UnlabelledChoice, record: Path, model: Path, device: torch.device, output: Path
) -> None:
    """Label the unlabelled images by the base classifier's prediction without noise, and write the labels.

    Args:
        teacher: the run of the checkpoint.
        unlabelled: which images.
        record: of the data set.
        model: the checkpoint.
        device: where to compute.
        output: JSON: the labels, what they are about, and ``agreement``: the share of images whose label is the one
            that was held back (null for a file).
    """
    content = read_record(record)
    split = unlabelled.load(content)
    expect = {"dataset": teacher.dataset, "sigma": teacher.sigma, "seed": teacher.seed}
    classifier, _ = checkpoint.load(model, expect=expect, device=device)
    labels = []
    with torch.inference_mode(), numerics(classifier.spec.numeric_type):
        for start in tqdm(range(0, len(split), _BATCH), unit="batch", desc=str(output)):
            positions = np.arange(start, min(start + _BATCH, len(split)))
            labels += classifier(split.batch(positions).to(device)).argmax(1).tolist()
    agreement = None if unlabelled.source else float((np.array(labels) == split.labels).mean())
    result = {
        "fingerprint": split.fingerprint,
        "teacher": file_digest(model),
        "images": len(split),
        "agreement": agreement,
        "labels": labels,
        **asdict(made_by()),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, result, error=DataError)


def with_pseudo_labels(training: Split, *, unlabelled: UnlabelledChoice, record: dict[str, Any], labels: Path) -> Split:
    """Return the labelled images, and the unlabelled ones with the labels that `label_images` wrote.

    Raises:
        DataError: the labels are damaged, or about other images.
    """
    remedy = "make them with `certsmooth label`"
    stored = read_json(labels, remedy=remedy, error=DataError)
    if missing := {"fingerprint", "teacher", "labels"} - stored.keys():
        raise DataError(f"{labels}: not pseudo labels (no {', '.join(sorted(missing))}); {remedy}")
    fingerprint, values = stored["fingerprint"], stored["labels"]
    split = unlabelled.load(record)
    if fingerprint != split.fingerprint or len(values) != len(split):
        raise DataError(
            f"{labels}: {len(values)} labels of images {fingerprint}; the unlabelled images are {len(split)}, "
            f"{split.fingerprint}: run `certsmooth label` again"
        )
    labelled = np.asarray(values, dtype=np.int64)
    if labelled.min() < 0 or labelled.max() >= record["num_classes"]:
        raise DataError(f"{labels}: label {labelled.max()}; must be in 0 .. {record['num_classes'] - 1}")
    return join(training, Split(split.images, labelled, split.index, f"{split.fingerprint} by {stored['teacher']}"))
