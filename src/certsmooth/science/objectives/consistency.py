"""Consistency regularisation (Jeong and Shin 2020, arXiv:2006.04062, Section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float

from certsmooth.science.objectives import Batch, TrainingObjective
from certsmooth.science.soft import divergence, mean_log_probabilities, noisy_logits

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Consistency(TrainingObjective):
    """Mean_j CE(F(x + delta_j), y) + weight * mean_j KL(G(x) || F(x + delta_j)) + entropy_weight * H(G(x)).

    F is the softmax and G(x) the mean of F over the m noise samples; all terms use the same samples, and gradients flow
    through G as well. The second term asks for the same prediction at every noisy copy, the third for a confident one:
    without it, a flat prediction is the most consistent. With equal weights both are weight times the mean cross
    entropy between G(x) and F(x + delta_j). With weights 0 this is Gaussian augmentation with m samples.

    The authors' program cuts each batch into m parts and makes one optimiser step for each; here all parts are one
    step. They also add the regularisation to SmoothAdv, which is not here.

    Attributes:
        samples: m, at least 1; the paper uses 2.
        weight: lambda, at least 0; the paper uses 5, 10 and 20.
        entropy_weight: eta, at least 0; the paper uses 0.5.
    """

    samples: Annotated[int, Ge(1)] = 2
    weight: Annotated[float, Ge(0)] = 10.0
    entropy_weight: Annotated[float, Ge(0)] = 0.5

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        logits = noisy_logits(model, batch.images, batch.noise(self.samples))
        log_g = mean_log_probabilities(logits)
        disagreement = divergence(log_g, logits.to(torch.float64).log_softmax(2)).mean(0)
        entropy = -(log_g.exp() * log_g).sum(1)
        penalty = self.weight * disagreement + self.entropy_weight * entropy
        return batch.cross_entropies(logits).mean(0) + penalty.to(logits.dtype)
