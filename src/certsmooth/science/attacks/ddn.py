"""Decoupled direction and norm (Rony et al. 2019) on the soft smoothed classifier (SmoothAdv, Section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float, Int

from certsmooth.science.attacks import L2Attack, Loss
from certsmooth.science.attacks._gradients import Estimator, loss_gradient
from certsmooth.science.attacks._l2 import norms, per_example, project, unit
from certsmooth.science.soft import mean_log_probabilities, noisy_logits

if TYPE_CHECKING:
    from torch import Tensor, nn

_FIRST_STEP, _LAST_STEP = 1.0, 0.01  # Rony et al., Section 4: l2 lengths in pixel coordinates, cosine in between


@dataclass(frozen=True, kw_only=True)
class DDN(L2Attack):
    """Looks for the smallest perturbation, of norm at most epsilon, that changes the class of the smoothed classifier.

    Each step turns the perturbation along the normalised gradient of the loss, and then sets its norm: a factor
    1 - gamma smaller than before where the class had changed, 1 + gamma larger where it had not.

    Perturbations are rounded to whole levels, so that pixels that were on levels stay on them; one that leaves the ball
    by that is shrunk into it, and then lies between levels. What is below half a level is lost: with 256 levels and d
    pixels, epsilon should be well above sqrt(d) / 510.

    Attributes:
        steps: K in Rony et al., T in SmoothAdv.
        initial_norm: norm that the first step changes by its factor; no norm is above epsilon.
        gamma: rate at which the norm changes, in (0, 1).
        levels: of a pixel in [0, 1], 256 for images of 8 bits; None: nothing is rounded.
        estimator: how the gradient is estimated, see `certsmooth.science.attacks._gradients.loss_gradient`.
    """

    initial_norm: Annotated[float, Gt(0)] = 1.0
    gamma: Annotated[float, Gt(0), Lt(1)] = 0.05
    levels: Annotated[int, Ge(2)] | None = 256
    estimator: Estimator = "plug_in"

    def _perturbed(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        labels: Int[Tensor, " b"],
        noise: Float[Tensor, "m b *shape"],
        loss: Loss | None,
    ) -> Float[Tensor, " b *shape"]:
        """Return the nearest image found whose class is not the label, else the last one tried.

        The class is the most probable one of the soft smoothed classifier at the given noise; an image that has
        another one than its label from the start is returned as it is. ``loss`` gives the gradient only.
        """
        points, best = images, images
        lengths = images.new_full((len(images),), self.initial_norm)
        best_length = torch.full_like(lengths, math.inf)
        for step in range(self.steps):
            gradient, log_p = loss_gradient(model, points, labels, noise, loss=loss, estimator=self.estimator)
            changed = log_p.argmax(1) != labels
            best, best_length = _nearer(best, best_length, points, norms(points - images), changed)
            lengths = torch.where(changed, lengths * (1 - self.gamma), lengths * (1 + self.gamma))
            lengths = lengths.clamp(max=self.epsilon)
            direction = unit(points - images + self._step_size(step) * unit(gradient))
            points = self._place(images, per_example(lengths, images) * direction)
        with torch.no_grad():
            changed = mean_log_probabilities(noisy_logits(model, points, noise)).argmax(1) != labels
        best, best_length = _nearer(best, best_length, points, norms(points - images), changed)
        return torch.where(per_example(best_length, images).isfinite(), best, points)

    def _step_size(self, step: int) -> float:
        return _LAST_STEP + (_FIRST_STEP - _LAST_STEP) * (1 + math.cos(math.pi * step / self.steps)) / 2

    def _place(
        self, images: Float[Tensor, " b *shape"], delta: Float[Tensor, " b *shape"]
    ) -> Float[Tensor, " b *shape"]:
        """Return the images perturbed by whole levels, in the ball and in the pixel range."""
        if self.levels is not None:
            delta = (delta * (self.levels - 1)).round() / (self.levels - 1)
        return project(images + delta, images, epsilon=self.epsilon, clamp=self.clamp)


def _nearer(
    best: Float[Tensor, " b *shape"],
    best_length: Float[Tensor, " b"],
    points: Float[Tensor, " b *shape"],
    lengths: Float[Tensor, " b"],
    changed: Tensor,
) -> tuple[Float[Tensor, " b *shape"], Float[Tensor, " b"]]:
    """Replace the best point of each example where a nearer one changes the class."""
    better = changed & (lengths < best_length)
    chosen = per_example(better, best).bool()
    return torch.where(chosen, points, best), torch.where(better, lengths, best_length)
