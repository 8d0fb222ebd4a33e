"""Certificates: pure functions from class counts to a prediction and a radius, one file each.

A member module defines ``certify(selection, estimation, sigma, *, alpha) -> Bound`` and
``MAX_SEMI_ELASTICITY: float``, the largest semi-elasticity of sigma(x) for which its theorem holds (0 where
the theorem is about one constant sigma).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from certsmooth.errors import ConfigError
from certsmooth.registry import member

Guarantee = Literal["global", "memory", "none"]
"""What a certificate promises: ``global`` holds at any time on any device; ``memory`` holds within the stored
session, in that order; ``none``: reported by some papers, not proved."""

ABSTAIN = -1


@dataclass(frozen=True)
class Bound:
    """Certificates of N images.

    Attributes:
        predict: int64 [N], the class, or -1 (abstain).
        radius: float64 [N], in pixel coordinates [0, 1]; 0 where the prediction abstains.
        p_a_lower: float64 [N], lower confidence bound on the probability of the selected class.
    """

    predict: Int[np.ndarray, " N"]
    radius: Float[np.ndarray, " N"]
    p_a_lower: Float[np.ndarray, " N"]


def certify(
    name: str,
    selection: Int[np.ndarray, "N k"],
    estimation: Int[np.ndarray, "N k"],
    sigma: Float[np.ndarray, " N"],
    *,
    alpha: float,
) -> Bound:
    """Certify N images with the certificate of that name.

    Args:
        name: a module of this package.
        selection: class counts of the samples that select the class.
        estimation: class counts of the samples, drawn independently, that bound its probability.
        sigma: standard deviation of each image's noise, in pixel coordinates [0, 1].
        alpha: the probability, per image, that the certificate is wrong.

    Raises:
        ConfigError: no such certificate, or an argument is not valid.
    """
    bound: Bound = member("certificates", name).certify(selection, estimation, sigma, alpha=alpha)
    return bound


def guarantee(certificate_name: str, semi_elasticity: float | None) -> Guarantee:
    """Return what a certificate promises for a sigma policy, before any memory pass.

    Args:
        certificate_name: a module of this package.
        semi_elasticity: that of the policy; 0 for a constant sigma, None where nothing is known.

    Returns:
        ``global`` if the certificate's theorem covers the policy, else ``none``.

    Raises:
        ConfigError: no such certificate, or ``semi_elasticity`` is negative or not a number.
    """
    largest: float = member("certificates", certificate_name).MAX_SEMI_ELASTICITY
    if semi_elasticity is None:
        return "none"
    if not semi_elasticity >= 0:
        raise ConfigError(f"semi_elasticity: {semi_elasticity!r}; must be 0 or more, or None where unknown")
    return "global" if semi_elasticity <= largest else "none"


def check_counts(
    selection: Int[np.ndarray, "N k"], estimation: Int[np.ndarray, "N k"], sigma: Float[np.ndarray, " N"]
) -> None:
    """Check the arguments that every certificate takes.

    Raises:
        ConfigError: counts are not integers, negative, of fewer than two classes, of different shapes, or of
            an image without samples; or sigma is not one finite positive number per image. The message names
            the argument.
    """
    for name, counts in (("selection", selection), ("estimation", estimation)):
        check_count_rows(name, counts)
    if selection.shape != estimation.shape:
        raise ConfigError(f"estimation: shape {estimation.shape}; must be that of selection, {selection.shape}")
    if sigma.shape != selection.shape[:1]:
        raise ConfigError(f"sigma: shape {sigma.shape}; must be one value per image, {selection.shape[:1]}")
    wrong = ~(np.isfinite(sigma) & (sigma > 0))
    if wrong.any():
        raise ConfigError(f"sigma: {sigma[wrong][0]} at image {np.argmax(wrong)}; must be finite and above 0")


def check_count_rows(name: str, counts: Int[np.ndarray, "N k"]) -> None:
    """Raise ConfigError unless ``counts`` is an array of class counts with at least one sample per image."""
    if counts.ndim != 2 or counts.shape[1] < 2:
        raise ConfigError(f"{name}: shape {counts.shape}; must be [N, k] with at least k = 2 classes")
    if not np.issubdtype(counts.dtype, np.integer):
        raise ConfigError(f"{name}: values of type {counts.dtype}; must be integers")
    if (counts < 0).any():
        raise ConfigError(f"{name}: a count of {counts.min()}; must be 0 or more")
    empty = ~counts.any(axis=1)
    if empty.any():
        raise ConfigError(f"{name}: no sample of image {np.argmax(empty)}; must be at least 1")
