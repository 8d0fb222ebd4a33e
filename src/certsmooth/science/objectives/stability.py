"""Stability training with noise (Li, Chen, Wang, Carin 2018, arXiv:1809.03113; the idea is Zheng et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float

from certsmooth.science.objectives import Batch, TrainingObjective
from certsmooth.science.soft import noisy_logits

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Stability(TrainingObjective):
    """CE(F(x + delta), y) + weight * H(F(x), F(x + delta)), with F the softmax and H(p, q) = -sum_c p_c log q_c.

    One noise sample per image, delta ~ N(0, sigma_x^2 I). The second term pulls the prediction at the noisy image
    to the one at the image itself; gradients flow through both predictions.

    Published versions differ in where the first term stands and in the distance:

    - Zheng et al. 2016, and what Jeong and Shin 2020 compare with as Li et al.: cross entropy at the image without
      noise, H as here; Jeong and Shin use weight 1 or 2.
    - The program of Li et al.: cross entropy at the image that the first term gets, weight 1, and as target of the
      second term the logits themselves where H wants probabilities. ADRE speaks of the difference of logits.
    - Yang et al. 2020 (Randomized Smoothing of All Shapes and Sizes), also for Li et al.: first term at a noisy copy;
      6 * KL between the predictions at two independent noisy copies.

    Here the first term stands at the noisy copy, which is what the smoothed classifier classifies, so that weight 0 is
    Gaussian augmentation and the weight measures only the stability term. With the first term at the image itself
    weight 0 would be training without noise. H differs from KL(F(x) || F(x + delta)) by the entropy of F(x), so it also
    rewards a confident F(x).

    Both images go through the model in one pass: where it has batch normalisation, its statistics in training and
    those that it keeps are of the same mixture of images with and without noise. With weight 0 no image without noise
    is passed.

    Attributes:
        weight: lambda, at least 0.
    """

    weight: Annotated[float, Ge(0)]

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        noise = batch.noise(1)
        if self.weight == 0:
            return batch.cross_entropies(noisy_logits(model, batch.images, noise)[0])
        clean, noisy = noisy_logits(model, batch.images, torch.cat([torch.zeros_like(noise), noise]))
        stability = torch.nn.functional.cross_entropy(noisy, clean.softmax(1), reduction="none")
        return batch.cross_entropies(noisy) + self.weight * stability
