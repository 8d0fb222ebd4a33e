"""What a set of certificates is worth, with the uncertainty that comes from a finite test set.

Pure functions. Arrays of certificates have the shape [s, n]: s training seeds, n images, the same images for
each seed. Every interval is about the images only: the trained models are taken as given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri

from certsmooth.analysis import Record
from certsmooth.science.metrics import certified_radii

CONFIDENCE = 0.95
RESAMPLES = 2000
"""Bootstrap resamples; the Monte Carlo error of an interval's end is then about 3 % of the interval's
half-width."""
_BOOTSTRAP_SEED = 0
"""The same resamples for every interval, so that a number depends on its certificates alone."""


@lru_cache(maxsize=4096)  # a curve asks for few numbers of images again and again
def accuracy_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of an accuracy, at confidence `CONFIDENCE`.

    The mean over several seeds is treated as if one model had this accuracy. That errs on the wide side:
    among quantities between 0 and 1 with a given mean, the 0/1 outcome of one model has the largest variance.

    Args:
        accuracy: a fraction of ``images``.
        images: how many images it was measured on.
    """
    from statsmodels.stats.proportion import proportion_confint

    lower, upper = proportion_confint(accuracy * images, images, alpha=1 - CONFIDENCE, method="beta")
    return float(lower), float(upper)


def mean_interval(values: Float[np.ndarray, " n"], *, rng: np.random.Generator) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean over images, at confidence `CONFIDENCE`.

    Args:
        values: one per image, for example its `certified_radii`.
        rng: draws the `RESAMPLES` resamples of the images.
    """
    from scipy.stats import bootstrap

    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        batch=100,
        rng=rng,
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def difference_interval(difference: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Return the 95 % interval of a mean difference of paired proportions (Bonett and Price 2012).

    Two images are added, one for each side: where no image differs, the interval is no point.

    Args:
        difference: for each image, by how much more often one method succeeds than the other, in [-1, 1].
    """
    adjusted = np.append(difference, [1.0, -1.0])
    half = ndtri((1 + CONFIDENCE) / 2) * adjusted.std() / len(adjusted) ** 0.5
    return float(adjusted.mean() - half), float(adjusted.mean() + half)


def accuracy_record(accuracy: float, images: int, at: float, *, metric: str = "certified_accuracy") -> Record:
    """Return an accuracy at a radius as a row of a table, in percent with its interval.

    Args:
        accuracy: a fraction of ``images``.
        images: how many images it was measured on.
        at: the radius.
        metric: ``certified_accuracy`` or ``empirical_accuracy``.
    """
    lower, upper = accuracy_interval(accuracy, images)
    value = {"value": 100 * accuracy, "lower": 100 * lower, "upper": 100 * upper, "unit": "percent"}
    return {"metric": metric, "radius": float(at), **value}


def acr_record(correct: Bool[np.ndarray, "s n"], radius: Float[np.ndarray, "s n"], norm: str) -> Record:
    """Return the ACR as a row of a table, with its interval; the resamples are the same for every table."""
    radii = certified_radii(correct, radius)
    lower, upper = mean_interval(radii, rng=np.random.default_rng(_BOOTSTRAP_SEED))
    value = {"value": float(radii.mean()), "lower": lower, "upper": upper, "unit": f"{norm} radius"}
    return {"metric": "acr", "radius": None, **value}


@dataclass(frozen=True)
class PairedComparison:
    """Images on which only one of two methods succeeds.

    Attributes:
        first_only: images where the first method is better.
        second_only: images where the second method is better.
        p_value: two-sided; the probability of a split at least as uneven if either were as likely.
    """

    first_only: int
    second_only: int
    p_value: float


def mcnemar(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> PairedComparison:
    """Compare two methods on the same images with McNemar's exact test.

    With several seeds, an image counts for the method that succeeds in the larger fraction of its seeds: the
    sign test over images, which for one seed is McNemar's.

    Args:
        first: `certified` of one method.
        second: that of the other, on the same images in the same order.
    """
    from statsmodels.stats.contingency_tables import mcnemar as exact_test

    first_only, second_only = int((first > second).sum()), int((second > first).sum())
    p_value = exact_test([[0, first_only], [second_only, 0]], exact=True).pvalue
    return PairedComparison(first_only, second_only, float(p_value))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p values adjusted for their number (Holm 1979), in the order given."""
    from statsmodels.stats.multitest import multipletests

    return tuple(float(p) for p in multipletests(p_values, method="holm")[1]) if p_values else ()
