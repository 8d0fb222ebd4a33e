"""Projected gradient ascent in l2 on the soft smoothed classifier (SmoothAdv, Section 3, SMOOTHADV-PGD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt
from jaxtyping import Float, Int

from certsmooth.science.attacks import L2Attack, Loss
from certsmooth.science.attacks._gradients import Estimator, loss_gradient
from certsmooth.science.attacks._l2 import project, unit

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class PGD(L2Attack):
    """T steps along the l2-normalised gradient, from the image itself; each ends in the ball and in the pixel range.

    An example whose gradient is zero is not moved.

    Attributes:
        steps: T.
        step_size: l2 length of a step, pixel coordinates; None for 2 epsilon / T.
        estimator: how the gradient is estimated, see `certsmooth.science.attacks._gradients.loss_gradient`.
    """

    step_size: Annotated[float, Gt(0)] | None = None
    estimator: Estimator = "plug_in"

    def _perturbed(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        labels: Int[Tensor, " b"],
        noise: Float[Tensor, "m b *shape"],
        loss: Loss | None,
    ) -> Float[Tensor, " b *shape"]:
        step_size = 2 * self.epsilon / self.steps if self.step_size is None else self.step_size
        points = images
        for _ in range(self.steps):
            gradient, _ = loss_gradient(model, points, labels, noise, loss=loss, estimator=self.estimator)
            points = project(points + step_size * unit(gradient), images, epsilon=self.epsilon, clamp=self.clamp)
        return points
