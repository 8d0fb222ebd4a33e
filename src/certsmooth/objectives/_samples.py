"""What several objectives share: the noise samples of a batch, and the cross entropy at each of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from certsmooth.soft import scaled


def draw_noise(
    images: Float[Tensor, " b *shape"], sigma: Float[Tensor, " b"], samples: int, generator: Generator
) -> Float[Tensor, "m b *shape"]:
    """Return ``samples`` noise samples of each image, N(0, sigma^2); one sample has the values of the gaussian one.

    Args:
        images: for their shape, device and dtype.
        sigma: noise level of each image, pixel coordinates [0, 1].
        samples: m.
        generator: on the device of the images.
    """
    shape = (samples, *images.shape)
    return scaled(torch.randn(shape, generator=generator, device=images.device, dtype=images.dtype), sigma)


def cross_entropies(logits: Float[Tensor, "m b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, "m b"]:
    """Return the cross entropy at each noise sample, in the dtype of the logits."""
    m, b = logits.shape[:2]
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat(m), reduction="none").view(m, b)
