"""What policies share that search for the sigma of an image by asking the base classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from certsmooth._internal.checks import store_number
from certsmooth.errors import ConfigError
from certsmooth.science.datasets import Images


@dataclass(frozen=True, kw_only=True)
class Search:
    """Base of these policies.

    Attributes:
        sigma: sigma_0, in pixel coordinates [0, 1], in [lower, upper].
        lower: smallest sigma; what is below is projected to it.
        upper: largest sigma.
        semi_elasticity: None, nothing is known.
    """

    sigma: float
    lower: float = 0.01
    upper: float = 2.0

    semi_elasticity = None
    uses_model = True
    uses_training_images = False

    def __post_init__(self) -> None:
        for name in ("sigma", "lower", "upper"):
            store_number(self, name, above=0)
        if self.lower >= self.upper:
            raise ConfigError(f"lower: {self.lower}; must be below upper, which is {self.upper}")
        if not self.lower <= self.sigma <= self.upper:
            bounds = f"[{self.lower}, {self.upper}]"
            raise ConfigError(f"sigma: {self.sigma}; must be in [lower, upper] = {bounds}")

    @property
    def sigma0(self) -> float:
        """sigma_0."""
        return self.sigma

    def fit(self, images: Images, labels: Int[np.ndarray, " n"] | None = None) -> Self:
        """Return the policy itself: it does not depend on the training images."""
        return self

    def constant_within(self, images: Float[Tensor, " b *shape"]) -> Float[Tensor, " b"]:
        """Return 0: nothing is known."""
        return torch.zeros(len(images), dtype=torch.float64)
