"""Networks that estimate the noise; a file of its own, so that options are checked without torch."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Residual(nn.Module):
    """The input less what the body finds in it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, noisy: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the images without what the body takes for noise."""
        noise: Tensor = self.body(noisy)
        return noisy - noise
