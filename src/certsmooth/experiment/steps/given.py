"""Take a base classifier that was trained elsewhere, as `certsmooth.experiment.steps.train` makes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from certsmooth._internal.external import Architecture, packages_of
from certsmooth._internal.storage import exclusive, file_digest
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.checkpoint import CheckpointHeader
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import read_record
from certsmooth.artefacts.training_state import write_log
from certsmooth.errors import CheckpointError
from certsmooth.experiment.specs import TrainSpec
from certsmooth.science import models
from certsmooth.science.models import BaseClassifier


def take_given(spec: TrainSpec, *, results: Path) -> None:
    """Write the checkpoint of a base classifier from the file that is given for it, and a log without epochs.

    Weights and normalisation are those of the file, the arithmetic is that of the data set. Its header has the identity
    that was asked for, and says which file it comes from: its SHA-256, and what its own header says of it.

    Args:
        spec: what it stands for.
        results: the folder of the results.

    Raises:
        DataError: the record of the data is missing, damaged, or of something else.
        CheckpointError: the file is missing, damaged, or is no classifier of such images; or another run is writing
            the checkpoint.
    """
    output, given = results / spec.path, Path(spec.given or "")
    record = read_record(results / spec.data.path, spec=spec.data.identity)
    with exclusive(output, error=CheckpointError):
        digest = file_digest(given, error=CheckpointError)
        loaded, header = load_given(given, spec.architecture, record["image_shape"], record["num_classes"])
        _check_pixels(given, header, record)
        model = replace(loaded.spec, numeric_type=spec.numeric_type, channels_last=spec.channels_last)
        classifier = models.build(model, seed=0)
        classifier.network.load_state_dict(loaded.network.state_dict())
        made = CheckpointHeader(
            model=model,
            spec=spec.identity,
            sigma=spec.sigma,
            dataset_fingerprint=record["parts"]["training"]["fingerprint"],
            images=None,
            images_fingerprint=None,
            pixel_range=record["pixel_range"] and tuple(record["pixel_range"]),
            device=None,
            made_by=made_by(),
            given={"sha256": digest, "sigma": header.sigma, "spec": header.spec, "given": header.given},
        )
        write_log(results / spec.log_path, [])
        checkpoint.save(output, classifier, made)


def load_given(
    path: Path, architecture: Architecture, image_shape: Sequence[int], num_classes: int
) -> tuple[BaseClassifier, CheckpointHeader]:
    """Read a given checkpoint, trainable, and its header.

    Args:
        path: the file.
        architecture: that it must have; what this imports is trusted.
        image_shape: of the images that it must take.
        num_classes: number of logits that it must give.

    Raises:
        CheckpointError: it is missing, damaged, or not so; names what differs.
    """
    loaded, header = checkpoint.load(path, trainable=True, trusted=packages_of(architecture))
    right = {"architecture": architecture, "image_shape": tuple(image_shape), "num_classes": num_classes}
    for name, value in right.items():
        if (found := getattr(header.model, name)) != value:
            said = "; say trainings.NAME.architecture" if name == "architecture" else ""
            raise CheckpointError(f"{path}: {name} is {found!r}; must be {value!r}, as the data set has it{said}")
    return loaded, header


def _check_pixels(path: Path, header: CheckpointHeader, record: Mapping[str, Any]) -> None:
    right = record["pixel_range"] and tuple(record["pixel_range"])
    if header.pixel_range != right:
        raise CheckpointError(f"{path}: pixel_range is {header.pixel_range}; must be {right}, as the data set has it")
