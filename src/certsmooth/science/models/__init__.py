"""Architectures, one file each, and the base classifier that wraps them.

A member module defines ``build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module``: images in,
logits out, no normalisation layer and no softmax inside. It raises `ConfigError` for images of a shape that
it does not take.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from certsmooth._internal.checks import check_choice, check_integer, check_number, check_seed, store_integer
from certsmooth._internal.registry import function, names
from certsmooth._internal.storage import decode_record
from certsmooth.errors import ConfigError
from certsmooth.science.models._numerics import NumericType, numerics

__all__ = ["BaseClassifier", "ModelSpec", "Normalisation", "NumericType", "build", "numerics"]


@dataclass(frozen=True)
class Normalisation:
    """Subtract ``mean``, divide by ``std``: one value per channel, in pixel units [0, 1].

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
class ModelSpec:
    """All that is needed to build a base classifier but its weights.

    Attributes:
        architecture: a module of this package.
        image_shape: shape of one image, (c, h, w); toy data in d dimensions have (d,).
        num_classes: number of logits.
        normalisation: the first layer, or None for none.
        numeric_type: the arithmetic of the served program. That program is what is certified.
        channels_last: memory format of weights and activations; only for (c, h, w) images.

    Raises:
        ConfigError: a value is not valid; the message names the field.
    """

    architecture: str
    image_shape: tuple[int, ...]
    num_classes: int
    normalisation: Normalisation | None = None
    numeric_type: NumericType = "float32"
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_choice("architecture", self.architecture, names("models"))
        check_choice("numeric_type", self.numeric_type, get_args(NumericType))
        store_integer(self, "num_classes", minimum=2)
        if not isinstance(self.image_shape, tuple) or not self.image_shape:
            raise ConfigError(f"image_shape: {self.image_shape!r}; must be a tuple, (c, h, w) or (d,)")
        shape = tuple(check_integer("image_shape", size, minimum=1) for size in self.image_shape)
        object.__setattr__(self, "image_shape", shape)
        if self.channels_last and len(shape) != 3:
            raise ConfigError(f"channels_last: images are {shape}; only (c, h, w) images have that memory format")
        if self.normalisation is not None and len(self.normalisation.mean) != shape[0]:
            raise ConfigError(
                f"normalisation: {len(self.normalisation.mean)} channels; image_shape {shape} has {shape[0]}"
            )

    def to_dict(self) -> dict[str, object]:
        """Return the fields as values that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, object]) -> ModelSpec:
        """Return the spec of which `to_dict` gave ``fields``; tuples may have become lists.

        Raises:
            ConfigError: a field is missing, unknown, of the wrong type or not valid.
        """
        return decode_record(cls, json.dumps(fields), source="model spec", error=ConfigError)


class BaseClassifier(nn.Module):
    """Images to logits: normalisation, then the network, in the arithmetic that the spec declares.

    Made by `build`, it is trainable: weights are float32, and a ``bfloat16`` spec is trained in mixed
    precision. What is evaluated, certified and served is the copy that `freeze` returns. Arithmetic does not
    depend on an autocast region or on flags of the process around the call.

    To compile it, compile its ``network``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, network: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.network = network
        self.frozen = False
        if spec.normalisation is not None:
            shape = (-1, *(1 for _ in spec.image_shape[1:]))
            # Not persistent: the spec has them, and one fact is stored once.
            for name in ("mean", "std"):
                values = torch.tensor(getattr(spec.normalisation, name), dtype=torch.float32).view(shape)
                self.register_buffer(name, values, persistent=False)

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b k"]:
        """Return the logits.

        Args:
            images: float32 [b, *image_shape], pixels in [0, 1] plus noise.

        Returns:
            float32 [b, num_classes].

        Raises:
            ConfigError: images of another shape or type.
        """
        if images.shape[1:] != self.spec.image_shape or images.dtype != torch.float32:
            raise ConfigError(
                f"images: {images.dtype}, shape {tuple(images.shape)}; this {self.spec.architecture} takes "
                f"torch.float32 and a number of images of shape {self.spec.image_shape}"
            )
        half = self.spec.numeric_type == "bfloat16"
        mixed = torch.autocast(images.device.type, torch.bfloat16, enabled=half and not self.frozen)
        with numerics(self.spec.numeric_type), mixed:
            inputs = images if self.spec.normalisation is None else (images - self.mean) / self.std
            if half and self.frozen:
                inputs = inputs.to(torch.bfloat16)
            if self.spec.channels_last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            logits: Tensor = self.network(inputs)
            return logits.to(torch.float32)

    def freeze(self) -> BaseClassifier:
        """Return a copy that is the served program: evaluation mode, fixed weights of the declared type.

        Gradients with respect to images still flow through it. In ``bfloat16``, batch normalisation keeps its
        statistics and weights in float32, as in training.
        """
        served = copy.deepcopy(self).eval().requires_grad_(False)
        served.frozen = True
        if self.spec.numeric_type == "bfloat16":
            for module in served.network.modules():
                if not isinstance(module, nn.modules.batchnorm._BatchNorm):
                    for parameter in module.parameters(recurse=False):
                        parameter.data = parameter.data.to(torch.bfloat16)
        return served

    def train(self, mode: bool = True) -> BaseClassifier:
        """Switch between training and evaluation mode; a frozen classifier refuses training mode."""
        if mode and self.frozen:
            raise RuntimeError("a frozen classifier cannot be trained; train the one that was frozen")
        return super().train(mode)


def build(spec: ModelSpec, *, seed: int) -> BaseClassifier:
    """Build a trainable classifier with freshly initialised weights, on the CPU.

    Args:
        spec: what to build.
        seed: the weights depend on it and on the spec only; torch's global generators are left as they were.

    Raises:
        ConfigError: the seed is no whole number in 0 .. 2**63 - 1, or the architecture does not take images of that
            shape.
    """
    seed = check_seed("seed", seed)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed: that would seed the generators of every GPU as well.
        torch.default_generator.manual_seed(seed)
        network: nn.Module = function("models", spec.architecture, "build")(spec.image_shape, spec.num_classes)
    if spec.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return BaseClassifier(spec, network)
