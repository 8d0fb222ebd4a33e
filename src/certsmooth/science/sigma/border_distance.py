"""Sigma grows with the distance to the training images that lie between classes: small near them, large far away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float, Float64, Int, Shaped
from scipy.special import logsumexp

from certsmooth._internal.options import AllowInfinity
from certsmooth.errors import ConfigError
from certsmooth.science.datasets import Images
from certsmooth.science.sigma._exponential import Exponential, Fitted
from certsmooth.science.sigma._neighbours import Neighbours, pixels, read_points, spread

if TYPE_CHECKING:
    from torch import Tensor

CANDIDATES = 10_000
"""Most training images that fitting looks at for border images; each is compared with all training images."""

SLACK = 1e-11
"""Relative slack for the rounding of distances, whose relative error is below 1e-14."""


@dataclass(frozen=True, kw_only=True)
class BorderDistanceSigma(Exponential):
    """sigma(x) = sigma_b exp(r (f(x) - m)), kept in [lower sigma_b, upper sigma_b]; f the distance to border images.

    A constant sigma loses radius where x is far from every other class and n samples cannot show it (sigma
    Phi^-1(alpha^(1/n)) is the largest radius), which a larger sigma mends, and loses accuracy near a border, which a
    smaller one mends. So sigma here follows a distance to where classes meet, known before any model is trained: the
    *border images* are the training images with the smallest margin

        (mean distance to the k nearest images of other classes - mean distance to the k nearest others of its own) / 2,

    and f(x) is the l2 distance from x to the nearest border image, in pixel coordinates [0, 1] of the flattened image.
    Neither labels nor images of the test data are used, and it is one function for all x: a border image is at distance
    0 from itself.

    **Semi-elasticity.** f is the minimum of 1-Lipschitz functions, so 1-Lipschitz. h(t) = clip(r (t - m), log lower,
    log upper) does not decrease, is r-Lipschitz, and is constant from t_1 = m + log(upper) / r on, and up to
    t_0 = m + log(lower) / r. So log sigma(x) = log sigma_b + h(f(x)) is r-Lipschitz.

    **Where it is constant.** With D = |x' - x| and c(x) = max(f(x) - t_1, t_0 - f(x), 0):
    |log sigma(x') - log sigma(x)| <= r max(0, D - c(x)). For c = 0 that was shown. For c = f(x) - t_1 > 0,
    f(x') >= f(x) - D = t_1 - (D - c), so h(t_1) - h(f(x')) <= r max(0, D - c), and h(f(x)) = h(t_1) is the largest
    value of h. The other case is its mirror image. An infinite rate makes t_0 = t_1 = m: sigma is lower sigma_b where
    f < m and upper sigma_b elsewhere, and r max(0, D - c) stands for 0 up to D = c and infinity beyond, so that the
    certificate is Cohen's as long as its ball stays on one side.

    Attributes:
        sigma: > 0, in pixel coordinates.
        factor: > 0; sigma_b is factor times sigma.
        rate: r > 0, per unit of l2 distance, or infinite.
        lower: smallest sigma(x) / sigma_b, in (0, 1); None for no bound, if the rate is finite.
        upper: largest sigma(x) / sigma_b, > 1; None for no bound, if the rate is finite.
        share: of border images among the training images looked at (10,000 at equal intervals, or all if there are
            fewer), in (0, 1]; two images at least.
        neighbours: k.
        offset: m, >= 0. None: such that sigma(x) is sigma_b on average over the training images looked at, where a
            border image is not its own neighbour; for an infinite rate, but for (upper - lower) sigma_b / number of
            these images, as that average takes steps.
    """

    label: ClassVar[str] = "BD"
    legend: ClassVar[str] = "sigma grows with the distance to the border between classes"

    rate: Annotated[float, Gt(0), AllowInfinity()]
    lower: Annotated[float, Gt(0), Lt(1)] | None = None
    upper: Annotated[float, Gt(1)] | None = None
    share: Annotated[float, Gt(0), Le(1)] = 0.1
    neighbours: Annotated[int, Ge(1)] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.isinf(self.rate) and (self.lower is None or self.upper is None):
            raise ConfigError(
                f"rate: inf, with lower {self.lower} and upper {self.upper}; must be finite, or both given"
            )

    def fit(self, images: Images, labels: Int[np.ndarray, " n"] | None = None) -> Self:
        """Return the policy for these training images; this one stays as it is.

        Args:
            images: [n, *shape], uint8 (divided by 255) or float32; read in blocks. Only border images are kept.
            labels: their classes: two or more, of at least k + 1 images each.

        Raises:
            ConfigError: labels are missing, not one for each image, or of a class with too few images; or images are of
                another type, or not finite.
        """
        classes = self._checked(images, labels)
        points, shape = read_points(images)
        chosen = spread(len(points), CANDIDATES)
        count = min(len(chosen), max(2, math.ceil(self.share * len(chosen))))
        order = margins(points, classes, chosen, self.neighbours).argsort(stable=True)
        border = Neighbours(points[chosen[order[:count]]])
        inner = pixels(points[chosen[order[count:]]])
        average_over = torch.cat(
            [border.mean_distances_to_others(border.images(slice(None)), 1), border.mean_distances(inner, 1)]
        )
        m = self._offset(average_over.numpy()) if self.offset is None else self.offset
        return self._with(Fitted(border, shape, m))

    def constant_within(self, images: Float[Tensor, " b *shape"]) -> Float[Tensor, " b"]:
        """Return c(x) of the class docstring, rounded down: sigma(x') is the same float64 number up to there.

        Args:
            images: of the shape of the training images.

        Raises:
            ConfigError: as calling the policy.
        """
        # The computed f errs by less than SLACK / 4 of itself, at x and at x', where f(x') <= f(x) + D.
        distances, (lowest, highest) = self._mean_distances(images, 1), self._thresholds()
        return (torch.maximum(distances - highest, lowest - distances) * (1 - SLACK) - SLACK * distances).clamp(min=0)

    def _sigma_at(self, images: Float[Tensor, " b *shape"]) -> Float64[Tensor, " b"]:
        distances, (lowest, highest) = self._mean_distances(images, 1), self._thresholds()
        found = self._unbounded(distances)
        # By comparisons of the distance: exactly constant beyond the thresholds, and with an infinite rate as well.
        if self.lower is not None:
            found[distances < lowest] = self.sigma0 * self.lower
        if self.upper is not None:
            found[distances >= highest] = self.sigma0 * self.upper
        return self._checked_range(found, right="smaller, or lower and upper given")

    def _thresholds(self) -> tuple[float, float]:
        """Return t_0 and t_1; -infinity and infinity where there is no bound."""
        return (
            -math.inf if self.lower is None else self.m + math.log(self.lower) / self.rate,
            math.inf if self.upper is None else self.m + math.log(self.upper) / self.rate,
        )

    def _offset(self, distances: Float64[np.ndarray, " n"]) -> float:
        """Return the m at which the average of sigma(x) / sigma_b is 1; there is one, as lower < 1 < upper."""
        lower, upper = self.lower or 0.0, self.upper or math.inf
        if math.isinf(self.rate):
            return float(np.quantile(distances, (upper - 1) / (upper - lower)))
        from scipy.optimize import brentq  # here, as it takes a quarter of a second, which a check need not wait for

        low, high = math.log(lower) if lower else -math.inf, math.log(upper)

        def log_average(m: float) -> float:
            return float(logsumexp(np.clip(self.rate * (distances - m), low, high))) - math.log(len(distances))

        # At the ends all of sigma(x) / sigma_b are above 1, and all below.
        bracket = distances.min() - 1 / self.rate, distances.max() + 1 / self.rate
        return float(brentq(log_average, *bracket))

    def _checked(self, images: Images, labels: Int[np.ndarray, " n"] | None) -> Int[Tensor, " n"]:
        if labels is None:
            raise ConfigError("labels: None; must be the classes of the training images, for border_distance")
        if np.shape(labels) != (len(images),):
            raise ConfigError(f"labels: shape {np.shape(labels)}; must be one for each image, ({len(images)},)")
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) < 2:
            raise ConfigError(f"labels: {len(classes)} classes; must be 2 or more")
        if counts.min() <= self.neighbours:
            few = f"class {classes[counts.argmin()]} has {counts.min()} training images"
            raise ConfigError(f"neighbours: {self.neighbours} others of each image; {few}, must be more")
        return torch.from_numpy(np.ascontiguousarray(labels))


def margins(
    points: Shaped[Tensor, "n d"], labels: Int[Tensor, " n"], chosen: Int[Tensor, " m"], k: int
) -> Float64[Tensor, " m"]:
    """Return the margin of the chosen points: half of how much farther other classes are than its own.

    Args:
        points: the training images, flattened.
        labels: their classes, each of more than k points.
        chosen: positions of some of them.
        k: nearest points that distances are averaged over; a point is not its own.
    """
    found = torch.empty(len(chosen), dtype=torch.float64)
    for label in sorted(set(labels[chosen].tolist())):
        rows, own = labels[chosen] == label, labels == label
        x = pixels(points[chosen[rows]])
        found[rows] = Neighbours(points[~own]).mean_distances(x, k)
        found[rows] -= Neighbours(points[own]).mean_distances_to_others(x, k)
    return found / 2
