"""Projected gradient ascent in l2 on the soft smoothed classifier (SmoothAdv, Section 3, SMOOTHADV-PGD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from jaxtyping import Float, Int
from torch import Tensor, nn

from certsmooth._internal.checks import check_choice, store_integer, store_number
from certsmooth._internal.modes import evaluation
from certsmooth.science.attacks import Loss
from certsmooth.science.attacks._gradients import Estimator, loss_gradient
from certsmooth.science.attacks._l2 import check_clamp, check_range, project, unit


@dataclass(frozen=True, kw_only=True)
class Attack:
    """T steps along the l2-normalised gradient, from the image itself; each ends in the ball and in the pixel range.

    Attributes:
        epsilon: largest l2 norm of a perturbation, pixel coordinates; 0 returns the images.
        steps: T.
        step_size: l2 length of a step; None for 2 epsilon / T.
        estimator: how the gradient is estimated, see `certsmooth.science.attacks._gradients.loss_gradient`.
        clamp: whether pixels are kept in [0, 1]; false for data that are no images.
    """

    epsilon: float
    steps: int
    step_size: float | None = None
    estimator: Estimator = "plug_in"
    clamp: bool = True

    def __post_init__(self) -> None:
        store_number(self, "epsilon", minimum=0)
        store_integer(self, "steps", minimum=1)
        if self.step_size is not None:
            store_number(self, "step_size", above=0)
        check_choice("estimator", self.estimator, get_args(Estimator))
        check_clamp(self.clamp)

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        labels: Int[Tensor, " b"],
        noise: Float[Tensor, "m b *shape"],
        *,
        loss: Loss | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """Return the images after T steps; see `certsmooth.science.attacks.L2Attack`.

        An example whose gradient is zero is not moved. Must not be called under ``torch.inference_mode``;
        ``torch.no_grad`` is fine.

        Raises:
            DataError: pixels outside [0, 1] with ``clamp``.
            ModelError: the model returned something else than finite logits [m b, k], k >= 2, or its gradient is not
                finite.
        """
        images = images.detach()
        if self.clamp:
            check_range(images)
        if self.epsilon == 0:
            return images
        step_size = 2 * self.epsilon / self.steps if self.step_size is None else self.step_size
        points = images
        with evaluation(model):
            for _ in range(self.steps):
                gradient, _ = loss_gradient(model, points, labels, noise, loss=loss, estimator=self.estimator)
                points = project(points + step_size * unit(gradient), images, epsilon=self.epsilon, clamp=self.clamp)
        return points
