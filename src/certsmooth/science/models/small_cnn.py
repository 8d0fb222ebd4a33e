"""A small convolutional network for the 8x8 digits: three convolutions, two linear layers."""

from __future__ import annotations

from typing import Final

from torch import nn

from certsmooth.science.models import check_images

IMAGES: Final = {"smallest": 2}


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for (c, h, w) images of at least 2x2 pixels."""
    check_images("small_cnn", image_shape, **IMAGES)
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * ((height + 1) // 2) * ((width + 1) // 2), 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )
