"""The base of the noise members."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from torch import Generator, Tensor

from certsmooth._internal.options import Member


@dataclass(frozen=True)
class Noise(Member, ABC):
    """Standard noise: scale 1, symmetric about 0, independent numbers.

    Attributes:
        reach: standard noise is farther from 0 with probability below 2^-65 on each side.
    """

    reach: ClassVar[float]

    @abstractmethod
    def from_words(self, words: Int[Tensor, "g w"], out: Float[Tensor, "g w"]) -> None:
        """Fill ``out`` with noise made of uniform 32-bit words.

        Args:
            words: int32, uniform over all 2^32 values; w is even.
            out: float32, overwritten.
        """

    @abstractmethod
    def from_generator(self, generator: Generator, out: Float[Tensor, " *shape"]) -> None:
        """Fill ``out``, of any floating-point type, with noise of ``generator``, which lives on out's device."""

    @abstractmethod
    def lower_tail(self, t: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the probability of standard noise up to t <= 0, float64."""

    @abstractmethod
    def quantile(self, p: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return t with lower_tail(t) = p, for p in (0, 1/2]; float64."""
