"""The base classifier: normalisation and a network, in a declared arithmetic."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from certsmooth.errors import ConfigError
from certsmooth.science.models._numerics import numerics

if TYPE_CHECKING:
    from certsmooth.science.models import ModelSpec


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
        self.is_normalised = spec.normalisation is not None and spec.denoiser is None  # else after the denoiser
        if self.is_normalised:
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
            inputs = (images - self.mean) / self.std if self.is_normalised else images
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
