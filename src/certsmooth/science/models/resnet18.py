"""Torchvision's ResNet-18 as it is: the 7x7 stem with stride 2 and the max-pool are for ImageNet."""

from __future__ import annotations

from typing import Final

from torch import nn

from certsmooth._internal.extras import optional_libraries
from certsmooth.science.models import check_images

IMAGES: Final = {"smallest": 32, "channels": 3}


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for (3, h, w) images of at least 32x32 pixels."""
    check_images("resnet18", image_shape, **IMAGES)
    with optional_libraries():
        from torchvision.models import resnet18  # here, as it takes seconds

    network: nn.Module = resnet18(num_classes=num_classes)
    return network
