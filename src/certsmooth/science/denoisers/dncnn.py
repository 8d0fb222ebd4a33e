"""DnCNN (Zhang, Zuo, Chen, Meng, Zhang 2017, "Beyond a Gaussian denoiser"): convolutions that estimate the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from certsmooth.science.denoisers import Denoiser
from certsmooth.science.models import check_images

if TYPE_CHECKING:
    from torch import nn


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

    def check_shape(self, image_shape: tuple[int, ...]) -> None:
        """Raise unless it takes images of a shape; see `Denoiser.check_shape`."""
        check_images("dncnn", image_shape, smallest=1)

    def build(self, image_shape: tuple[int, ...]) -> nn.Module:
        """Build it; see `Denoiser.build`."""
        from torch import nn

        from certsmooth.science.denoisers._residual import Residual

        self.check_shape(image_shape)
        colours, width = image_shape[0], self.channels
        body: list[nn.Module] = [nn.Conv2d(colours, width, 3, padding=1), nn.ReLU()]
        for _ in range(self.layers - 2):
            body += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        return Residual(nn.Sequential(*body, nn.Conv2d(width, colours, 3, padding=1, bias=False)))
