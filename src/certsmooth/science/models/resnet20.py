"""ResNet-20 for CIFAR-10 (He et al. 2016)."""

from __future__ import annotations

from torch import nn

from certsmooth.science.models._resnet_cifar import cifar_resnet


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for (c, h, w) images of at least 8x8 pixels."""
    return cifar_resnet(20, image_shape, num_classes)
