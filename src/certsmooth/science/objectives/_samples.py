"""What several objectives share: the cross entropy at each noise sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropies(logits: Float[Tensor, "m b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, "m b"]:
    """Return the cross entropy at each noise sample, in the dtype of the logits."""
    m, b = logits.shape[:2]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(m), reduction="none").view(m, b)
