"""What policies share that let sigma grow exponentially with a distance: sigma(x) = sigma_b exp(r (f(x) - m))."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from certsmooth._internal.checks import store_number
from certsmooth.errors import ConfigError
from certsmooth.science.sigma import DrawNoise
from certsmooth.science.sigma._neighbours import Neighbours, flattened


@dataclass(frozen=True)
class Fitted:
    """What fitting finds: the points that f measures distances to, the shape of an image, and m."""

    points: Neighbours
    shape: tuple[int, ...]
    m: float


@dataclass(frozen=True, kw_only=True)
class Exponential(ABC):
    """Base of these policies; f is a mean of l2 distances to nearest points, in pixel coordinates [0, 1].

    Attributes:
        sigma: > 0, in pixel coordinates.
        rate: r; the subclass checks it.
        offset: m, >= 0; None for one that fitting finds.
        factor: > 0; sigma_b is factor times sigma.
        samples: it draws no noise.
    """

    sigma: float
    rate: float
    offset: float | None = None
    factor: float = 1.0
    _fitted: Fitted | None = field(default=None, init=False, repr=False, compare=False)

    samples = 0
    uses_model = False
    uses_training_images = True

    def __post_init__(self) -> None:
        store_number(self, "sigma", above=0)
        store_number(self, "factor", above=0)
        if self.offset is not None:
            store_number(self, "offset", minimum=0)

    @property
    def sigma0(self) -> float:
        """sigma_b."""
        return self.factor * self.sigma

    @property
    def semi_elasticity(self) -> float:
        """The rate."""
        return float(self.rate)

    @property
    def m(self) -> float:
        """The offset, given or found.

        Raises:
            ConfigError: the offset is None, and the policy is not fitted.
        """
        return self._state().m if self.offset is None else float(self.offset)

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        sigma: Float[Tensor, " b"],
        draw: DrawNoise,
    ) -> Float[Tensor, " b"]:
        """Return sigma(x), float64; neither the model, nor the starting sigma, nor the noise is used.

        Args:
            model: not used.
            images: of the shape of the training images.
            sigma: not used.
            draw: not used.

        Raises:
            ConfigError: the policy is not fitted; images of another shape, or not finite; or a sigma that is not in
                the range of float64.
        """
        return self._sigma_at(images)

    @abstractmethod
    def _sigma_at(self, images: Float[Tensor, " b *shape"]) -> Float64[Tensor, " b"]:
        """Return sigma(x); errors as those of calling the policy."""

    def _with(self, fitted: Fitted) -> Self:
        """Return the policy with what fitting found; this one stays as it is."""
        policy = replace(self)
        object.__setattr__(policy, "_fitted", fitted)
        return policy

    def _state(self) -> Fitted:
        if self._fitted is None:
            name = type(self).__module__.rpartition(".")[2]
            raise ConfigError(f"{name}: not fitted; must be what fit(training images, labels) returns")
        return self._fitted

    def _mean_distances(self, images: Float[Tensor, " b *shape"], k: int) -> Float64[Tensor, " b"]:
        """Return the mean distance of each image to its k nearest points.

        Raises:
            ConfigError: the policy is not fitted; images of another shape, or not finite.
        """
        fitted = self._state()
        return fitted.points.mean_distances(flattened(images, fitted.shape), k)

    def _unbounded(self, distances: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """Return sigma_b exp(r (f(x) - m)), given f(x)."""
        return self.sigma0 * torch.exp(self.rate * (distances - self.m))

    def _checked_range(self, sigma: Float64[Tensor, " b"], *, right: str) -> Float64[Tensor, " b"]:
        """Return sigma(x) if it is in the range of float64.

        Args:
            sigma: of each image.
            right: what the rate must be where it is not.

        Raises:
            ConfigError: a sigma is 0 or not finite.
        """
        if not bool((sigma.isfinite() & (sigma > 0)).all()):
            found = f"from {sigma.min().item():g} to {sigma.max().item():g}"
            raise ConfigError(f"rate: {self.rate}; must be {right}: with m = {self.m:g}, sigma is {found}")
        return sigma
