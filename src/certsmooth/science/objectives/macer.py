"""MACER: training for a large certified radius, without attacks (Zhai et al. 2020; DDRS, Section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float

from certsmooth.science.objectives import Batch, TrainingObjective
from certsmooth.science.soft import mean_log_probabilities, noisy_logits, quantile_gap

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class MACER(TrainingObjective):
    """-log G(x)_y + weight * sigma_x / 2 * max(gamma - (Phi^-1(p_A) - Phi^-1(p_B)), 0) [argmax p = y].

    G(x) is the mean over the noise samples of softmax(logits), p that of softmax(beta * logits) at the same samples;
    A = y and B are the top two classes of p. The second term is 0 where p gives another class than y. sigma_x / 2
    times the gap of the quantiles is the certified radius under Gaussian noise, so the term is weight times a hinge of
    the radius. This is Zhai et al.'s objective; DDRS prints it without the factor sigma, (weight / 2) * max(gamma - 2 R
    / sigma, 0).

    The authors' program leaves out the examples whose gap exceeds gamma or is not finite, which has the gradient of the
    hinge, and takes log(G_y + 1e-10), whose gradient vanishes where G_y does. Here all is computed from float64 log
    probabilities: value and gradient are finite for logits up to 1e30 (`certsmooth.science.soft.quantile_gap`).

    Attributes:
        samples: k, at least 2; DDRS uses 64.
        weight: lambda, at least 0.
        gamma: where the hinge begins, in gap of the quantiles, above 0.
        beta: inverse temperature of the softmax in the second term, above 0.
    """

    samples: Annotated[int, Ge(2)] = 16
    weight: Annotated[float, Ge(0)] = 12.0
    gamma: Annotated[float, Gt(0)] = 8.0
    beta: Annotated[float, Gt(0)] = 16.0

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        logits = noisy_logits(model, batch.images, batch.noise(self.samples))
        log_g = mean_log_probabilities(logits)
        of_label = log_g.gather(1, batch.labels.unsqueeze(1)).squeeze(1)
        classification = -torch.lerp(of_label, log_g.mean(1), batch.label_smoothing)
        log_p = mean_log_probabilities(self.beta * logits.to(torch.float64))
        hinge = (self.gamma - quantile_gap(log_p, batch.labels)).clamp(min=0)
        hinge = torch.where(log_p.argmax(1) == batch.labels, hinge, 0.0)
        return (classification + self.weight * batch.sigma / 2 * hinge).to(logits.dtype)
