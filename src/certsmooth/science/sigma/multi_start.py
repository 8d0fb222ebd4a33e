"""The sigma with the largest radius among several line searches: Chen et al. 2021, after IDRS, Algorithm 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Float, Float64

from certsmooth._internal.modes import evaluation
from certsmooth.science.sigma import DrawNoise
from certsmooth.science.sigma._search import Search
from certsmooth.science.soft import mean_log_probabilities, noisy_logits, quantile_gap, scaled

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class MultiStartSigma(Search):
    """Several line searches on R(sigma) = sigma Phi^-1(p_A(sigma)), and the best of what they find.

    Search k walks over variances: l sigma_0^2 with l = l_k, l_k + s_k, l_k + 2 s_k, ... as long as R does not fall, at
    most T steps, and until l leaves [1, largest]. Sigma is the end of the search whose R is the largest. p_A is the
    largest class probability of the soft smoothed classifier (softmax, averaged over M noise samples), as in DDRS,
    eq. 3; the normal quantile is exact down to probabilities of e^-600. Each step draws new noise, which all searches
    share.

    IDRS (Appendix C.3) finds that Chen et al. leave open how the pairs (l_k, s_k) in [1, 16] x (-1, 1) are drawn, and K
    and T. Here they are the points of a Halton sequence, the same for every image: a policy has no randomness but its
    noise, and a sequence covers the square better than as many random points. Our K and T are small, as the search
    costs up to K (T + 1) M forward passes per image.

    Nothing bounds the change of sigma(x) with x, nor keeps the class: an image may so get another class than sigma_0
    gives it (IDRS, Appendix C.3).

    Attributes:
        sigma: sigma_0, in pixel coordinates [0, 1]. An earlier epoch's sigma is not used: since l >= 1 at the start,
            sigma could only grow from epoch to epoch.
        starts: K.
        steps: T, of each search.
        evaluation_samples: M, noise samples per image and step, rounded up to whole draws.
        samples: noise samples per image in each draw, which is one forward pass.
        largest: l_k is in [1, largest].
        lower: smallest sigma; what is below is projected to it.
        upper: largest sigma.
    """

    label: ClassVar[str] = "DS"
    legend: ClassVar[str] = "sigma is searched for each image (data-dependent smoothing)"

    starts: Annotated[int, Ge(1)] = 4
    steps: Annotated[int, Ge(0)] = 10
    evaluation_samples: Annotated[int, Ge(1)] = 500
    samples: Annotated[int, Ge(1)] = 50
    largest: Annotated[float, Gt(1)] = 16.0

    def searches(self) -> Float64[np.ndarray, "starts 2"]:
        """Return the pairs (l_k, s_k), in [1, largest] x (-1, 1)."""
        from scipy.stats import qmc  # here, as it takes a second

        sequence = qmc.Halton(d=2, scramble=False)
        sequence.fast_forward(1)  # its first point is a corner
        points: Float64[np.ndarray, "starts 2"] = sequence.random(self.starts)
        return points * [self.largest - 1, 2] + [1, -1]

    def _choose(
        self, model: nn.Module, images: Float[Tensor, " b *shape"], sigma: Float[Tensor, " b"], draw: DrawNoise
    ) -> Float[Tensor, " b"]:
        """Return the sigma that Algorithm 2 finds, in [lower, upper]; each step takes ceil(M / samples) draws."""
        starts, step = torch.as_tensor(self.searches(), device=images.device).T.unsqueeze(2)
        multiple = starts.expand(-1, len(images))  # l
        walking = torch.ones_like(multiple, dtype=torch.bool)
        with torch.no_grad(), evaluation(model):
            radius = self._radius(model, images, self._sigma(multiple), draw, 0)
            for j in range(1, self.steps + 1):
                tried, found, rows = multiple + step, torch.full_like(radius, -torch.inf), walking.any(1)
                found[rows] = self._radius(model, images, self._sigma(tried)[rows], draw, j)
                walking &= found >= radius
                multiple, radius = torch.where(walking, tried, multiple), torch.where(walking, found, radius)
                walking &= (multiple >= 1) & (multiple <= self.largest)
                if not bool(walking.any()):
                    break
        return self._sigma(multiple).gather(0, radius.argmax(0, keepdim=True))[0]

    def _sigma(self, multiple: Float64[Tensor, "starts b"]) -> Float64[Tensor, "starts b"]:
        return (multiple.sqrt() * self.sigma).clamp(self.lower, self.upper)

    def _radius(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        sigmas: Float64[Tensor, "starts b"],
        draw: DrawNoise,
        step: int,
    ) -> Float64[Tensor, "starts b"]:
        """Return sigma Phi^-1(p_A) at each sigma of each image, all with the noise of this step."""
        draws = math.ceil(self.evaluation_samples / self.samples)
        total = torch.tensor(-torch.inf, dtype=torch.float64, device=images.device)
        for number in range(step * draws, (step + 1) * draws):
            noise = draw(number)
            log_p = [mean_log_probabilities(noisy_logits(model, images, scaled(noise, sigma))) for sigma in sigmas]
            total = torch.logaddexp(total, torch.stack(log_p))
        log_p_a, top = (total - math.log(draws)).flatten(0, 1).max(1)
        log_others = (total - math.log(draws)).flatten(0, 1).scatter(1, top.unsqueeze(1), -torch.inf).logsumexp(1)
        # The gap to the probability of all others together is Phi^-1(p_A) - Phi^-1(1 - p_A) = 2 Phi^-1(p_A).
        gap = quantile_gap(torch.stack([log_p_a, log_others], 1), torch.zeros_like(top))
        return sigmas * gap.view_as(sigmas) / 2
