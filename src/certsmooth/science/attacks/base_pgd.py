"""Projected gradient ascent in l2 on the base classifier: foolbox's (Rauber et al. 2020).

The attack that SmoothAdv compares its own with (Section 4.3, "vanilla PGD").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float, Int

from certsmooth._internal.extras import optional_libraries
from certsmooth.errors import ConfigError
from certsmooth.science.attacks import L2Attack, Loss
from certsmooth.science.attacks._gradients import check_differentiable, check_finite
from certsmooth.science.soft import mean_log_probabilities, noisy_logits

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BasePGD(L2Attack):
    """T steps of foolbox's L2ProjectedGradientDescentAttack on the cross entropy, from the image itself.

    The noise is not used. `science.attacks.pgd` with one noise sample of zeros differs from it in the order of a
    step's last two parts, projection to the ball and clamping, and goes on where foolbox's steps become shorter: where
    the gradient's norm is below 1e-12.

    Attributes:
        steps: T.
        step_size: l2 length of a step, pixel coordinates; None for 2 epsilon / T.
    """

    step_size: Annotated[float, Gt(0)] | None = None

    def _perturbed(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        labels: Int[Tensor, " b"],
        noise: Float[Tensor, "m b *shape"],
        loss: Loss | None,
    ) -> Float[Tensor, " b *shape"]:
        if loss is not None:
            raise ConfigError("loss: given; must be None, because foolbox's attack maximises the cross entropy")
        with optional_libraries():
            from foolbox.attacks.projected_gradient_descent import L2ProjectedGradientDescentAttack
            from foolbox.models.pytorch import PyTorchModel

        attack = L2ProjectedGradientDescentAttack(
            rel_stepsize=2 / self.steps, abs_stepsize=self.step_size, steps=self.steps, random_start=False
        )
        bounds = (0, 1) if self.clamp else (-math.inf, math.inf)
        target = PyTorchModel(_log_probabilities(model), bounds=bounds, device=images.device)
        with _fixed(model), torch.enable_grad():
            points: Tensor = attack.run(target, images, labels, epsilon=self.epsilon)
        return check_finite(points.detach())


def _log_probabilities(model: nn.Module) -> nn.Module:
    """Return the base classifier's log probabilities in float64: in float32 a confident one's gradient is often 0."""

    class LogProbabilities(torch.nn.Module):
        # The model is no part of it: foolbox moves the module that it is given to a device.
        def forward(self, images: Float[Tensor, " b *shape"]) -> Float[Tensor, "b k"]:
            log_p = mean_log_probabilities(noisy_logits(model, images, torch.zeros_like(images)[None]))
            check_differentiable(log_p)
            return log_p

    return LogProbabilities().eval()


@contextmanager
def _fixed(model: nn.Module) -> Iterator[None]:
    """Take a model's parameters out of differentiation: foolbox's backward pass would add to their gradients."""
    variables = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in variables:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in variables:
            parameter.requires_grad_(True)
