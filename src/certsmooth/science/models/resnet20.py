"""ResNet-20 for CIFAR-10 (He et al. 2016)."""

from __future__ import annotations

from typing import Final

from torch import nn

from certsmooth.science.models import check_images
from certsmooth.science.models._resnet_cifar import cifar_resnet

IMAGES: Final = {"smallest": 8}


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for (c, h, w) images of at least 8x8 pixels."""
    check_images("resnet20", image_shape, **IMAGES)
    return cifar_resnet(20, image_shape, num_classes)
