"""Standard training: cross entropy of the images as they are, without noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float

from certsmooth.science.objectives import Batch, TrainingObjective

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Standard(TrainingObjective):
    """Cross entropy at x; it has no options, and ignores sigma and noise.

    The baseline that training with noise is measured against, and the teacher that labels unlabelled images for
    self-training (SmoothAdv, Section 4.2).
    """

    uses_noise: ClassVar[bool] = False

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        return batch.cross_entropies(model(batch.images))
