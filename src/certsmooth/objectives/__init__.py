"""Training objectives: what training minimises, given one sigma per example; one file each.

A member module defines one frozen dataclass named ``Objective`` that follows the protocol below; its fields are the
options that params.yaml may give.
"""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Float, Int
from torch import Generator, Tensor, nn


class TrainingObjective(Protocol):
    """An objective."""

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, "b *shape"],
        labels: Int[Tensor, " b"],
        sigma: Float[Tensor, " b"],
        generator: Generator,
    ) -> Float[Tensor, " b"]:
        """Return one loss per example; the loop takes the mean. All noise comes from ``generator``."""
