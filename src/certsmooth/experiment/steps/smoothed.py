"""What sampling and attacks have in common: the smoothed classifier, what identifies it, and the log beside counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from certsmooth._internal.storage import file_digest, write_json
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import Log, log_path
from certsmooth.errors import CountsError
from certsmooth.experiment.steps.data import DataChoice, load_part
from certsmooth.science.datasets import Split
from certsmooth.science.models import BaseClassifier
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.theory.pixel_grid import PixelGrid

if TYPE_CHECKING:
    from certsmooth.experiment.runs import Part


def load_smoothed(
    model: Path,
    *,
    choice: DataChoice,
    content: Mapping[str, Any],
    sigma: float,
    policy: SigmaPolicy,
    device: torch.device,
) -> tuple[BaseClassifier, SigmaPolicy]:
    """Load a base classifier, and fit a policy to the training images if it uses them.

    Args:
        model: checkpoint of the base classifier.
        choice: which data it must have been trained on.
        content: of their record.
        sigma: that it must have been trained with.
        policy: sigma(x).
        device: where the classifier goes.

    Raises:
        CheckpointError: the checkpoint is damaged, or made for something else.
        DataError: the training images are not those of the record.
    """
    expect = {
        "dataset": choice.dataset,
        "dataset_fingerprint": content["parts"]["training"]["fingerprint"],
        "sigma": sigma,
    }
    classifier, _ = checkpoint.load(model, expect=expect, device=device)
    if policy.uses_training_images:
        training = load_part(choice, "training", content)
        policy = policy.fit(training.images, training.labels)
    return classifier, policy


def about(
    split: Split,
    *,
    dataset: str,
    part: Part,
    model: Path,
    policy: Mapping[str, Any],
    noise: str,
    grid: PixelGrid | None,
) -> dict[str, Any]:
    """Return what identifies a smoothed classifier and the images it is asked about.

    Args:
        split: the images.
        dataset: name of their data set.
        part: which part of it they are.
        model: checkpoint of the base classifier.
        policy: name and options of the sigma policy.
        noise: a member of certsmooth.science.noise.
        grid: that noisy images are rounded to; None for float32 noise.
    """
    return {
        "dataset": dataset,
        "part": part,
        "fingerprint": split.fingerprint,
        "checkpoint": file_digest(model),
        "policy": dict(policy),
        "noise": noise,
        "step": grid and grid.step,
    }


def arithmetic(classifier: BaseClassifier, device: torch.device) -> dict[str, Any]:
    """Return what identifies how a base classifier is computed."""
    return {"model": classifier.spec.to_dict(), "device": device_name(device), "torch": torch.__version__}


def device_name(device: torch.device) -> str:
    """Return "cpu", or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def write_log(counts: Path, seconds: list[float], device: torch.device) -> None:
    """Write how counts were made, beside them.

    Args:
        counts: their path.
        seconds: one per image, or per group of images.
        device: where they were made.

    Raises:
        CountsError: the file cannot be written.
    """
    made = vars(made_by())
    log = Log(seconds=seconds, device=device_name(device), threads=torch.get_num_threads(), **made)
    write_json(log_path(counts), asdict(log), error=CountsError)
