"""Batches on the device: where images come from, and augmentation without a loop over images."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from certsmooth.science.datasets import Split

ImageSource = Callable[[Int[Tensor, " b"]], Float[Tensor, " b *shape"]]
"""Positions in a split, on the device -> its images there, float32."""


def image_source(split: Split, device: torch.device) -> ImageSource:
    """Return where the images of a split are read from.

    A split in memory is copied to the device once, in its own type (uint8 images stay uint8); any other is
    read by `Split.batch`. Both give the same float32 images.
    """
    if not isinstance(split.images, np.ndarray):
        return lambda positions: split.batch(positions.cpu().numpy()).to(device)
    resident = torch.tensor(split.images, device=device)

    def read(positions: Int[Tensor, " b"]) -> Float[Tensor, " b *shape"]:
        images = resident[positions]
        return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images

    return read


def augment(
    images: Float[Tensor, "b c h w"], names: Collection[str], *, padding: int, generator: Generator
) -> Float[Tensor, "b c h w"]:
    """Return augmented images; see `certsmooth.science.training.Recipe` for the names."""
    if "resized_crop" in names:
        images = random_resized_crop(images, generator=generator)
    if "crop" in names:
        images = random_crop(images, padding=padding, generator=generator)
    if "flip" in names:
        images = random_flip(images, generator=generator)
    return images


def random_resized_crop(images: Float[Tensor, "b c h w"], *, generator: Generator) -> Float[Tensor, "b c h w"]:
    """Cut a part out of each image, and resize it to the old size (bilinear, not antialiased).

    Area and ratio of the sides are those of ImageNet recipes: 8 to 100 % of the image, uniform, and 3/4 to 4/3, uniform
    in the logarithm. A part that would be wider or higher than the image is as wide or high as that.
    """
    uniform = torch.rand(4, len(images), generator=generator, device=images.device, dtype=images.dtype)
    area, ratio = 0.08 + 0.92 * uniform[0], torch.exp((2 * uniform[1] - 1) * math.log(4 / 3))
    width, height = ((area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1))  # of the image's
    centre_x, centre_y = (2 * uniform[2] - 1) * (1 - width), (2 * uniform[3] - 1) * (1 - height)
    zero = torch.zeros_like(width)
    rows = torch.stack([torch.stack([width, zero, centre_x], 1), torch.stack([zero, height, centre_y], 1)], 1)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_crop(images: Float[Tensor, "b c h w"], *, padding: int, generator: Generator) -> Float[Tensor, "b c h w"]:
    """Pad each image with zeros and cut its old size out at a place of its own, uniform over all places."""
    b, _, h, w = images.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, b), generator=generator, device=images.device)
    places = F.pad(images, (padding,) * 4).unfold(2, h, 1).unfold(3, w, 1)  # [b, c, top, left, h, w]
    return places[torch.arange(b, device=images.device), :, top, left]


def random_flip(images: Float[Tensor, "b c h w"], *, generator: Generator) -> Float[Tensor, "b c h w"]:
    """Mirror each image left to right with probability 1/2."""
    flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
