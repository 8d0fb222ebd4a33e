"""One constant sigma for every image (Cohen et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from certsmooth._internal.checks import store_number
from certsmooth.science.datasets import Images
from certsmooth.science.sigma import DrawNoise


@dataclass(frozen=True)
class Policy:
    """The constant policy.

    Attributes:
        sigma: > 0, in pixel coordinates [0, 1].
        factor: > 0; the constant is factor times sigma (C of IDRS, Appendix E.6.3).
        samples: it draws no noise.
        semi_elasticity: a constant has 0.
    """

    sigma: float
    factor: float = 1.0

    samples = 0
    semi_elasticity = 0.0
    uses_model = False
    uses_training_images = False

    def __post_init__(self) -> None:
        store_number(self, "sigma", above=0)
        store_number(self, "factor", above=0)

    @property
    def sigma0(self) -> float:
        """The constant."""
        return self.factor * self.sigma

    def fit(self, images: Images, labels: Int[np.ndarray, " n"] | None = None) -> Policy:
        """Return the policy itself: it does not depend on the training images."""
        return self

    def constant_within(self, images: Float[Tensor, " b *shape"]) -> Float[Tensor, " b"]:
        """Return infinity."""
        return torch.full((len(images),), torch.inf, dtype=torch.float64)

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        sigma: Float[Tensor, " b"],
        draw: DrawNoise,
    ) -> Float[Tensor, " b"]:
        """Return ``sigma`` as it is, float64; neither the model nor the noise is used."""
        return sigma.detach().to(torch.float64)
