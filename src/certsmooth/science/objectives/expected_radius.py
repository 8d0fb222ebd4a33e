"""The expected certified radius as the regularisation, whatever the labels say (Feng et al. 2020, equation 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge
from jaxtyping import Float

from certsmooth.science.objectives import Batch, TrainingObjective
from certsmooth.science.soft import mean_log_probabilities, noisy_logits, quantile_gap

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ExpectedRadius(TrainingObjective):
    """Mean_j CE(F(x + delta_j), y) - weight * (Phi^-1(G(x)_A) - Phi^-1(G(x)_B)), A and B the top two classes of G(x).

    F is the softmax and G(x) the mean of F over the k noise samples (eq. 8); both terms use the same samples. The
    second term is weight times 2 / sigma times the certified radius. With weight 0 this is Gaussian augmentation with k
    samples.

    The paper gives it as the alternative to ADRE that it found unstable: A is what the classifier says, so that
    confidence is rewarded where it is wrong as well, and training can end at a bad local minimum. With two classes
    and weight above phi(0) = 0.399, an example near the boundary on the wrong side is moved away from its label, until
    its margin m is about 2 weight^2: the gap of the quantiles grows as sqrt(8 m), the cross entropy as m.

    Value and gradient are finite for logits up to 1e30 (`certsmooth.science.soft.quantile_gap`).

    Attributes:
        weight: lambda', at least 0.
        samples: k, at least 1.
    """

    weight: Annotated[float, Ge(0)]
    samples: Annotated[int, Ge(1)] = 8

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        logits = noisy_logits(model, batch.images, batch.noise(self.samples))
        log_g = mean_log_probabilities(logits)
        reward = self.weight * quantile_gap(log_g, log_g.argmax(1))
        return batch.cross_entropies(logits).mean(0) - reward.to(logits.dtype)
