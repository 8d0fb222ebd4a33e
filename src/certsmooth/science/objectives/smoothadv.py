"""SmoothAdv: adversarial training of the smoothed classifier (Salman et al. 2019, Sections 2.2, 2.3, 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float

from certsmooth.errors import ConfigError
from certsmooth.science.attacks import L2Attack
from certsmooth.science.attacks._gradients import Estimator
from certsmooth.science.objectives import Batch, TrainingObjective
from certsmooth.science.objectives._attacks import build_attack, radius_at
from certsmooth.science.soft import noisy_logits

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SmoothAdv(TrainingObjective):
    """Mean cross entropy at x_hat + delta_1 .. x_hat + delta_m, with x_hat adversarial to the smoothed classifier.

    Pseudocode 1: the m noise samples with which the attack estimates the smoothed classifier (eq. 6) are those of the
    update. The attack runs in evaluation mode, the update in the mode the model is in, one pass over the m b images;
    nothing is differentiated through the attack.

    The authors' program cuts each batch into m parts and makes one optimiser step for each part (and without a switch
    trains with the first noise sample only); here, as in the pseudocode, all parts are one step.

    Attributes:
        epsilon: largest l2 norm of the perturbation, pixel coordinates [0, 1]; the paper's are 0.25 to 2. 0 is training
            with m noise samples.
        attacker: a member of `certsmooth.science.attacks`.
        steps: T, at least 1.
        samples: m, at least 1.
        warmup_epochs: the radius is epsilon * min(1, (epoch + 1) / warmup_epochs); 0 for none. 10 is from the authors'
            recipe.
        target: ``smoothed``, or ``base``: vanilla adversarial training, the paper's comparison point (Section 4.1). The
            attack is on the base classifier at the image without noise, and the update is Gaussian augmentation of the
            adversarial image, as otherwise.
        estimator: of the attack's gradient: ``plug_in`` (eq. 6), ``mean_loss`` (of eq. 4, which the paper compares
            with) or ``gradient_free`` (eq. 7). Without noise the latter is always 0, so it needs the target
            ``smoothed``. It is a gradient for Gaussian noise only.
        clamp: adversarial images stay in the pixel range [0, 1], as in the authors' program.
    """

    epsilon: Annotated[float, Ge(0)]
    attacker: str = "pgd"
    steps: Annotated[int, Ge(1)] = 2
    samples: Annotated[int, Ge(1)] = 1
    warmup_epochs: Annotated[int, Ge(0)] = 10
    target: Literal["smoothed", "base"] = "smoothed"
    estimator: Estimator = "plug_in"
    clamp: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._attack(self.epsilon)
        if self.target == "base" and self.estimator == "gradient_free":
            raise ConfigError("estimator: 'gradient_free'; must be 'plug_in' with target 'base', which has no noise")

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, " b"]:
        """Return the loss of each example; see `certsmooth.science.objectives.TrainingObjective`."""
        noise = batch.noise(self.samples)
        attack = self._attack(radius_at(batch.epoch, epsilon=self.epsilon, warmup_epochs=self.warmup_epochs))
        seen = noise if self.target == "smoothed" else torch.zeros_like(noise[:1])
        adversarial = attack(model, batch.images, batch.labels, seen)
        return batch.cross_entropies(noisy_logits(model, adversarial, noise)).mean(0)

    def _attack(self, epsilon: float) -> L2Attack:
        return build_attack(
            self.attacker, epsilon=epsilon, steps=self.steps, estimator=self.estimator, clamp=self.clamp
        )
