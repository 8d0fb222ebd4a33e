"""What a set of certificates is worth: arrays of certificates have the shape [s, n], s training seeds and n images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def certified(correct: Bool[np.ndarray, "s n"], radius: Float[np.ndarray, "s n"], at: float) -> Float[np.ndarray, " n"]:
    """Return, for each image, the fraction of seeds whose model is correct with a radius of at least ``at``.

    Args:
        correct: the prediction is the label (an abstention is not).
        radius: certified radii, in the norm and the coordinates of the certificate.
        at: the radius asked for, >= 0. At 0, correct predictions count whatever their radius.
    """
    return np.asarray((correct & (radius >= at)).mean(axis=0))


def certified_accuracy(correct: Bool[np.ndarray, "s n"], radius: Float[np.ndarray, "s n"], at: float) -> float:
    """Return the certified accuracy at a radius (Cohen et al. 2019, section 4), the mean over seeds."""
    return float((correct & (radius >= at)).sum() / correct.size)


def certified_radii(correct: Bool[np.ndarray, "s n"], radius: Float[np.ndarray, "s n"]) -> Float[np.ndarray, " n"]:
    """Return the radius of each image, 0 where the prediction is wrong, as the mean over seeds."""
    return np.asarray(np.where(correct, radius, 0.0).mean(axis=0))


def average_certified_radius(correct: Bool[np.ndarray, "s n"], radius: Float[np.ndarray, "s n"]) -> float:
    """Return the ACR (DDRS, section 4; from MACER), the mean over seeds."""
    return float(certified_radii(correct, radius).mean())
