"""Training objectives: what training minimises, given one sigma per example; one file each.

A member module defines one frozen dataclass, a subclass of `TrainingObjective`; its fields are the options that
params.yaml may give.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float, Int

from certsmooth._internal.options import Member
from certsmooth.science.soft import scaled

if TYPE_CHECKING:
    from torch import Tensor, nn

_BITS = 24  # of a uniform number

DrawSamples = Callable[[int], "Float[Tensor, 'm b *shape']"]
"""Number of samples m -> standard noise (sigma = 1): m samples for each image of the batch, with the device and dtype
of the images; each call draws new ones. The law is a member of `certsmooth.science.noise`, chosen by the training."""


@dataclass(frozen=True)
class Batch:
    """What an objective is about.

    Attributes:
        images: without noise, pixel range [0, 1].
        labels: in 0 .. k - 1.
        sigma: noise level of each example, pixel coordinates, float64.
        draw: where all randomness comes from.
        epoch: from 0; an attack radius may grow with it.
        label_smoothing: share of each label that is spread evenly over all classes, in [0, 1).
    """

    images: Float[Tensor, " b *shape"]
    labels: Int[Tensor, " b"]
    sigma: Float[Tensor, " b"]
    draw: DrawSamples
    epoch: int
    label_smoothing: float = 0.0

    def cross_entropies(self, logits: Float[Tensor, "*m b k"]) -> Float[Tensor, "*m b"]:
        """Return the cross entropy of each example with its label, in the dtype of the logits."""
        labels = self.labels.expand(logits.shape[:-1])
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, -2), labels.flatten(), reduction="none", label_smoothing=self.label_smoothing
        )
        return losses.view(labels.shape)

    def noise(self, samples: int) -> Float[Tensor, "m b *shape"]:
        """Draw new noise: some samples for each image, scaled by its sigma, in the dtype of the images."""
        return scaled(self.draw(samples), self.sigma)

    def uniforms(self, count: int) -> Float[Tensor, "m b"]:
        """Draw some numbers for each example, uniform on (0, 1) up to 2^-24, float64.

        They are made of the signs of new noise, which are fair coins: the law is symmetric, its numbers independent.
        """
        wanted = count * _BITS
        noise = self.draw(math.ceil(wanted / self.images[0].numel()))
        signs = (noise > 0).flatten(2).transpose(0, 1).flatten(1)[:, :wanted].to(torch.float64)
        places = 0.5 ** torch.arange(1, _BITS + 1, dtype=torch.float64, device=signs.device)
        return (signs.view(-1, count, _BITS) @ places + places[-1] / 2).T


@dataclass(frozen=True)
class TrainingObjective(Member, ABC):
    """Base of the objectives.

    Attributes:
        uses_noise: whether it uses noise; a literal in the member's file, where it does not.
    """

    uses_noise: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return one loss per example, differentiable in the model's parameters; the loop takes the mean.

        Args:
            model: base classifier in the mode the loop wants (training mode), images in, logits [b, k] out.
            batch: images, labels, sigma and noise.

        Raises:
            ModelError: the model returned something else than logits [b, k], k >= 2, or such that no loss is finite.
        """


BASE = TrainingObjective
