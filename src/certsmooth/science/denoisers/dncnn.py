"""DnCNN (Zhang, Zuo, Chen, Meng, Zhang 2017, "Beyond a Gaussian denoiser"): convolutions that estimate the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from certsmooth.science.denoisers import Denoiser
from certsmooth.science.models import check_images


@dataclass(frozen=True, kw_only=True)
class DnCNN(Denoiser):
    """Convolutions of 3x3 pixels with batch normalisation; what they find is taken away from the noisy image.

    The paper's network, which denoised smoothing uses, has 17 layers of 64 channels; the defaults are for small images.

    Attributes:
        layers: number of convolutions, at least 2.
        channels: of each but the last.
    """

    layers: Annotated[int, Ge(2)] = 6
    channels: Annotated[int, Ge(1)] = 32

    def build(self, image_shape: tuple[int, ...]) -> nn.Module:
        """Build it; see `Denoiser.build`."""
        check_images("dncnn", image_shape, smallest=1)
        colours = image_shape[0]
        inner = [
            module
            for _ in range(self.layers - 2)
            for module in (_convolution(self.channels, self.channels), nn.BatchNorm2d(self.channels), nn.ReLU())
        ]
        first = nn.Conv2d(colours, self.channels, 3, padding=1)
        return _Residual(nn.Sequential(first, nn.ReLU(), *inner, _convolution(self.channels, colours)))


def _convolution(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)


class _Residual(nn.Module):
    """The input less what the body finds in it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, noisy: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        noise: Tensor = self.body(noisy)
        return noisy - noise
