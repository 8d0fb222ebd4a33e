"""Standard training: cross entropy of the images as they are, without noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from certsmooth.science.objectives import DrawSamples


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Cross entropy at x; it has no options, and ignores sigma and noise.

    The baseline that training with noise is measured against, and the teacher that labels unlabelled images for
    self-training (SmoothAdv, Section 4.2).
    """

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
        return F.cross_entropy(model(images), labels, reduction="none")
