"""What policies share that let sigma grow exponentially with a distance: sigma(x) = sigma_b exp(r (f(x) - m))."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float, Float64

from certsmooth.errors import ConfigError
from certsmooth.science.sigma import DrawNoise, SigmaPolicy
from certsmooth.science.sigma._neighbours import Neighbours, flattened

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Fitted:
    """What fitting finds: the points that f measures distances to, the shape of an image, and m."""

    points: Neighbours
    shape: tuple[int, ...]
    m: float


@dataclass(frozen=True, kw_only=True)
class Exponential(SigmaPolicy):
    """Base of these policies; f is a mean of l2 distances to nearest points, in pixel coordinates [0, 1].

    Attributes:
        sigma: > 0, in pixel coordinates.
        rate: r >= 0, per unit of l2 distance.
        offset: m, >= 0; None for one that fitting finds.
        factor: > 0; sigma_b is factor times sigma.
    """

    sigma: Annotated[float, Gt(0)]
    rate: Annotated[float, Ge(0)]
    offset: Annotated[float, Ge(0)] | None = None
    factor: Annotated[float, Gt(0)] = 1.0
    _fitted: Fitted | None = field(default=None, init=False, repr=False, compare=False)

    uses_training_images: ClassVar[bool] = True

    @property
    def sigma0(self) -> float:
        """sigma_b."""
        return self.factor * self.sigma

    @property
    def semi_elasticity(self) -> float:
        """The rate."""
        return self.rate

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` made it."""
        return self._fitted is not None

    @property
    def m(self) -> float:
        """The offset, given or found.

        Raises:
            ConfigError: the offset is None, and the policy is not fitted.
        """
        return self._state().m if self.offset is None else self.offset

    def _choose(
        self, model: nn.Module, images: Float[Tensor, " b *shape"], sigma: Float[Tensor, " b"], draw: DrawNoise
    ) -> Float[Tensor, " b"]:
        return self._sigma_at(images)

    @abstractmethod
    def _sigma_at(self, images: Float[Tensor, " b *shape"]) -> Float64[Tensor, " b"]:
        """Return sigma(x), a function of the image alone.

        Raises:
            ConfigError: the policy is not fitted; images of another shape, or not finite; or a sigma that is not in
                the range of float64.
        """

    def _with(self, fitted: Fitted) -> Self:
        """Return the policy with what fitting found; this one stays as it is."""
        policy = replace(self)
        object.__setattr__(policy, "_fitted", fitted)
        return policy

    def _state(self) -> Fitted:
        if self._fitted is None:
            raise ConfigError(f"{self.member_name()}: not fitted; must be what fit(training images, labels) returns")
        return self._fitted

    def _mean_distances(self, images: Float[Tensor, " b *shape"], k: int) -> Float64[Tensor, " b"]:
        """Return the mean distance of each image to its k nearest points."""
        fitted = self._state()
        return fitted.points.mean_distances(flattened(images, fitted.shape), k)

    def _unbounded(self, distances: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """Return sigma_b exp(r (f(x) - m)), given f(x)."""
        return self.sigma0 * torch.exp(self.rate * (distances - self.m))

    def _checked_range(self, sigma: Float64[Tensor, " b"], *, right: str) -> Float64[Tensor, " b"]:
        """Return sigma(x); raise ConfigError, with what is right for the rate, if one is not in float64's range."""
        if not bool((sigma.isfinite() & (sigma > 0)).all()):
            found = f"from {sigma.min().item():g} to {sigma.max().item():g}"
            raise ConfigError(f"rate: {self.rate}; must be {right}: with m = {self.m:g}, sigma is {found}")
        return sigma
