"""Isotropic Gaussian noise, for l2 certificates (Cohen et al. 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import ndtr
from torch import Generator, Tensor

from certsmooth.science.noise import Noise


@dataclass(frozen=True)
class Gaussian(Noise):
    """Standard normal numbers."""

    reach: ClassVar[float] = 9.25

    def from_words(self, words: Int[Tensor, "g w"], out: Float[Tensor, "g w"]) -> None:
        """Fill ``out`` with standard normal numbers made of uniform 32-bit words (Box and Muller 1958).

        The first half of each row gives the radius, u = |word + 1/2| / 2^31 in (0, 1], the second half the angle.
        The words next to 0 are exact in float32, so that the tail reaches sqrt(-2 log 2^-32) = 6.66, not only as far as
        the 24 bits of a float32 uniform number would allow.
        """
        half = words.shape[1] // 2
        first, second = out[:, :half], out[:, half:]
        radius = words[:, :half].to(torch.float32).add_(0.5).abs_().mul_(2.0**-31).log_().mul_(-2).sqrt_()
        angle = words[:, half:].to(torch.float32).mul_(math.pi * 2.0**-31)
        torch.cos(angle, out=first).mul_(radius)
        torch.sin(angle, out=second).mul_(radius)

    def from_generator(self, generator: Generator, out: Float[Tensor, " *shape"]) -> None:
        """Fill ``out`` with standard normal numbers of ``generator``, which lives on out's device."""
        out.normal_(generator=generator)

    def lower_tail(self, t: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the probability of standard noise up to t <= 0, float64."""
        return ndtr(t)

    def quantile(self, p: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return t with lower_tail(t) = p, for p in (0, 1/2]; float64."""
        t: Tensor = torch.special.ndtri(p)
        return t
