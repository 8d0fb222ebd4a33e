"""Augmentation with noise, usually Gaussian: cross entropy at one noisy copy (Cohen et al. 2019, Section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float

from certsmooth.science.objectives import Batch, TrainingObjective

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class GaussianAugmentation(TrainingObjective):
    """Cross entropy at x + sigma_x eps, with eps of the training's noise; it has no options."""

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        return batch.cross_entropies(model(batch.images + batch.noise(1)[0]))
