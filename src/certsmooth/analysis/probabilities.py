"""How p_A, the probability of the label under the noise, is distributed over images.

ACR is a mean of radii, which few large ones can lift: a classifier that ignores its input is certified at the largest
radius wherever it is right (Sun et al. 2025). The distribution shows that: most of such a classifier's images lie at
1/2.

p_A of an image is the lower confidence bound of its certificate where the prediction is the label; every other image
counts as 1/2, and so does a bound below that. For files of others, it follows from radius and sigma in l2
(`certsmooth.analysis.high_dimension.with_probabilities`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from certsmooth.analysis import Record
from certsmooth.analysis.metrics import CONFIDENCE
from certsmooth.analysis.runs import Outcome

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
METRIC = "p_a_quantile"


def label_probability(outcome: Outcome) -> Float[np.ndarray, "s n"] | None:
    """Return p_A of each image and training seed, in [1/2, 1], images in increasing order of idx.

    Returns:
        None where it is not known: the file has radii from which it does not follow, or a memory changed predictions,
        of which the certificates do not say which.
    """
    if any("p_a_lower" not in run.frame or _repredicted(run.provenance.get("memory")) for run in outcome.runs):
        return None
    bounds = [run.frame.sort_values("idx")["p_a_lower"].to_numpy(dtype=np.float64) for run in outcome.runs]
    return np.where(outcome.correct, np.maximum(bounds, 0.5), 0.5)


def _repredicted(memory: Record | None) -> bool:
    return memory is not None and int(memory["repredicted"]) > 0


def band(seeds: int, images: int) -> float:
    """Return by how much an empirical distribution function may differ from that of all images, anywhere.

    That is the inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant, at confidence `CONFIDENCE`. With
    several seeds it holds for each of them at once (a union bound), and so for their mean.
    """
    return math.sqrt(math.log(2 * seeds / (1 - CONFIDENCE)) / (2 * images))


def distribution(p_a: Float[np.ndarray, "s n"], at: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Return the share of images with p_A <= each value, the mean over training seeds."""
    return np.searchsorted(np.sort(p_a, axis=None), at, side="right") / p_a.size


def quantile(p_a: Float[np.ndarray, "s n"], share: float) -> float:
    """Return the smallest p_A that a share of the images does not exceed; 1/2 and 1 beyond shares 0 and 1."""
    if share <= 0:
        return 0.5
    return float(np.quantile(p_a, share, method="inverted_cdf")) if share <= 1 else 1.0


def quantile_records(outcome: Outcome) -> Iterator[Record]:
    """Yield the `QUANTILES` of p_A, where it is known, as rows of a table with their intervals.

    The intervals are those of the `band`: they hold for all quantiles at once.
    """
    if (p_a := label_probability(outcome)) is None:
        return
    width = band(*p_a.shape)
    for share in QUANTILES:
        lower, upper = (quantile(p_a, share + change) for change in (-width, width))
        number = {"value": quantile(p_a, share), "unit": "probability", "lower": lower, "upper": upper}
        yield {"metric": METRIC, "quantile": share, **number}
