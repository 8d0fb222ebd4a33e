"""A ResNet of seven layers for 32x32 images on a CPU: Page's ResNet-9 (2018), half as wide, without its first block.

Its first convolution takes every second pixel, so that a forward pass costs 33 million multiplications, fewer than
ResNet-20's 41 million, in fewer and wider layers.
"""

from __future__ import annotations

from typing import Final

from jaxtyping import Float
from torch import Tensor, nn

from certsmooth.science.models import check_images

IMAGES: Final = {"smallest": 8}


class _Residual(nn.Module):
    """Two convolutions, and what they take added to what they give."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(channels, channels), *_convolution(channels, channels))

    def forward(self, inputs: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        hidden: Tensor = self.body(inputs)
        return inputs + hidden


def _convolution(channels_in: int, channels_out: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU()]


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for (c, h, w) images of at least 8x8 pixels."""
    check_images("resnet7", image_shape, **IMAGES)
    return nn.Sequential(
        *_convolution(image_shape[0], 32, kernel=4, stride=2),
        *_convolution(32, 64),
        nn.MaxPool2d(2),
        *_convolution(64, 128),
        nn.MaxPool2d(2),
        *_convolution(128, 256),
        _Residual(256),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(256, num_classes),
    )
