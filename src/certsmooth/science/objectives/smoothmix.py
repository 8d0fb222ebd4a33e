"""SmoothMix: mixup of an image and an adversarial one that no ball limits (Jeong et al. 2021, arXiv:2111.09277)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float

from certsmooth.science.attacks.pgd import PGD
from certsmooth.science.objectives import Batch, TrainingObjective
from certsmooth.science.objectives._attacks import radius_at
from certsmooth.science.soft import divergence, mean_log_probabilities, noisy_logits, scaled

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SmoothMix(TrainingObjective):
    """Mean_j CE(F(x + delta_j), y) + weight * mean_j KL(y_mix || F(x_mix + delta_j)) [argmax G(x) = y].

    F is the softmax and G(x) the mean of F over the m noise samples. x_adv is x after T steps of length alpha along the
    normalised gradient of -log G_y (SmoothAdv's attack, with no ball that it must stay in). With kappa uniform on
    (0, 1/2), one number for each example,

        x_mix = (1 - kappa) x + kappa x_adv,    y_mix = (1 - kappa) G(x) + kappa / k, k the number of classes.

    So confidence falls along the way to other classes, from an example that is right (Section 3). Attack and update
    have the same noise samples. Gradients flow through y_mix as well, as in the authors' program; nothing is
    differentiated through the attack, which runs in evaluation mode. With weight 0, and no step before, this is
    Gaussian augmentation with m samples.

    The program cuts each batch into m parts and makes one optimiser step for each, each of two passes; here all parts
    are one step, of one pass over the 2 m b noisy images, whose batch statistics are of both.

    Attributes:
        samples: m, at least 1; the paper uses 4 on MNIST, 2 on CIFAR-10.
        weight: eta, at least 0; the paper uses 1 and 5.
        steps: T, at least 1; the paper uses 2 to 8 on MNIST, 4 on CIFAR-10.
        step_size: alpha, l2 length of a step, pixel coordinates [0, 1], above 0; the paper uses 1 on MNIST, and 0.5, 1
            and 2 at sigma 0.25, 0.5 and 1 on CIFAR-10.
        one_step: x is first replaced by the image after one step of the attack, in both terms ("+ one-step adversary").
        warmup_epochs: in epoch e, from 0, weight, and the length of the step before, are those above times min(1,
            (e + 1) / warmup_epochs); 0 for none. 10 is from the authors' program.
        clamp: adversarial images stay in the pixel range [0, 1], as in the program.
    """

    samples: Annotated[int, Ge(1)] = 4
    weight: Annotated[float, Ge(0)] = 5.0
    steps: Annotated[int, Ge(1)] = 4
    step_size: Annotated[float, Gt(0)] = 1.0
    one_step: bool = False
    warmup_epochs: Annotated[int, Ge(0)] = 10
    clamp: bool = True

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        noise = batch.noise(self.samples)
        warm = radius_at(batch.epoch, epsilon=1.0, warmup_epochs=self.warmup_epochs)
        images = batch.images
        if self.one_step:
            images = self._attacked(model, batch, noise, steps=1, radius=warm * self.step_size)
        adversarial = self._attacked(model, batch, noise, steps=self.steps, radius=self.steps * self.step_size)
        kappa = batch.uniforms(1)[0] / 2
        to_mixed = scaled((adversarial - images)[None], kappa)
        plain, mixed = noisy_logits(model, images, torch.cat([noise, noise + to_mixed])).chunk(2)

        log_g, log_kappa = mean_log_probabilities(plain), kappa.log().unsqueeze(1)
        log_y = torch.logaddexp((-kappa).log1p().unsqueeze(1) + log_g, log_kappa - math.log(plain.shape[2]))
        mix = divergence(log_y, mixed.to(torch.float64).log_softmax(2)).mean(0)
        mix = torch.where(log_g.argmax(1) == batch.labels, mix, 0.0)
        return batch.cross_entropies(plain).mean(0) + (self.weight * warm * mix).to(plain.dtype)

    def _attacked(
        self, model: nn.Module, batch: Batch, noise: Float[Tensor, "m b *shape"], *, steps: int, radius: float
    ) -> Float[Tensor, " b *shape"]:
        """Return images after some steps; no step leaves a ball of radius steps * step_size, so that is no limit."""
        attack = PGD(epsilon=radius, steps=steps, step_size=self.step_size, clamp=self.clamp)
        return attack(model, batch.images, batch.labels, noise)
