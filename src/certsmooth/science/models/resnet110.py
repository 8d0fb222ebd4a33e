"""ResNet-110 for CIFAR-10 (He et al. 2016) with 1x1 convolutions in its two down-sampling shortcuts (option B).

That of the program of Cohen et al. 2019, and of SmoothAdv, MACER and IDRS after it.
"""

from __future__ import annotations

from typing import Final

from torch import nn

from certsmooth.science.models import check_images
from certsmooth.science.models._resnet_cifar import cifar_resnet

IMAGES: Final = {"smallest": 8}


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for (c, h, w) images of at least 8x8 pixels."""
    check_images("resnet110", image_shape, **IMAGES)
    return cifar_resnet(110, image_shape, num_classes, projection=True)
