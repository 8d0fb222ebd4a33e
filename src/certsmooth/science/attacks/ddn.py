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

if TYPE_CHECKING:
    from torch import Tensor, nn

_FIRST_STEP, _LAST_STEP = 1.0, 0.01  # Rony et al., Section 4: l2 lengths in pixel coordinates, cosine in between


@dataclass(frozen=True, kw_only=True)
class DDN(L2Attack):
    """Looks for the smallest perturbation, of norm at most epsilon, that changes the class of the smoothed classifier.

    Each step turns the perturbation along the normalised gradient of the loss, and then sets its norm: a factor
    1 - gamma smaller than before where the class had changed, 1 + gamma larger where it had not. T points are tried,
    the image itself among them; the point that the last step leads to is not. As in the program of SmoothAdv's authors,
    epsilon does not bound the search: the smallest perturbation found is shortened to epsilon at the end, and where
    none is found the image is returned as it is.

    Perturbations are rounded to whole levels, so that pixels that were on levels stay on them; a result that leaves the
    ball by that is shrunk into it, and then lies between levels. What is below half a level is lost: with 256 levels
    and d pixels, epsilon should be well above sqrt(d) / 510.

    Attributes:
        steps: K in Rony et al., T in SmoothAdv.
        initial_norm: norm that the first step changes by its factor.
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
        """Return the nearest image found whose class is not the label, at most epsilon away, else the image.

        The class is the most probable one of the soft smoothed classifier at the given noise; an image that has
        another one than its label from the start is returned as it is. ``loss`` gives the gradient only.
        """
        points, best = images, images
        lengths = images.new_full((len(images),), self.initial_norm)
        best_length = torch.full_like(lengths, math.inf)
        for step in range(self.steps):
            gradient, log_p = loss_gradient(model, points, labels, noise, loss=loss, estimator=self.estimator)
            changed = log_p.argmax(1) != labels
            found = norms(points - images)
            better = changed & (found < best_length)
            best = torch.where(per_example(better, images).bool(), points, best)
            best_length = torch.where(better, found, best_length)
            lengths = torch.where(changed, lengths * (1 - self.gamma), lengths * (1 + self.gamma))
            direction = unit(points - images + self._step_size(step) * unit(gradient))
            points = self._place(images, per_example(lengths, images) * direction, math.inf)
        shorter = (self.epsilon / norms(best - images)).clamp(max=1)  # the norm may be 0
        placed = self._place(images, per_example(shorter, images) * (best - images), self.epsilon)
        return torch.where(per_example(best_length <= self.epsilon, images).bool(), best, placed)

    def _step_size(self, step: int) -> float:
        return _LAST_STEP + (_FIRST_STEP - _LAST_STEP) * (1 + math.cos(math.pi * step / self.steps)) / 2

    def _place(
        self, images: Float[Tensor, " b *shape"], delta: Float[Tensor, " b *shape"], epsilon: float
    ) -> Float[Tensor, " b *shape"]:
        """Return the images perturbed by whole levels, in the ball of that radius and in the pixel range."""
        if self.levels is not None:
            delta = (delta * (self.levels - 1)).round() / (self.levels - 1)
        return project(images + delta, images, epsilon=epsilon, clamp=self.clamp)
