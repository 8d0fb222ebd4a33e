"""One constant sigma for every image (Cohen et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Float

from certsmooth.science.sigma import DrawNoise, SigmaPolicy

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class FixedSigma(SigmaPolicy):
    """The constant policy.

    Attributes:
        sigma: > 0, in pixel coordinates [0, 1].
        factor: > 0; the constant is factor times sigma (C of IDRS, Appendix E.6.3).
    """

    label: ClassVar[str] = "FS"
    legend: ClassVar[str] = "one fixed sigma"

    sigma: Annotated[float, Gt(0)]
    factor: Annotated[float, Gt(0)] = 1.0

    @property
    def sigma0(self) -> float:
        """The constant."""
        return self.factor * self.sigma

    @property
    def semi_elasticity(self) -> float:
        """That of a constant: 0."""
        return 0.0

    def constant_within(self, images: Float[Tensor, " b *shape"]) -> Float[Tensor, " b"]:
        """Return infinity."""
        return torch.full((len(images),), torch.inf, dtype=torch.float64)

    def _choose(
        self, model: nn.Module, images: Float[Tensor, " b *shape"], sigma: Float[Tensor, " b"], draw: DrawNoise
    ) -> Float[Tensor, " b"]:
        return sigma
