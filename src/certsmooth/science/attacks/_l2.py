"""Batches of vectors in l2: norms, directions, and the ball of allowed perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float

if TYPE_CHECKING:
    from torch import Tensor


def per_example(values: Float[Tensor, " b"], like: Float[Tensor, " b *shape"]) -> Float[Tensor, " b *ones"]:
    """Return one value per example in a shape that broadcasts over the example, in the dtype of ``like``."""
    return values.to(like.dtype).view(-1, *(1,) * (like.ndim - 1))


def norms(vectors: Float[Tensor, " b *shape"]) -> Float[Tensor, " b"]:
    """Return the l2 norm of each example."""
    largest, rest = _split(vectors)
    lengths: Tensor = largest * torch.linalg.vector_norm(rest.flatten(1), dim=1)
    return lengths


def unit(vectors: Float[Tensor, " b *shape"]) -> Float[Tensor, " b *shape"]:
    """Return each example divided by its l2 norm; a zero vector stays zero."""
    _, rest = _split(vectors)
    lengths = torch.linalg.vector_norm(rest.flatten(1), dim=1)
    return rest / per_example(lengths.clamp(min=1), rest)  # below 1 is only that of a zero vector


def _split(vectors: Float[Tensor, " b *shape"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b *shape"]]:
    """Return the largest magnitude of each example, and the example divided by it.

    The gradients of a confident classifier are so small that their squares underflow in float32.
    """
    largest = vectors.flatten(1).abs().amax(1)
    return largest, vectors / per_example(torch.where(largest > 0, largest, 1), vectors)


def project(
    points: Float[Tensor, " b *shape"], images: Float[Tensor, " b *shape"], *, epsilon: float, clamp: bool
) -> Float[Tensor, " b *shape"]:
    """Return the points moved into the l2 ball of radius epsilon around their images and, if wanted, into [0, 1].

    Clamping first and then shrinking the perturbation keeps both bounds: the box is convex and contains the image, so
    the whole segment from the image to the clamped point lies in it.

    Args:
        points: perturbed images.
        images: centres of the balls; in [0, 1] if ``clamp``.
        epsilon: radius, pixel coordinates.
        clamp: whether pixels are kept in [0, 1].
    """
    delta = (points.clamp(0, 1) if clamp else points) - images
    lengths = norms(delta)
    return images + delta * per_example((epsilon / lengths).clamp(max=1), delta)
