"""Sigma grows with the distance to the nearest training images: IDRS, Section 4, equation 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
from annotated_types import Ge
from jaxtyping import Float, Float64, Int

from certsmooth.errors import ConfigError
from certsmooth.science.datasets import Images
from certsmooth.science.sigma._exponential import Exponential, Fitted
from certsmooth.science.sigma._neighbours import Neighbours, read_points, spread

if TYPE_CHECKING:
    from torch import Tensor

OFFSET_IMAGES = 2_000
"""Training images that ``offset: null`` is averaged over: their mean is known to a few thousandths of itself, and
fitting takes seconds, not the minutes of all pairs."""


@dataclass(frozen=True, kw_only=True)
class NearestNeighbourSigma(Exponential):
    """sigma(x) = sigma_b exp(r (mean distance from x to its k nearest training images - m)).

    Distances are l2 in pixel coordinates [0, 1] of the flattened images, exact but for rounding in float64. Since each
    distance is 1-Lipschitz in x, log sigma(x) is r-Lipschitz (IDRS, Theorem 4.1).

    That needs one function for all x, so it is the same one in training and at test time: a training image is its own
    nearest neighbour, at distance 0. With k = 20 that lowers its mean distance by about 5 %.

    The training images are held in memory, in their own type: 150 MB for CIFAR-10, but 190 GB for ImageNet.

    Attributes:
        sigma: > 0, in pixel coordinates.
        factor: > 0; sigma_b is factor times sigma.
        rate: r >= 0, per unit of l2 distance. The paper uses 0.005 to 0.05.
        neighbours: k, at most the number of training images.
        offset: m, >= 0; the paper uses 5 for CIFAR-10 and 1.5 for MNIST. None: the average distance of a training
            image to its k nearest others, so that sigma(x) is sigma_b on average (IDRS, Appendix E.1), estimated by
            2,000 training images at equal intervals, or all if there are fewer.
    """

    label: ClassVar[str] = "NN"
    legend: ClassVar[str] = "sigma grows with the distance to the nearest training images"

    neighbours: Annotated[int, Ge(1)] = 20

    def fit(self, images: Images, labels: Int[np.ndarray, " n"] | None = None) -> Self:
        """Return the policy for these training images; this one stays as it is.

        Args:
            images: [n, *shape], uint8 (divided by 255) or float32; read in blocks. At least k, or k + 1 if
                ``offset`` is None.
            labels: not used.

        Raises:
            ConfigError: too few images, or of another type, or not finite.
        """
        needed = self.neighbours + (self.offset is None)
        if len(images) < needed:
            others = " others of each image, because offset is None" if self.offset is None else ""
            raise ConfigError(
                f"neighbours: {self.neighbours}{others}; {len(images)} training images, must be >= {needed}"
            )
        points, shape = read_points(images)
        training = Neighbours(points)
        if (m := self.offset) is None:
            chosen = training.images(spread(len(training), OFFSET_IMAGES))
            m = training.mean_distances_to_others(chosen, self.neighbours).mean().item()
        return self._with(Fitted(training, shape, m))

    def _sigma_at(self, images: Float[Tensor, " b *shape"]) -> Float64[Tensor, " b"]:
        return self._checked_range(self._unbounded(self._mean_distances(images, self.neighbours)), right="smaller")
