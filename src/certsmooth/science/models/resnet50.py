"""Torchvision's ResNet-50, for ImageNet."""

from __future__ import annotations

from typing import Final

from torch import nn

from certsmooth._internal.extras import optional_libraries
from certsmooth.science.models import check_images

IMAGES: Final = {"smallest": 32, "channels": 3}


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for (3, h, w) images of at least 32x32 pixels."""
    check_images("resnet50", image_shape, **IMAGES)
    with optional_libraries():
        from torchvision.models import resnet50  # here, as it takes seconds

    network: nn.Module = resnet50(num_classes=num_classes)
    return network
