"""Uniform noise on the cube [-1, 1]^d, for l1 certificates (Yang et al. 2020; DDRS, Section 4.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from certsmooth.science.noise import Noise


@dataclass(frozen=True)
class Uniform(Noise):
    """Numbers uniform on [-1, 1]."""

    reach: ClassVar[float] = 1.0

    def from_words(self, words: Int[Tensor, "g w"], out: Float[Tensor, "g w"]) -> None:
        """Fill ``out`` with numbers uniform on [-1, 1], made of uniform 32-bit words.

        Each number is (word | 1) / 2^31, rounded to nearest. Odd words are symmetric about 0, and so is rounding to
        nearest: the law is exactly symmetric, its mean exactly 0. Odd multiples of 2^-31 are the middles of 2^31 cells
        of equal size that fill [-1, 1], so the law is that of a uniform real number, moved by at most 2^-31 and
        rounded. As with such a number, the rounding gives each of -1 and 1 with probability 2^-26.
        """
        out.copy_(words | 1).mul_(2.0**-31)

    def from_generator(self, generator: Generator, out: Float[Tensor, " *shape"]) -> None:
        """Fill ``out`` with numbers uniform on [-1, 1] of ``generator``, which lives on out's device.

        They are made of words: those that torch makes itself hold one end of the interval and never the other.
        """
        words = torch.empty(out.shape, dtype=torch.int32, device=out.device)
        self.from_words(words.random_(-(2**31), 2**31, generator=generator), out)

    def lower_tail(self, t: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the probability of standard noise up to t <= 0, float64."""
        return np.maximum(0.5 + 0.5 * t, 0.0)

    def quantile(self, p: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return t with lower_tail(t) = p, for p in (0, 1/2]; float64."""
        return 2.0 * p - 1.0
