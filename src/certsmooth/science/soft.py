"""The soft smoothed classifier G(x) = E[softmax f(x + delta)], by samples: its log probabilities and their quantiles.

What training and attacks differentiate (SmoothAdv, Section 2.2; DDRS, Section 3.2; ADRE, eq. 8). Everything here is
float64: log probabilities of a confident classifier have no digits left in float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int

from certsmooth.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

_MIN_LOG_PROBABILITY = -600.0  # Phi^-1(e^-600) = -34.5; its derivative, about e^595, still fits float64


def scaled(noise: Float[Tensor, "n b *shape"], sigma: Float[Tensor, " b"]) -> Float[Tensor, "n b *shape"]:
    """Return standard noise times the sigma of each example, in the noise's dtype."""
    return noise * sigma.to(noise.dtype).view(-1, *(1,) * (noise.ndim - 2))


def noisy_logits(
    model: nn.Module, images: Float[Tensor, " b *shape"], noise: Float[Tensor, "n b *shape"]
) -> Float[Tensor, "n b k"]:
    """Return the logits at each image plus each of its noise samples, from one forward pass, in the model's dtype.

    Raises:
        ModelError: the model returned something else than logits [n b, k], k >= 2.
    """
    n, b = noise.shape[:2]
    logits = model((images + noise).flatten(0, 1))
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or logits.shape[0] != n * b or logits.shape[1] < 2:
        found = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(f"the model returned {found}; must be logits [{n * b}, k], k >= 2")
    return logits.view(n, b, -1)


def mean_log_probabilities(logits: Float[Tensor, "n b k"]) -> Float[Tensor, "b k"]:
    """Return log of the mean over n of the softmax of the logits, float64: the plug-in estimate of log G.

    Raises:
        ModelError: logits are not finite.
    """
    if not bool(logits.isfinite().all()):
        raise ModelError("the model returned logits that are not finite; must be finite logits")
    log_p: Tensor = logits.to(torch.float64).log_softmax(2)
    return log_p.squeeze(0) if len(log_p) == 1 else log_p.logsumexp(0) - math.log(len(log_p))


def divergence(log_p: Float[Tensor, "*n b k"], log_q: Float[Tensor, "*n b k"]) -> Float[Tensor, "*n b"]:
    """Return KL(p || q), in nats, of log probabilities; they are broadcast."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def quantile_gap(log_p: Float[Tensor, "b k"], top: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return Phi^-1(p_A) - Phi^-1(p_B), with A the class ``top`` and B the most probable of the others.

    Exact for probabilities from e^-600 to 1 - e^-600, constant beyond: value and gradient are always finite.

    Args:
        log_p: log probabilities, float64.
        top: class A of each example.
    """
    others = log_p.scatter(1, top.unsqueeze(1), -math.inf)
    return _quantile(log_p, top) - _quantile(log_p, others.argmax(1))


def _quantile(log_p: Float[Tensor, "b k"], index: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return Phi^-1 of the probability of class ``index``, exact near 0 and near 1.

    1 - p is summed over the other classes instead of subtracted from 1, and Phi^-1 is taken of the smaller of
    the two, Phi^-1(p) = -Phi^-1(1 - p).
    """
    column = index.unsqueeze(1)
    log_this = log_p.gather(1, column).squeeze(1)
    log_rest = log_p.scatter(1, column, -math.inf).logsumexp(1)
    is_lower = log_this <= log_rest
    log_tail = torch.where(is_lower, log_this, log_rest).clamp(min=_MIN_LOG_PROBABILITY)
    tail = torch.special.ndtri(log_tail.exp())
    return torch.where(is_lower, tail, -tail)
