"""The direction in which an attack on the soft smoothed classifier ascends (SmoothAdv, Section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int

from certsmooth.errors import ModelError
from certsmooth.science.attacks import Loss
from certsmooth.science.soft import mean_log_probabilities, noisy_logits

if TYPE_CHECKING:
    from torch import Tensor, nn

Estimator = Literal["plug_in", "mean_loss", "gradient_free"]

_NOT_DIFFERENTIABLE = "the model's logits are not differentiable in the images; must be, but for gradient_free"


def cross_entropy(log_p: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return -log G(x)_y of each example: the loss of SmoothAdv, eq. S."""
    return -log_p.gather(1, labels.unsqueeze(1)).squeeze(1)


def loss_gradient(
    model: nn.Module,
    images: Float[Tensor, " b *shape"],
    labels: Int[Tensor, " b"],
    noise: Float[Tensor, "m b *shape"],
    *,
    loss: Loss | None,
    estimator: Estimator,
) -> tuple[Float[Tensor, " b *shape"], Float[Tensor, "b k"]]:
    """Return the ascent direction of each example's loss, and log G itself, from one forward pass.

    - ``plug_in``: the gradient of loss(log of the mean of the softmax over the noise samples), SmoothAdv eq. 6.
    - ``mean_loss``: that of the mean over the noise samples of loss(log of the softmax), SmoothAdv eq. 4: it attacks
      the base classifier at noisy images. With one sample it is ``plug_in``.
    - ``gradient_free``: Stein's lemma, SmoothAdv eq. 7, grad G_c = E[delta F_c(x + delta)] / sigma^2 with the mean over
      the samples for E, chained with the derivative of the loss with respect to log G. Nothing is differentiated
      through the model. The factor 1 / sigma^2, one per example, is left out: it does not change a direction. Noise of
      zeros gives the direction 0, and one sample of noise tells nothing but itself.

    The other arguments, and errors, are those of `L2Attack`; the model runs in the mode that it is in.

    Raises:
        ModelError: also if, but for ``gradient_free``, the model's logits are not differentiable in the images.
    """
    images, noise, loss = images.detach(), noise.detach(), loss or cross_entropy
    if estimator != "gradient_free":
        with torch.enable_grad():
            variable = images.requires_grad_(True)
            logits = noisy_logits(model, variable, noise)
            log_p = mean_log_probabilities(logits)
            check_differentiable(log_p)
            attacked = log_p[None] if estimator == "plug_in" else logits.to(torch.float64).log_softmax(2)
            total = torch.stack([loss(each, labels).sum() for each in attacked]).mean()
            gradient: Tensor | None = torch.autograd.grad(total, variable, allow_unused=True)[0]
        if gradient is None:  # differentiable in parameters alone
            raise ModelError(_NOT_DIFFERENTIABLE)
        return check_finite(gradient), log_p.detach()
    with torch.no_grad():
        logits = noisy_logits(model, images, noise)
        log_p = mean_log_probabilities(logits)
    with torch.enable_grad():
        variable = log_p.requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(variable, labels).sum(), variable)
    # d loss / dx = sum over c of (d loss / d log G_c) (dG_c / dx) / G_c; F_c / G_c <= m, so nothing overflows.
    ratio = (logits.to(torch.float64).log_softmax(2) - log_p.detach()).exp()
    weights = (ratio * slope).sum(2).to(noise.dtype)
    return check_finite(torch.einsum("mb,mb...->b...", weights, noise) / len(noise)), log_p.detach()


def check_differentiable(log_p: Float[Tensor, "b k"]) -> None:
    """Raise ModelError unless a gradient flows through these log probabilities."""
    if not log_p.requires_grad:
        raise ModelError(_NOT_DIFFERENTIABLE)


def check_finite(gradient: Float[Tensor, " b *shape"]) -> Float[Tensor, " b *shape"]:
    """Return a gradient, or what was made of it; raise ModelError unless it is finite."""
    if not bool(gradient.isfinite().all()):
        raise ModelError("the gradient of the loss with respect to images is not finite; must be finite")
    return gradient
