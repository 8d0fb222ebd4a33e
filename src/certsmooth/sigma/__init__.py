"""Sigma policies: x -> sigma(x), for training, certification or both, one file each.

A member module defines one frozen dataclass named ``Policy`` that follows `SigmaPolicy`; its fields are the options
that params.yaml may give. Sigma is a vector with one value per example everywhere; a fixed sigma is a constant vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jaxtyping import Float
from torch import Tensor, nn

DrawNoise = Callable[[int], Float[Tensor, "n b *shape"]]
"""Step number -> standard noise (sigma = 1) of that step: ``samples`` draws for each image of the batch."""


class SigmaPolicy(Protocol):
    """A policy.

    Attributes:
        sigma0: the constant sigma, or the one that an optimisation starts from; > 0, in pixel coordinates [0, 1].
        samples: noise samples per image that each step of ``__call__`` draws (0: it draws none).
        semi_elasticity: r such that log sigma(x) is r-Lipschitz in l2 (IDRS, Definition 3.1 and Theorem 3.2): 0 for a
            constant sigma, None where nothing is known. Only certificates that allow it give a ``global`` guarantee.
    """

    @property
    def sigma0(self) -> float: ...

    @property
    def samples(self) -> int: ...

    @property
    def semi_elasticity(self) -> float | None: ...

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, "b *shape"],
        sigma: Float[Tensor, " b"],
        draw: DrawNoise,
    ) -> Float[Tensor, " b"]:
        """Return the sigma of each image, starting from ``sigma`` (sigma0, or what an earlier epoch carried over)."""
