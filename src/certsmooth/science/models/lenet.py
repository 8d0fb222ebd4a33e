"""LeNet-5 for MNIST (LeCun et al. 1998) with today's usual ReLU, max-pool and fully connected third layer."""

from __future__ import annotations

from typing import Final

from torch import nn

from certsmooth.science.models import check_images

IMAGES: Final = {"smallest": 28, "largest": 28}


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for (c, 28, 28) images."""
    check_images("lenet", image_shape, **IMAGES)
    return nn.Sequential(
        nn.Conv2d(image_shape[0], 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )
