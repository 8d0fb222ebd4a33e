"""A trained classifier from its checkpoint, for people who go on with it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch

from certsmooth.artefacts import checkpoint
from certsmooth.science.models import BaseClassifier


@dataclass(frozen=True)
class TrainedClassifier:
    """What a checkpoint holds.

    Attributes:
        model: the base classifier, frozen, in evaluation mode: float32 images [b, *image_shape] in, logits out.
        num_classes: number of logits.
        sigma: the sigma0 of the training noise, in pixel coordinates [0, 1]; 0 for training without noise.
        pixel_range: of the data set that it was trained on; None for data that are not images.
        header: all that the checkpoint says of data, training and versions.
    """

    model: BaseClassifier
    num_classes: int
    sigma: float
    pixel_range: tuple[float, float] | None
    header: checkpoint.CheckpointHeader


def load_classifier(
    path: str | PathLike[str], *, device: torch.device | str = "cpu", trusted: Collection[str] = ()
) -> TrainedClassifier:
    """Load a base classifier that the workflow trained.

    Args:
        path: its checkpoint, ``results/checkpoints/**/model.safetensors``.
        device: where it goes.
        trusted: packages whose code may run, for a network that is imported from one.

    Raises:
        CheckpointError: the file cannot be read, is truncated, altered, foreign or of another format version, or
            would run code of a package that is not trusted; names the file.

    Example:
        >>> trained = load_classifier("model.safetensors")  # doctest: +SKIP
        >>> smoothed = SmoothedClassifier(trained.model, trained.num_classes, trained.sigma)  # doctest: +SKIP
    """
    model, header = checkpoint.load(Path(path), device=device, trusted=trusted)
    return TrainedClassifier(model, header.model.num_classes, header.sigma, header.pixel_range, header)
