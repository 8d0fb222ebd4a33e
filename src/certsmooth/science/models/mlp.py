"""Three fully connected layers of width 20 with ReLU: the toy example of IDRS (Súkeník et al. 2022), A.1."""

from __future__ import annotations

import math
from typing import Final

from torch import nn

IMAGES: Final = None  # of any shape


def build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build it for images, or points, of any shape."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(image_shape), 20),
        nn.ReLU(),
        nn.Linear(20, 20),
        nn.ReLU(),
        nn.Linear(20, num_classes),
    )
