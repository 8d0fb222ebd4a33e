"""Training objectives: what training minimises, given one sigma per example; one file each.

A member module defines one frozen dataclass named ``Objective`` that follows `TrainingObjective`; its fields
are the options that params.yaml may give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn

DrawSamples = Callable[[int], Float[Tensor, "m b *shape"]]
"""Number of samples m -> standard noise (sigma = 1): m samples for each image of the batch, with the device and dtype
of the images; each call draws new ones. The law is a member of `certsmooth.science.noise`, chosen by the training."""


class TrainingObjective(Protocol):
    """An objective."""

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
        """Return one loss per example, differentiable in the model's parameters; the loop takes the mean.

        Args:
            model: base classifier in the mode the loop wants (training mode), images in, logits [b, k] out.
            images: without noise, pixel range [0, 1].
            labels: in 0 .. k - 1.
            sigma: noise level of each example, pixel coordinates, float64.
            draw: where all randomness comes from.
            epoch: from 0; an attack radius may grow with it.
        """
