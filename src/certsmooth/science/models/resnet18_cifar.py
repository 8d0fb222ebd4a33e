"""Torchvision's ResNet-18 with the stem that suits small images: 3x3, stride 1, no max-pool."""

from __future__ import annotations

from typing import Final

from torch import nn

from certsmooth._internal.extras import optional_libraries
from certsmooth.science.models import check_images

IMAGES: Final = {"smallest": 8}


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for (c, h, w) images of at least 8x8 pixels."""
    check_images("resnet18_cifar", image_shape, **IMAGES)
    with optional_libraries():
        from torchvision.models import resnet18  # here, as it takes seconds

    network: nn.Module = resnet18(num_classes=num_classes)
    stem = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = stem
    network.maxpool = nn.Identity()
    return network
