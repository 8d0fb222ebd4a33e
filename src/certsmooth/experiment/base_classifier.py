"""Builds what params.yaml says of a base classifier; every error names the key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from certsmooth._internal.options import make
from certsmooth.science.models import ModelSpec, Normalisation

if TYPE_CHECKING:
    from certsmooth.experiment.config import DatasetParams
    from certsmooth.experiment.specs import TrainSpec


def model_of(chosen: DatasetParams | TrainSpec, *, image_shape: Sequence[int], num_classes: int, key: str) -> ModelSpec:
    """Return the description of a base classifier.

    Raises:
        ConfigError: a value is not valid.
    """
    mean_and_std = chosen.normalisation
    options = {
        "architecture": chosen.architecture,
        "image_shape": tuple(image_shape),
        "num_classes": num_classes,
        "normalisation": make(Normalisation, mean_and_std, f"{key}.normalisation") if mean_and_std else None,
        "numeric_type": chosen.numeric_type,
        "channels_last": chosen.channels_last,
    }
    return make(ModelSpec, options, key)
