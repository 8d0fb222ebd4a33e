"""One constant sigma for every image (Cohen et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from certsmooth.checks import check_number
from certsmooth.data import Images
from certsmooth.sigma import DrawNoise


@dataclass(frozen=True)
class Policy:
    """The constant policy.

    Attributes:
        sigma: > 0, in pixel coordinates [0, 1].
        samples: it draws no noise.
        semi_elasticity: a constant has 0.
    """

    sigma: float

    samples = 0
    semi_elasticity = 0.0
    uses_model = False
    uses_training_images = False

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, above=0)

    @property
    def sigma0(self) -> float:
        """The constant."""
        return self.sigma

    def fit(self, images: Images) -> Policy:
        """Return the policy itself: it does not depend on the training images."""
        return self

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        sigma: Float[Tensor, " b"],
        draw: DrawNoise,
    ) -> Float[Tensor, " b"]:
        """Return ``sigma`` as it is, float64; neither the model nor the noise is used."""
        return sigma.detach().to(torch.float64)
