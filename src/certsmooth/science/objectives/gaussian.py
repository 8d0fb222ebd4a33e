"""Augmentation with noise, usually Gaussian: cross entropy at one noisy copy (Cohen et al. 2019, Section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from certsmooth.science.objectives import DrawSamples
from certsmooth.science.soft import scaled


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Cross entropy at x + sigma_x eps, with eps of the training's noise; it has no options."""

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        labels: Int[Tensor, " b"],
        sigma: Float[Tensor, " b"],
        draw: DrawSamples,
        *,
        epoch: int,
    ) -> Float[Tensor, " b"]:
        """Return the cross entropy of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        return F.cross_entropy(model(images + scaled(draw(1), sigma)[0]), labels, reduction="none")
