"""A classifier with a denoiser in front of it, as one network (see `certsmooth.science.denoisers`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from certsmooth.science.models import Normalisation


class Denoised(nn.Module):
    """Images with noise to logits: the denoiser, normalisation, the classifier.

    The classifier is fixed: its weights want no gradient, and it stays in evaluation mode while the denoiser is trained
    through it.
    """

    def __init__(self, denoiser: nn.Module, classifier: nn.Module, normalisation: Normalisation | None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.classifier = classifier.eval().requires_grad_(False)
        self.is_normalised = normalisation is not None
        if normalisation is not None:  # the model's spec has the values, so no checkpoint needs them
            for name in ("mean", "std"):
                values = torch.tensor(getattr(normalisation, name), dtype=torch.float32).view(-1, 1, 1)
                self.register_buffer(name, values, persistent=False)

    def forward(self, noisy: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits of images with noise."""
        images: Tensor = self.denoiser(noisy)
        if self.is_normalised:
            images = (images - self.get_buffer("mean").to(images.dtype)) / self.get_buffer("std").to(images.dtype)
        logits: Tensor = self.classifier(images)
        return logits

    def train(self, mode: bool = True) -> Denoised:
        """Switch the denoiser between training and evaluation mode."""
        super().train(mode)
        self.classifier.eval()
        return self
