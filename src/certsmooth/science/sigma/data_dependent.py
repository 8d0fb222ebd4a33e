"""The sigma that maximises an image's certified radius: DDRS, Section 3.4 (Algorithm 1, eq. 3) and 4.4 (eq. 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float, Int

from certsmooth._internal.modes import evaluation
from certsmooth.errors import ConfigError, ModelError
from certsmooth.science.certificates import Norm
from certsmooth.science.sigma import DrawNoise
from certsmooth.science.sigma._search import Search
from certsmooth.science.soft import mean_log_probabilities, noisy_logits, quantile_gap, scaled

if TYPE_CHECKING:
    from torch import Tensor, nn

RadiusPerSigma = Callable[["Float[Tensor, 'b k']"], "Float[Tensor, ' b']"]
"""Log of the mean probabilities -> R / sigma, differentiable."""


@dataclass(frozen=True, kw_only=True)
class DataDependentSigma(Search):
    """Stochastic gradient ascent on the certified radius R(sigma), one sigma per image.

    In l2 the noise is Gaussian and R = sigma/2 (Phi^-1(p_A) - Phi^-1(p_B)) (eq. 3). In l1 the noise is uniform on
    [-lambda, lambda]^d, sigma is lambda, and R = lambda (p_A - p_B) (eq. 4, for the certificate of Yang et al. 2020).

    Probabilities are the softmax of the logits, averaged over the noise samples (the soft smoothed
    classifier, DDRS Section 3.2). Three variants, because the paper's text, its algorithm and its program differ in
    which class is A; B is the most probable of the others, chosen again at each step, in all:

    - ``published_program``: the authors' program, which made the published numbers. A is the most probable class of
      each step's samples; probabilities are clamped to [0.02, 0.98], where their derivative is 0. For l2 only: the
      program has no l1, whose R needs no quantiles, so that there is nothing to clamp.
    - ``algorithm_1``: Algorithm 1 as printed. The same without the clamp; the normal quantile is exact down to
      probabilities of e^-600. In both an image may change its class on the way (IDRS, Appendix C.2).
    - ``class_held``: our reading of eq. 3. A is the class that the starting sigma gives, held during the whole
      ascent (property (i) of Section 3.4, and what makes "the radius is at worst that of sigma_0" true). That
      class is estimated once, from draws of its own: the first ceil(class_samples / samples).

    R has in general no finite maximum: far from every other class it grows with sigma without end (IDRS,
    Appendix C.2). Neither paper nor program bounds sigma; here it is projected to [lower, upper] after each
    step, in all variants. The default upper bound lies above what the published settings reach (sigma_0 at
    most 1, at most 900 steps of 1e-4), so it acts only where the ascent diverges; the lower one keeps sigma >
    0.

    Attributes:
        sigma: sigma_0, where the ascent starts; pixel coordinates [0, 1].
        iterations: K. More steps go on along the same path: K = 100 is the beginning of K = 900.
        samples: n, noise samples per step and image.
        step: alpha of Algorithm 1.
        lower: smallest sigma.
        upper: largest sigma.
        variant: see above.
        norm: of the radius; it says which noise the policy must be given (`certsmooth.science.sigma.DrawNoise`).
        class_samples: noise samples per image that ``class_held`` estimates the class from, rounded up to whole
            draws. 64 is our choice, the paper names no number: each draw is one forward pass, which is little beside
            K = 900 steps, but most of the cost of training with K = 1.
    """

    label: ClassVar[str] = "DS"
    legend: ClassVar[str] = "sigma is searched for each image (data-dependent smoothing)"
    extent: ClassVar[str] = "iterations"

    iterations: Annotated[int, Ge(0)]
    samples: Annotated[int, Ge(1)] = 1
    step: Annotated[float, Gt(0)] = 1e-4
    variant: Literal["published_program", "algorithm_1", "class_held"] = "published_program"
    norm: Norm = "l2"
    class_samples: Annotated[int, Ge(1)] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.variant, self.norm) == ("published_program", "l1"):
            right = "must be 'algorithm_1' or 'class_held' with norm 'l1', which the program has not"
            raise ConfigError(f"variant: 'published_program'; {right}")

    def _choose(
        self, model: nn.Module, images: Float[Tensor, " b *shape"], sigma: Float[Tensor, " b"], draw: DrawNoise
    ) -> Float[Tensor, " b"]:
        """Return sigma after K steps of Algorithm 1, float64, in [lower, upper]."""
        return self._path([self.iterations], model, images, sigma, draw)[self.iterations]

    def together(
        self,
        policies: Sequence[Self],
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        sigma: Float[Tensor, " b"],
        draw: DrawNoise,
    ) -> Float[Tensor, "p b"]:
        """Return what calls of some policies return: one path serves those that differ in ``iterations`` alone."""
        if {replace(each, iterations=0) for each in policies} != {replace(self, iterations=0)}:
            return super().together(policies, model, images, sigma, draw)
        path = self._path([each.iterations for each in policies], model, images, self._start(images, sigma), draw)
        return torch.stack([path[each.iterations] for each in policies])

    def _path(
        self,
        kept: Collection[int],
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        sigma: Float[Tensor, " b"],
        draw: DrawNoise,
    ) -> dict[int, Float[Tensor, " b"]]:
        """Return sigma after some numbers of steps of Algorithm 1, by number: float64, in [lower, upper].

        The noise is first that of the draws for the held class, if it is held, then one draw per step. Must not be
        called under ``torch.inference_mode``; ``torch.no_grad`` is fine.
        """
        path = {0: sigma.clamp(self.lower, self.upper)}
        if (last := max(kept)) == 0:
            return path
        sigma = path[0]
        with evaluation(model):
            ratio, used = self._radius_per_sigma(model, images, sigma, draw)
            for k in range(last):
                gradient = radius_gradient(model, images, sigma, draw(used + k), ratio)
                sigma = (sigma + self.step * gradient).clamp(self.lower, self.upper)
                if k + 1 in kept:
                    path[k + 1] = sigma
        return path

    def _radius_per_sigma(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        sigma: Float[Tensor, " b"],
        draw: DrawNoise,
    ) -> tuple[RadiusPerSigma, int]:
        """Return R / sigma of norm and variant, and the number of draws that went into it."""
        if self.variant == "published_program":
            return lambda log_p: clamped_gap(log_p) / 2, 0
        gap = probability_gap if self.norm == "l1" else _half_quantile_gap
        if self.variant == "algorithm_1":
            return lambda log_p: gap(log_p, log_p.argmax(1)), 0
        draws = math.ceil(self.class_samples / self.samples)
        held = held_class(model, images, sigma, draw, draws)
        return lambda log_p: gap(log_p, held), draws


def radius_gradient(
    model: nn.Module,
    images: Float[Tensor, " b *shape"],
    sigma: Float[Tensor, " b"],
    noise: Float[Tensor, "n b *shape"],
    radius_per_sigma: RadiusPerSigma,
) -> Float[Tensor, " b"]:
    """Return dR/dsigma of each image at the given noise, by the reparameterisation of DDRS eq. 3 and 4.

    The gradient with respect to sigma alone is computed; the model's parameters are not touched.

    Raises:
        ModelError: the scores are not differentiated with respect to the images: R would look constant in sigma.
    """
    with torch.enable_grad():
        # R = factor * ratio(variable), with both equal to sigma: so the part that goes through the model shows.
        variable, factor = (sigma.detach().clone().requires_grad_(True) for _ in range(2))
        radius = factor * radius_per_sigma(_log_p(model, images, variable, noise))
        through_model, direct = torch.autograd.grad(radius.sum(), (variable, factor), allow_unused=True)
    if through_model is None:
        raise ModelError(
            "the model's scores do not depend on the images in a way that torch differentiates (a forward pass under "
            "no_grad, or one that detaches); they must for sigma to be optimised; FixedSigma needs no gradient"
        )
    gradient: Tensor = through_model + direct
    return gradient


def held_class(
    model: nn.Module,
    images: Float[Tensor, " b *shape"],
    sigma: Float[Tensor, " b"],
    draw: DrawNoise,
    draws: int,
) -> Int[Tensor, " b"]:
    """Return the class that the soft smoothed classifier predicts at ``sigma``, by draws 0 .. draws - 1."""
    with torch.no_grad():
        total = _log_p(model, images, sigma, draw(0)).exp()
        for step in range(1, draws):
            total += _log_p(model, images, sigma, draw(step)).exp()
    return total.argmax(1)


def clamped_gap(log_p: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """Return Phi^-1(p_A) - Phi^-1(p_B) of the two largest probabilities, clamped to [0.02, 0.98]."""
    first, second = torch.special.ndtri(log_p.exp().topk(2, dim=1).values.clamp(0.02, 0.98)).unbind(1)
    gap: Tensor = first - second
    return gap


def probability_gap(log_p: Float[Tensor, "b k"], top: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return p_A - p_B, with A the class ``top`` and B the most probable of the others."""
    column, p = top.unsqueeze(1), log_p.exp()
    difference: Tensor = p.gather(1, column).squeeze(1) - p.scatter(1, column, -1.0).amax(1)
    return difference


def _half_quantile_gap(log_p: Float[Tensor, "b k"], top: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    return quantile_gap(log_p, top) / 2


def _log_p(
    model: nn.Module,
    images: Float[Tensor, " b *shape"],
    sigma: Float[Tensor, " b"],
    noise: Float[Tensor, "n b *shape"],
) -> Float[Tensor, "b k"]:
    return mean_log_probabilities(noisy_logits(model, images, scaled(noise, sigma)))
