"""Certificates of counts of two classes, from which all that matters of a one-sided certificate can be seen."""

import numpy as np

from certsmooth.science.certificates import FLOAT32_ROUNDING, Smoothing
from certsmooth.science.theory.pixel_grid import PixelGrid

GRID = PixelGrid(255)
"""Of pixels of 8 bits."""


def two_class_counts(first, n):
    """Return counts of n samples each, [images, 2], of which ``first`` are of class 0."""
    return np.stack([first, n - first], axis=1).astype(np.int64)


def certify_two_classes(
    certificate,
    first,
    n,
    *,
    alpha,
    sigma=1.0,
    rate=0.0,
    within=0.0,
    dimension=784,
    selected=0,
    rounding=FLOAT32_ROUNDING,
):
    """Return the certificates of images whose n samples give class 0 ``first`` times each.

    Args:
        certificate: with its options.
        first: one count per image.
        n: samples of the estimation.
        alpha: of each certificate.
        sigma: of all images or of each; of semi-elasticity ``rate``, and constant ``within`` a distance.
        dimension: of the images.
        selected: the class of every selection.
        rounding: of the sigma.
    """
    same = np.ones(len(first))
    smoothing = Smoothing(sigma * same, dimension, rate, within * same, rounding)
    selection = np.eye(2, dtype=np.int64)[[selected] * len(first)]
    return certificate(selection, two_class_counts(first, n), smoothing, alpha=alpha)
