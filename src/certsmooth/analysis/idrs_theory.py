"""How far sigma may differ between two points at all: IDRS, Theorem 2.4 and Table 1.

Where nothing but sigma differs between x0 and x1 = x0, the worst-case classifier (IDRS, Theorem 2.2) is a ball around
x0 (sigma1 < sigma0) or the complement of one (sigma1 > sigma0). xi, the largest probability of another class at x1, is
least at distance 0: where xi(0) >= 1/2, nothing is certified at any distance.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.special import lambertw
from scipy.stats import chi2

from certsmooth._internal.checks import check_integer, check_number
from certsmooth.analysis.published import published_numbers
from certsmooth.report.files import write_result
from certsmooth.report.markdown import dataset_name, paragraph, pipe_table

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


@dataclass(frozen=True)
class ThresholdRow:
    """One cell of Table 1.

    Attributes:
        dataset: name of the data set, with its image size where there are several.
        dimension: N.
        p_a: probability of the top class.
        theorem: by Theorem 2.4.
        exact: where xi(0) = 1/2.
        published: the smaller threshold as the paper prints it; None if it does not.
    """

    dataset: str
    dimension: int
    p_a: float
    theorem: Thresholds
    exact: Thresholds
    published: float | None


@dataclass(frozen=True)
class Table1:
    """All of Table 1."""

    rows: tuple[ThresholdRow, ...]


def table1() -> tuple[ThresholdRow, ...]:
    """Return IDRS, Table 1: thresholds for each data set and p_A, and the published ones beside them."""
    published = {(n.dataset, float(n.sigma.removeprefix("pA="))): n.value for n in published_numbers("idrs", 1)}
    return tuple(
        ThresholdRow(
            dataset,
            dimension,
            p_a,
            theorem_thresholds(p_a, dimension),
            exact_thresholds(p_a, dimension),
            published.get((dataset, p_a)),
        )
        for dataset, dimension in DIMENSIONS.items()
        for p_a in PROBABILITIES
    )


def write_table1(folder: Path, *, figure: str | None = None) -> tuple[Path, Path, Path]:
    """Write Table 1 to a folder by `certsmooth.report.files.write_result`; its stem is ``table1``.

    Args:
        folder: must exist.
        figure: a picture that the Markdown file shows (Figure 3); its path relative to ``folder``.
    """
    result = Table1(table1())
    return write_result(folder / "table1", result, markdown=_markdown(result.rows, figure), values=_csv(result.rows))


_TEXT = """\
If sigma1 / sigma0 is below the threshold, IDRS cannot certify that a point smoothed with sigma1 gets the class that a
point smoothed with sigma0 has with probability p_A, however near the two are (the curse of dimensionality).

Theorem 2.4 bounds the threshold at which xi(0) = 1/2, which is computed here exactly from the central chi-square
distribution. In high dimension the bound's distance from 1 is sqrt(2 log(1 / (1 - p_A))) / Phi^-1(p_A) times the exact
one (1.67 at p_A = 0.9, 1.15 at 0.99993): it does not become tight as N grows."""


def _markdown(rows: Sequence[ThresholdRow], figure: str | None) -> str:
    return (
        "\n\n".join(
            [
                "# IDRS Table 1: thresholds of sigma1 / sigma0",
                _TEXT,
                "## Theorem 2.4, statement 1, beside the published values",
                _grid(rows, lambda row: f"{row.theorem.smaller:.5f} ({_printed(row)})"),
                paragraph("In brackets: published, not ours.", _disagreements(rows)),
                "## Exact: where xi(0) = 1/2, sigma1 < sigma0",
                _grid(rows, lambda row: f"{row.exact.smaller:.5f}"),
                "## Theorem 2.4, statement 2 (exact), sigma1 > sigma0: no certificate above",
                _grid(rows, lambda row: f"{row.theorem.larger:.5f} ({row.exact.larger:.5f})"),
                *([f"![Thresholds against dimension]({figure})"] if figure else []),
            ]
        )
        + "\n"
    )


def _printed(row: ThresholdRow) -> str:
    return "–" if row.published is None else f"{row.published:.3f}"


def _disagreements(rows: Sequence[ThresholdRow]) -> str:
    """Say which published values are not the theorem's value to the three digits printed."""
    printed = [row for row in rows if row.published is not None]
    differing = [row for row in printed if round(row.theorem.smaller, 3) != row.published]
    if not differing:
        return "All published values are those of Theorem 2.4, rounded to three digits."
    exceptions = "; ".join(
        f"{dataset_name(row.dataset)}, p_A = {row.p_a:g}: {row.theorem.smaller:.5f}, printed {row.published:.3f}"
        for row in differing
    )
    agreeing = len(printed) - len(differing)
    return (
        f"{agreeing} of {len(printed)} published values are those of Theorem 2.4, rounded to three digits. "
        f"Not so: {exceptions}, one unit of the last digit."
    )


def _grid(rows: Sequence[ThresholdRow], text: Callable[[ThresholdRow], str]) -> str:
    body = []
    for dataset, dimension in DIMENSIONS.items():
        body.append([dataset_name(dataset), f"{dimension:,}", *(text(row) for row in rows if row.dataset == dataset)])
    return pipe_table(["Data set", "N", *(f"p_A = {p_a:g}" for p_a in PROBABILITIES)], body, text=1)


_CSV_COLUMNS = ("dataset", "dimension", "p_a", "statement", "theorem", "exact", "published")


def _csv(rows: Sequence[ThresholdRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for row in rows:
        shared = row.dataset, row.dimension, row.p_a
        writer.writerow([*shared, 1, row.theorem.smaller, row.exact.smaller, row.published])
        writer.writerow([*shared, 2, row.theorem.larger, row.exact.larger, None])
    return text.getvalue()
