"""ADRE: adaptive radius enhancing regularisation, ADREREG and ADREADV (Feng et al. 2020, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float, Int

from certsmooth.science.attacks import L2Attack
from certsmooth.science.objectives import Batch, TrainingObjective
from certsmooth.science.objectives._attacks import build_attack, radius_at
from certsmooth.science.soft import mean_log_probabilities, noisy_logits

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ADRE(TrainingObjective):
    """Mean_j CE(F(x + delta_j), y) - weight * CE(G(x), y_hat), with y_hat = argmax over c != y of G(x)_c.

    F is the softmax and G(x) the mean of F over the k noise samples (eq. 8); both terms use the same samples. The
    second term rewards a small probability of the strongest wrong class. With weight 0 this is Gaussian augmentation
    with k samples.

    With epsilon > 0 (ADREADV) x is first replaced by an adversarial image: the attack maximises CE(G(x'), y) - weight *
    CE(G(x'), y_hat(x')) with the same noise samples (eq. 12 and 13), y_hat being chosen again at each step. It runs in
    evaluation mode; nothing is differentiated through it.

    The paper does not say that the objective has no lower bound: CE(G, y_hat) = -log G_y_hat grows with the margin of
    the logits, without end. With two classes and margin z the loss is log(1 + e^-z) - weight * log(1 + e^z), so its
    slope tends to -weight instead of 0: nothing but weight decay and the end of training keeps logits from growing.
    Once logits are large, a wrong example costs its margin and a right one earns weight times its margin: an error is
    worth it if it adds more than 1 / weight times as much margin elsewhere. Where nearly all is right without the
    term, accuracy falls (LeNet on MNIST, weight 0.1: 81 to 87 % of noisy validation images; Gaussian
    augmentation alone: 91 to 97 %).

    Value and gradient are finite for logits up to 1e30, because log G is computed in float64 from log probabilities and
    never from probabilities; the gradient in each logit is at most 1 + weight in absolute value. The paper's weights
    are 0.05 to 0.3.

    Attributes:
        weight: lambda, at least 0.
        samples: k, at least 1; the paper uses 8 on CIFAR-10, 1 and 4 on ImageNet.
        single_loss_sample: the first term uses one of the k samples instead of their mean, as in the paper's Table 1 on
            CIFAR-10. It is the first: the samples are exchangeable.
        epsilon: largest l2 norm of the perturbation, pixel coordinates [0, 1]; 0 for no attack (ADREREG).
        attacker: a member of `certsmooth.science.attacks`.
        steps: M, at least 1; the paper uses 2 on CIFAR-10, 1 on ImageNet.
        warmup_epochs: the radius is epsilon * min(1, (epoch + 1) / warmup_epochs); the paper names none: 0.
        clamp: adversarial images stay in the pixel range [0, 1].
    """

    weight: Annotated[float, Ge(0)]
    samples: Annotated[int, Ge(1)] = 8
    single_loss_sample: bool = False
    epsilon: Annotated[float, Ge(0)] = 0.0
    attacker: str = "pgd"
    steps: Annotated[int, Ge(1)] = 2
    warmup_epochs: Annotated[int, Ge(0)] = 0
    clamp: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._attack(self.epsilon)

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        noise, labels = batch.noise(self.samples), batch.labels
        attack = self._attack(radius_at(batch.epoch, epsilon=self.epsilon, warmup_epochs=self.warmup_epochs))
        images = attack(model, batch.images, labels, noise, loss=self._attack_loss)
        logits = noisy_logits(model, images, noise)
        losses = batch.cross_entropies(logits[:1] if self.single_loss_sample else logits).mean(0)
        reward = self.weight * _log_runner_up(mean_log_probabilities(logits), labels)
        return losses + reward.to(losses.dtype)

    def _attack(self, epsilon: float) -> L2Attack:
        return build_attack(self.attacker, epsilon=epsilon, steps=self.steps, clamp=self.clamp)

    def _attack_loss(self, log_g: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        of_label = log_g.gather(1, labels.unsqueeze(1)).squeeze(1)
        return self.weight * _log_runner_up(log_g, labels) - of_label


def _log_runner_up(log_g: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return the log probability of the most probable class other than the label: -CE(G, y_hat)."""
    others = log_g.scatter(1, labels.unsqueeze(1), -torch.inf)
    return log_g.gather(1, others.argmax(1, keepdim=True)).squeeze(1)
