"""Gaussian augmentation: cross entropy at one noisy copy of each image (Cohen et al. 2019, Section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Cross entropy at x + sigma_x eps, with eps standard normal; it has no options."""

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        labels: Int[Tensor, " b"],
        sigma: Float[Tensor, " b"],
        generator: Generator,
        *,
        epoch: int,
    ) -> Float[Tensor, " b"]:
        """Return the cross entropy of each example; see `certsmooth.objectives.TrainingObjective`."""
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        scale = sigma.to(images.dtype).view(-1, *(1,) * (images.ndim - 1))
        return F.cross_entropy(model(images + scale * noise), labels, reduction="none")
