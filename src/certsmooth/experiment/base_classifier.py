"""Builds what describes a base classifier and its training; every error names the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from certsmooth._internal.options import make
from certsmooth.science.models import ModelSpec, Normalisation
from certsmooth.science.training.recipe import Recipe


class Described(Protocol):
    """What params.yaml says of a base classifier."""

    @property
    def architecture(self) -> str:
        """A member of certsmooth.science.models."""

    @property
    def normalisation(self) -> Mapping[str, Any] | None:
        """Mean and std per channel."""

    @property
    def numeric_type(self) -> str:
        """Of the arithmetic."""

    @property
    def channels_last(self) -> bool:
        """Memory format."""


def model_of(chosen: Described, *, image_shape: Sequence[int], num_classes: int, key: str) -> ModelSpec:
    """Return the description of a base classifier.

    Raises:
        ConfigError: a value is not valid.
    """
    options = {
        "architecture": chosen.architecture,
        "image_shape": tuple(image_shape),
        "num_classes": num_classes,
        "normalisation": normalisation_of(chosen.normalisation, key=key),
        "numeric_type": chosen.numeric_type,
        "channels_last": chosen.channels_last,
    }
    return make(ModelSpec, options, key)


def normalisation_of(options: Mapping[str, Any] | None, *, key: str) -> Normalisation | None:
    """Return the first layer of a base classifier; None for none.

    Raises:
        ConfigError: a value is not valid.
    """
    return make(Normalisation, options, f"{key}.normalisation") if options else None


def recipe_of(options: Mapping[str, Any], *, key: str) -> Recipe:
    """Return a training recipe.

    Raises:
        ConfigError: unknown, missing or bad option.
    """
    return make(Recipe, options, key)
