"""Two-sided bounds at one split of alpha, and the best of several; the theorem is in `two_sided`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from certsmooth._internal.checks import check_alpha
from certsmooth.science.certificates import Bound, Smoothing, concluded, selected_class, taken_off

_ROUNDING = 2.0**-46
"""Relative; covers the error of ndtri, measured as below 2**-50 of the value, of a difference and of two products."""


OthersUpper = Callable[..., Float[np.ndarray, " N"]]
"""Counts of the other classes [N, k], 0 for the selected class; samples of each image; and ``alpha`` -> an upper bound
on the largest probability of the others."""


def bound_at_split(
    selection: Int[np.ndarray, "N k"],
    estimation: Int[np.ndarray, "N k"],
    smoothing: Smoothing,
    *,
    alpha: float,
    share: float,
    others_upper: OthersUpper | None = None,
    majority: bool = False,
) -> Bound:
    """Certify N images with p_A bounded at level share * alpha and p_B at level (1 - share) * alpha.

    Args:
        selection: class counts of the samples that select the class.
        estimation: class counts of the samples, drawn independently, that bound the probabilities.
        smoothing: the noise.
        alpha: the probability of error per image, in (0, 1).
        share: in (0, 1]; 1 leaves nothing for p_B, which is then 1 - p_A.
        others_upper: bounds p_B; None for the bound on the class with the largest count.
        majority: abstain unless p_A > 1/2.

    Raises:
        ConfigError: alpha is too small for the numerical functions.
    """
    alpha = check_alpha(alpha)
    selected, lower = selected_class(selection, estimation, smoothing.trials, alpha=share * alpha)
    cost = smoothing.distance()
    p_a_lower = taken_off(lower, cost)
    p_b_upper = np.minimum(np.nextafter(1.0 - p_a_lower, 2.0), 1.0)
    if share < 1:
        others = estimation.copy()
        np.put_along_axis(others, selected[:, None], 0, axis=1)
        samples, left = estimation.sum(axis=1), (1.0 - share) * alpha
        if others_upper is None:
            bound = smoothing.trials.upper(others.max(axis=1), samples, alpha=left)
        else:
            bound = others_upper(others, samples, alpha=left)
        p_b_upper = np.minimum(p_b_upper, np.where(cost > 0, np.nextafter(bound + cost, 2.0), bound))
    radius = _radius(p_a_lower, p_b_upper, smoothing.sigma)
    if majority:
        radius = np.where(p_a_lower > 0.5, radius, 0.0)
    return concluded(selected, radius, p_a_lower, p_b_upper, smoothing, norm="l2")


def best_of_splits(certify: Callable[[float], Bound], grid: int) -> Bound:
    """Return, for each image, the certificate with the largest radius over the shares 1/grid, 2/grid, ..., 1.

    Args:
        certify: a share -> the certificates of all images.
        grid: number of shares.
    """
    bounds = [certify(j / grid) for j in range(1, grid + 1)]
    best = np.argmax([bound.radius for bound in bounds], axis=0)
    rows = np.arange(len(best))
    fields = ("predict", "radius", "p_a_lower", "p_b_upper")
    return Bound(*(np.stack([getattr(bound, field) for bound in bounds])[best, rows] for field in fields))


def _radius(
    p_a_lower: Float[np.ndarray, " N"], p_b_upper: Float[np.ndarray, " N"], sigma: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Return sigma / 2 (ndtri(p_a_lower) - ndtri(p_b_upper)), rounded down, and 0 where it is not positive."""
    a, b = ndtri(p_a_lower), ndtri(p_b_upper)  # p_a_lower < 1 and p_b_upper > 0: at worst -inf - inf
    gap = np.maximum((a - b) - _ROUNDING * (np.abs(a) + np.abs(b)), 0.0)
    return 0.5 * sigma.astype(np.float64) * gap * (1.0 - _ROUNDING)
