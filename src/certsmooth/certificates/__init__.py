"""Certificates: pure functions from class counts to a prediction and a radius, one file each.

A member module defines ``certify(selection, estimation, sigma, *, alpha) -> Bound`` and
``MAX_SEMI_ELASTICITY: float``, the largest semi-elasticity of sigma(x) for which its theorem holds (0 where the
theorem is about one constant sigma).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Guarantee = Literal["global", "memory", "none"]
"""What a certificate promises: ``global`` holds at any time on any device; ``memory`` holds within the stored
session, in that order; ``none``: reported by some papers, not proved."""

ABSTAIN = -1


@dataclass(frozen=True)
class Bound:
    """Certificates of N images.

    Attributes:
        predict: int64 [N], the class, or -1 (abstain).
        radius: float64 [N], in pixel coordinates [0, 1]; 0 where the prediction abstains.
        p_a_lower: float64 [N], lower confidence bound on the probability of the selected class.
    """

    predict: Int[np.ndarray, " N"]
    radius: Float[np.ndarray, " N"]
    p_a_lower: Float[np.ndarray, " N"]
