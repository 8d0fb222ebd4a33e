"""How far sigma may differ between two points at all: IDRS, Theorem 2.4 and Table 1.

Where nothing but sigma differs between x0 and x1 = x0, the worst-case classifier (IDRS, Theorem 2.2) is a ball around
x0 (sigma1 < sigma0) or the complement of one (sigma1 > sigma0). xi, the largest probability of another class at x1, is
least at distance 0: where xi(0) >= 1/2, nothing is certified at any distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from scipy.special import lambertw
from scipy.stats import chi2

from certsmooth._internal.checks import check_integer, check_number
from certsmooth.analysis import Record
from certsmooth.analysis.published import published_numbers
from certsmooth.analysis.result import TableResult, tidy

_COLUMNS = ("dataset", "dimension", "p_a", "statement", "theorem", "exact", "published")

DIMENSIONS: Mapping[str, int] = {
    "mnist": 28 * 28,
    "cifar10": 3 * 32 * 32,
    "imagenet-3x256x256": 3 * 256 * 256,
    "imagenet-3x224x224": 3 * 224 * 224,
}
"""Numbers per image. The paper's Table 1 takes ImageNet as 3 x 256 x 256; its models see 3 x 224 x 224."""

PROBABILITIES = (0.9, 0.99, 0.999, 0.99993)
"""The p_A of Table 1; the last is about the largest lower bound that 100,000 samples allow at alpha 0.001."""


@dataclass(frozen=True)
class Thresholds:
    """Bounds on sigma1 / sigma0: at a ratio below ``smaller`` or above ``larger``, x1 is never certified.

    Attributes:
        smaller: below 1.
        larger: above 1.
    """

    smaller: float
    larger: float


def theorem_thresholds(p_a: float, dimension: int) -> Thresholds:
    """Return the thresholds of IDRS, Theorem 2.4: what its two inequalities say, solved for sigma1 / sigma0.

    With c = 2 log(1 - p_A) / N, the inequality log y + 1 - y < c holds exactly for y outside the two solutions of
    y exp(-y) = exp(c - 1), which are -W(-exp(c - 1)) for the two real branches of Lambert's W. Statement 1 has
    y = (sigma1 / sigma0)^2 < 1, statement 2 has y = (sigma1 / sigma0)^2 (N - 1) / N > 1.

    Args:
        p_a: probability of the top class at x0, in (1/2, 1).
        dimension: N >= 2.

    Raises:
        ConfigError: an argument is out of range.
    """
    p_a, dimension = _checked(p_a, dimension)
    argument = -math.exp(2 * math.log1p(-p_a) / dimension - 1)
    smaller, larger = (float(-lambertw(argument, branch).real) for branch in (0, -1))
    return Thresholds(math.sqrt(smaller), math.sqrt(larger * dimension / (dimension - 1)))


def exact_thresholds(p_a: float, dimension: int) -> Thresholds:
    """Return the ratios sigma1 / sigma0 at which xi(0) = 1/2, which the thresholds of Theorem 2.4 bound.

    At distance 0 the worst-case region is a ball around x0 with probability 1 - p_A under N(x0, sigma0^2 I): its radius
    is sigma0 sqrt(q), q the quantile of the chi-square of N degrees of freedom at 1 - p_A. Under N(x0, sigma1^2 I) its
    probability is 1/2 where (sigma0 / sigma1)^2 q is the median. For sigma1 > sigma0 the region is the complement of a
    ball of probability p_A, and q the quantile at p_A.

    Args:
        p_a: probability of the top class at x0, in (1/2, 1).
        dimension: N >= 2.

    Raises:
        ConfigError: an argument is out of range.
    """
    p_a, dimension = _checked(p_a, dimension)
    median = float(chi2.median(dimension))
    quantiles = float(chi2.ppf(1 - p_a, dimension)), float(chi2.isf(1 - p_a, dimension))
    return Thresholds(math.sqrt(quantiles[0] / median), math.sqrt(quantiles[1] / median))


def _checked(p_a: float, dimension: int) -> tuple[float, int]:
    return check_number("p_a", p_a, above=0.5, below=1), check_integer("dimension", dimension, minimum=2)


def threshold_table() -> TableResult:
    """Return IDRS, Table 1: thresholds for each data set and p_A, and the published ones beside them.

    Returns:
        About: nothing. Values: by ``statement`` of Theorem 2.4 (1: sigma1 < sigma0, 2: sigma1 > sigma0), the threshold
        of the ``theorem``, the ``exact`` one, and the smaller threshold as the paper prints it.
    """
    published = {
        (n["dataset"], float(n["sigma"].removeprefix("pA="))): n["value"] for n in published_numbers("idrs", 1)
    }
    rows: list[Record] = []
    for (dataset, dimension), p_a in product(DIMENSIONS.items(), PROBABILITIES):
        theorem, exact = theorem_thresholds(p_a, dimension), exact_thresholds(p_a, dimension)
        shared = {"dataset": dataset, "dimension": dimension, "p_a": p_a}
        smaller = {"statement": 1, "theorem": theorem.smaller, "exact": exact.smaller}
        larger = {"statement": 2, "theorem": theorem.larger, "exact": exact.larger}
        rows += [shared | smaller | {"published": published.get((dataset, p_a))}, shared | larger]
    title = "IDRS Table 1: thresholds of sigma1 / sigma0"
    return TableResult(kind="thresholds", name="table1", title=title, about={}, values=tidy(rows, _COLUMNS))
