"""Certificates of given class counts, for people who sample themselves or stored the counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from certsmooth._internal.checks import check_number
from certsmooth.errors import ConfigError
from certsmooth.science.certificates import Certificate, Smoothing, check_count_rows, guarantee
from certsmooth.science.certificates.cohen import CohenCertificate
from certsmooth.science.theory.pixel_grid import PixelGrid
from certsmooth.science.theory.sequential import FIXED, StoppedTrials


def certify_counts(
    selection: Int[np.ndarray, "N k"],
    estimation: Int[np.ndarray, "N k"],
    sigma: float | Float[np.ndarray, " N"],
    *,
    alpha: float = 0.001,
    certificate: Certificate | None = None,
    semi_elasticity: float | None = None,
    constant_within: Float[np.ndarray, " N"] | None = None,
    dimension: int | None = None,
    step: float | None = None,
    n_max: int | None = None,
) -> pd.DataFrame:
    """Certify N images by the class counts of their noisy copies (CERTIFY of Cohen et al. 2019, and others).

    Args:
        selection: class counts of the samples that select the class: the most frequent one, the smallest class index
            among equals.
        estimation: class counts of the samples, drawn independently of the others, that bound its probability.
        sigma: of the noise, in the units of the images: one number, the same everywhere, or that of each image. The
            standard deviation of Gaussian noise, half the width of uniform noise.
        alpha: each certificate is wrong with at most this probability, in (0, 1).
        certificate: None for `CohenCertificate`.
        semi_elasticity: where sigma is that of each image: r such that log sigma(x) is r-Lipschitz in l2; None where
            nothing is known.
        constant_within: float [N], l2 distance up to which sigma(x) is known to be the same; None for 0.
        dimension: numbers per image; needed for a certificate about a varying sigma, and for a step.
        step: that noisy images were rounded to, 1 divided by a whole number; None for float32 noise.
        n_max: where samples were stopped by what they showed: how many would have been drawn at most, fixed before the
            first one. None: the number of estimation samples, the same of every image, was fixed beforehand.

    Returns:
        One row per image: ``predict`` (-1: abstain), ``radius`` (in the certificate's norm and the units of the images;
        0 if it abstains), ``p_a_lower``, ``p_b_upper``, ``sigma``, ``guarantee`` (as `SmoothedClassifier.certify`).

    Raises:
        ConfigError: an argument is not valid; the message names it.

    Example:
        >>> certify_counts(np.array([[99, 1]]), np.array([[9990, 10]]), 0.25, alpha=0.001)  # doctest: +SKIP
    """
    selection, estimation = np.asarray(selection), np.asarray(estimation)
    certificate = certificate or CohenCertificate()
    grid = None if step is None else PixelGrid.of_step(step)
    images = len(selection)
    is_constant = np.ndim(sigma) == 0
    if is_constant:
        if semi_elasticity:
            raise ConfigError(f"semi_elasticity: {semi_elasticity}; must be None, as sigma is one number")
        semi_elasticity, sigma = 0.0, np.full(images, check_number("sigma", sigma, above=0))
    if constant_within is None:
        constant_within = np.full(images, np.inf if is_constant else 0.0)
    if n_max is None:
        _check_fixed(estimation)
    trials = FIXED if n_max is None else StoppedTrials(n_max)
    promise = guarantee(certificate, semi_elasticity, grid)
    if dimension is None and (grid is not None or certificate.max_semi_elasticity):
        reason = f"{certificate.member_name()} depends on it" if grid is None else "a step makes radii depend on it"
        raise ConfigError(f"dimension: None; must be the numbers per image, because {reason}")
    numbers = 1 if dimension is None else dimension
    noise = np.asarray(sigma, np.float64)
    smoothing = Smoothing(noise, numbers, semi_elasticity, constant_within, grid=grid, trials=trials)
    bound = certificate(selection, estimation, smoothing, alpha=alpha)
    columns = {name: getattr(bound, name) for name in ("predict", "radius", "p_a_lower", "p_b_upper")}
    return pd.DataFrame(columns | {"sigma": smoothing.sigma, "guarantee": promise})


def _check_fixed(estimation: Int[np.ndarray, "N k"]) -> None:
    """Raise unless all images have equally many samples: else these were hardly fixed before they were drawn."""
    check_count_rows("estimation", estimation)
    n = estimation.sum(axis=1)
    if len(n) and n.min() != n.max():
        raise ConfigError(
            f"estimation: {n.min()} to {n.max()} samples of an image; must be equally many of each, fixed beforehand; "
            f"where they were stopped by what they showed, give n_max"
        )
