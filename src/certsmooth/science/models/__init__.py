"""Architectures, one file each, and the base classifier that wraps them.

A member module defines ``build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module``: images in,
logits out, no normalisation layer and no softmax inside. It raises `ConfigError` for images of a shape that
it does not take. What it takes may stand there as ``IMAGES: Final``, arguments of `check_images`, or None
for any shape: a literal that is read without importing the file, so that a check need not build the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import torch

from certsmooth._internal.checks import check_choice, check_integer, check_number, check_seed, store_integer
from certsmooth._internal.external import Architecture, ExternalArchitecture
from certsmooth._internal.later import LATER
from certsmooth._internal.registry import function, literal, member, names
from certsmooth.errors import ConfigError
from certsmooth.science.models._numerics import NumericType, numerics

if TYPE_CHECKING:
    from torch import nn

    from certsmooth.science.models._classifier import BaseClassifier

__all__ = [
    "BaseClassifier",
    "DenoiserSpec",
    "ExternalArchitecture",
    "ModelSpec",
    "Normalisation",
    "NumericType",
    "build",
    "check_images",
    "check_shape",
    "numerics",
]


def __getattr__(name: str) -> object:
    if name == "BaseClassifier":  # when it is first asked for: its base class loads torch
        from certsmooth.science.models._classifier import BaseClassifier

        return BaseClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True)
class Normalisation:
    """Subtract ``mean``, divide by ``std``: one value per channel, or one for all, in pixel units [0, 1].

    Raises:
        ConfigError: the two differ in length, a value is not finite, or a ``std`` is not positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ConfigError(f"normalisation: {len(self.mean)} means, {len(self.std)} stds; one of each per channel")
        object.__setattr__(self, "mean", tuple(check_number("normalisation.mean", value) for value in self.mean))
        std = tuple(check_number("normalisation.std", value, above=0) for value in self.std)
        object.__setattr__(self, "std", std)


@dataclass(frozen=True)
class DenoiserSpec:
    """A denoiser in front of a network.

    Attributes:
        name: a member of `certsmooth.science.denoisers`.
        options: of the member.

    Raises:
        ConfigError: there is no such member.
    """

    name: str
    options: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_choice("denoiser", self.name, names("denoisers"))


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a base classifier but its weights.

    Attributes:
        architecture: a module of this package, or an `ExternalArchitecture`.
        image_shape: shape of one image, (c, h, w); toy data in d dimensions have (d,).
        num_classes: number of logits.
        normalisation: the layer before the network, or None for none.
        numeric_type: the arithmetic of the served program. That program is what is certified.
        channels_last: memory format of weights and activations; only for (c, h, w) images.
        denoiser: before the normalisation; then the network is fixed, and training is that of the denoiser.

    Raises:
        ConfigError: a value is not valid; the message names the field.
    """

    architecture: Architecture
    image_shape: tuple[int, ...]
    num_classes: int
    normalisation: Normalisation | None = None
    numeric_type: NumericType = "float32"
    channels_last: bool = False
    denoiser: DenoiserSpec | None = field(default=None, metadata={LATER: None})

    def __post_init__(self) -> None:
        if not isinstance(self.architecture, ExternalArchitecture):
            check_choice("architecture", self.architecture, names("models"))
        check_choice("numeric_type", self.numeric_type, get_args(NumericType))
        store_integer(self, "num_classes", minimum=2)
        if not isinstance(self.image_shape, tuple) or not self.image_shape:
            raise ConfigError(f"image_shape: {self.image_shape!r}; must be a tuple, (c, h, w) or (d,)")
        shape = tuple(check_integer("image_shape", size, minimum=1) for size in self.image_shape)
        object.__setattr__(self, "image_shape", shape)
        if self.channels_last and len(shape) != 3:
            raise ConfigError(f"channels_last: images are {shape}; only (c, h, w) images have that memory format")
        if self.normalisation is not None and len(self.normalisation.mean) not in (1, shape[0]):
            raise ConfigError(
                f"normalisation: {len(self.normalisation.mean)} channels; image_shape {shape} has {shape[0]}"
            )


def check_shape(spec: ModelSpec) -> None:
    """Raise unless an architecture takes images of the spec's shape; nothing is built where its file says ``IMAGES``.

    Raises:
        ConfigError: it does not.
    """
    if isinstance(spec.architecture, ExternalArchitecture):
        from certsmooth.science.models._external import check_state

        check_state(build(spec, seed=0), build(spec, seed=1))
        return
    takes: Any = literal("models", spec.architecture, "IMAGES", default="unknown")
    if takes == "unknown":
        build(spec, seed=0)
    elif takes is not None:
        check_images(spec.architecture, spec.image_shape, **takes)


def build(spec: ModelSpec, *, seed: int) -> BaseClassifier:
    """Build a trainable classifier with freshly initialised weights, on the CPU.

    Args:
        spec: what to build.
        seed: the weights depend on it and on the spec only; torch's global generators are left as they were.

    Raises:
        ConfigError: the seed is no whole number in 0 .. 2**63 - 1, the architecture does not take images of that
            shape, or one of another program cannot be imported or is no classifier.
    """
    from certsmooth.science.models._classifier import BaseClassifier

    seed = check_seed("seed", seed)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed: that would seed the generators of every GPU as well.
        torch.default_generator.manual_seed(seed)
        network = _network(spec)
    if spec.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return BaseClassifier(spec, network)


def _network(spec: ModelSpec) -> nn.Module:
    network = _without_denoiser(spec)
    if spec.denoiser is None:
        return network
    from certsmooth.science.models._denoised import Denoised

    denoiser = member("denoisers", spec.denoiser.name)(**spec.denoiser.options)
    return Denoised(denoiser.build(spec.image_shape), network, spec.normalisation)


def _without_denoiser(spec: ModelSpec) -> nn.Module:
    if isinstance(spec.architecture, ExternalArchitecture):
        from certsmooth.science.models._external import build_external

        return build_external(spec.architecture, spec.image_shape, spec.num_classes)
    network: nn.Module = function("models", spec.architecture, "build")(spec.image_shape, spec.num_classes)
    return network


def check_images(
    architecture: str,
    image_shape: tuple[int, ...],
    *,
    smallest: int,
    channels: int | None = None,
    largest: int | None = None,
) -> None:
    """Raise ConfigError unless an architecture takes images of a shape.

    Args:
        architecture: its name, for the message.
        image_shape: shape of one image.
        smallest: least height and width that it takes, in pixels.
        channels: number of channels that it takes; None for any.
        largest: greatest height and width that it takes; None for no limit.
    """
    if (
        len(image_shape) == 3
        and channels in (None, image_shape[0])
        and all(smallest <= side and (largest is None or side <= largest) for side in image_shape[1:])
    ):
        return
    size = f"of {smallest}x{smallest}" if largest == smallest else f"of at least {smallest}x{smallest}"
    first = "c" if channels is None else channels
    raise ConfigError(f"image_shape: {architecture} takes ({first}, h, w) images {size} pixels; found {image_shape}")
