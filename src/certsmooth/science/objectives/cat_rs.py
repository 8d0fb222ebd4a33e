"""CAT-RS: confidence-aware training for randomized smoothing (Jeong, Kim and Shin 2023, arXiv:2212.09000)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int

from certsmooth._internal.modes import evaluation
from certsmooth.science.attacks.pgd import PGD
from certsmooth.science.objectives import Batch, TrainingObjective
from certsmooth.science.soft import divergence, mean_log_probabilities, noisy_logits

if TYPE_CHECKING:
    from torch import Tensor, nn

_SMALLEST = 1e-30  # of a standard deviation that is divided by


@dataclass(frozen=True, kw_only=True)
class CATRS(TrainingObjective):
    """L_low + weight * L_high [K = M]: easy noise for hard examples, the worst noise for those that are always right.

    With M noise samples delta_i, F the softmax, and p the share of them at which the classifier says y:

    - K is drawn from Bin(M, p), for each example.
    - L_low, bottom-K Gaussian training, is 1 / M times the sum of the max(K, 1) smallest CE(F(x + delta_i), y).
    - L_high, worst-case Gaussian training, is max_i KL(y_hat || F(x + delta*_i)), where delta*_i maximises that
      divergence at distance epsilon from delta_i: PGD on the noise, each sample for itself. The noise that it finds
      gets the mean and the standard deviation of delta_i back, so that it still looks like Gaussian noise.

    y_hat differs from the paper's. There it is what another classifier says of x, trained with Gaussian augmentation
    and smoothed with 10,000 samples beforehand; here it is G(x), the mean of F over the M samples, by the classifier
    that is trained. Gradients flow through it in L_high; the attack, in evaluation mode, takes it as given. Nothing is
    differentiated through the attack. The authors' program restores mean and standard deviation after each step of the
    attack, here it is done after the last one. It also cuts each batch into M parts, each with an optimiser step of two
    passes; here all parts are one step, of one pass over the 2 M b noisy images, whose batch statistics are of both.

    Attributes:
        samples: M, at least 2: with one, y_hat would be the prediction that is attacked. The paper uses 4, on ImageNet
            2.
        weight: lambda, at least 0; the paper uses 0.5, 1 and 2.
        epsilon: largest l2 distance of the worst noise from the noise, pixel coordinates [0, 1]; the paper uses 1.
        steps: of PGD, at least 1, each of length 2 epsilon / steps; the paper uses 4.
    """

    samples: Annotated[int, Ge(2)] = 4
    weight: Annotated[float, Ge(0)] = 1.0
    epsilon: Annotated[float, Ge(0)] = 1.0
    steps: Annotated[int, Ge(1)] = 4

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        noise = batch.noise(self.samples)
        worst = self._worst_noise(model, batch, noise)
        gaussian, adversarial = noisy_logits(model, batch.images, torch.cat([noise, worst])).chunk(2)
        log_g = mean_log_probabilities(gaussian)
        right = gaussian.argmax(2) == batch.labels
        accepted = (batch.uniforms(self.samples) < right.to(torch.float64).mean(0)).sum(0)
        low = torch.where(_smallest(gaussian, batch.labels, accepted), batch.cross_entropies(gaussian), 0.0).mean(0)
        high = divergence(log_g, adversarial.to(torch.float64).log_softmax(2)).amax(0)
        high = torch.where(accepted == self.samples, high, 0.0)
        return low + (self.weight * high).to(low.dtype)

    def _worst_noise(
        self, model: nn.Module, batch: Batch, noise: Float[Tensor, "m b *shape"]
    ) -> Float[Tensor, "m b *shape"]:
        """Return the noise at which the prediction is farthest from the smoothed one."""
        with evaluation(model), torch.no_grad():
            log_g = mean_log_probabilities(noisy_logits(model, batch.images, noise))
        target = log_g.exp().repeat(self.samples, 1)

        def disagreement(log_p: Float[Tensor, "mb k"], _: Int[Tensor, " mb"]) -> Float[Tensor, " mb"]:
            return -(target * log_p).sum(1)  # but for the entropy of the target

        points = (batch.images + noise).flatten(0, 1)
        attack = PGD(epsilon=self.epsilon, steps=self.steps, clamp=False)
        labels, none = batch.labels.repeat(self.samples), torch.zeros_like(points)[None]
        found = attack(model, points, labels, none, loss=disagreement)
        return _like(noise, found.view(noise.shape) - batch.images)


def _smallest(
    logits: Float[Tensor, "m b k"], labels: Int[Tensor, " b"], accepted: Int[Tensor, " b"]
) -> Bool[Tensor, "m b"]:
    """Return which samples are the ``accepted``, at least one, where the label is most probable."""
    log_p = logits.to(torch.float64).log_softmax(2)
    of_label = log_p.gather(2, labels.expand(logits.shape[:2]).unsqueeze(2)).squeeze(2)
    rank = of_label.argsort(0, descending=True).argsort(0)
    return rank < accepted.clamp(min=1)


def _like(noise: Float[Tensor, "m b *shape"], other: Float[Tensor, "m b *shape"]) -> Float[Tensor, "m b *shape"]:
    """Return other noise, with the mean and the standard deviation that each sample of ``noise`` has."""
    rows, others = noise.flatten(2), other.flatten(2)
    std, mean = torch.std_mean(rows, 2, correction=0, keepdim=True)
    other_std, other_mean = torch.std_mean(others, 2, correction=0, keepdim=True)
    return ((others - other_mean) * (std / other_std.clamp(min=_SMALLEST)) + mean).view(noise.shape)
