"""MACER: training for a large certified radius, without attacks (Zhai et al. 2020; DDRS, Section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from certsmooth._internal.checks import store_integer, store_number
from certsmooth.science.objectives import DrawSamples
from certsmooth.science.soft import mean_log_probabilities, noisy_logits, quantile_gap, scaled


@dataclass(frozen=True, kw_only=True)
class Objective:
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

    samples: int = 16
    weight: float = 12.0
    gamma: float = 8.0
    beta: float = 16.0

    def __post_init__(self) -> None:
        store_integer(self, "samples", minimum=2)
        store_number(self, "weight", minimum=0)
        store_number(self, "gamma", above=0)
        store_number(self, "beta", above=0)

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        labels: Int[Tensor, " b"],
        sigma: Float[Tensor, " b"],
        draw: DrawSamples,
        *,
        epoch: int,
    ) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`.

        Raises:
            ModelError: the model returned something else than finite logits, k >= 2.
        """
        logits = noisy_logits(model, images, scaled(draw(self.samples), sigma))
        log_g = mean_log_probabilities(logits)
        classification = -log_g.gather(1, labels.unsqueeze(1)).squeeze(1)
        log_p = mean_log_probabilities(self.beta * logits.to(torch.float64))
        hinge = (self.gamma - quantile_gap(log_p, labels)).clamp(min=0)
        hinge = torch.where(log_p.argmax(1) == labels, hinge, 0.0)
        return (classification + self.weight * sigma / 2 * hinge).to(logits.dtype)
