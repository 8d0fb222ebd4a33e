"""What IDRS's certificate costs in high dimension: ImageNet, which the paper leaves open (IDRS, Sections 3 and 6).

The certificate of an r-semi-elastic sigma(x) needs p_A, sigma, r and the dimension N alone. So certificates of a
constant sigma, whose p_A is known, say what IDRS would certify for a sigma(x) that equals this sigma at the images and
is r-semi-elastic between them. That is what the certificate pays for r; what sigma(x) may gain by other values at the
images is not in it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from certsmooth._internal.checks import check_integer, check_number
from certsmooth.analysis.metrics import accuracy_interval, certified_accuracy, certified_radii, mean_interval
from certsmooth.analysis.result import Entry
from certsmooth.artefacts.certificates import rounding
from certsmooth.errors import ConfigError, CountsError
from certsmooth.report.files import write_result
from certsmooth.report.markdown import cell, paragraph, pipe_table
from certsmooth.science.theory.worst_case import semi_elastic_radius

if TYPE_CHECKING:
    import pandas as pd

IMAGENET = 3 * 224 * 224
"""Numbers per ImageNet image: 150,528."""

_BOOTSTRAP_SEED = 0


def with_probabilities(frame: pd.DataFrame, sigma: float) -> pd.DataFrame:
    """Add ``p_a_lower`` and ``sigma`` to published certificates: p_A = Phi(radius / sigma), rounded down.

    Published radii were rounded, half of them upwards, and that is taken off first: no p_A is above the one that was
    certified. Nor is it above the ``p_a_lower`` of certificates that have one: a two-sided radius is more than p_A
    alone gives.

    Args:
        frame: as `certsmooth.artefacts.certificates.read_published_certificates` returns it.
        sigma: the constant sigma of these certificates, in pixel coordinates [0, 1].

    Returns:
        A copy with the two columns; p_A is 1/2 where the radius is 0.

    Raises:
        ConfigError: sigma is not a positive number.
    """
    sigma = check_number("sigma", sigma, above=0)
    radius = frame["radius"].to_numpy(dtype=np.float64)
    p_a = ndtr(np.maximum(radius - rounding(radius), 0.0) / sigma)
    p_a = np.minimum(p_a * (1 - 1e-14), frame.get("p_a_lower", 1.0))
    return frame.assign(p_a_lower=np.maximum(p_a, 0.5), sigma=sigma)


@dataclass(frozen=True)
class HighDimensionRow:
    """What is certified from one set of certificates at one rate.

    Attributes:
        source: label of the certificates.
        rate: r, the semi-elasticity, per unit of l2 distance.
        images: number of images.
        entries: certified accuracy at each radius, then the ACR.
        radii: of each image, in the order of the certificates; 0 where the prediction is wrong.
    """

    source: str
    rate: float
    images: int
    entries: tuple[Entry, ...]
    radii: tuple[float, ...]


@dataclass(frozen=True)
class HighDimensionResult:
    """A table.

    Attributes:
        name: stem of its files.
        title: heading.
        about: where the certificates come from.
        dimension: N.
        at: radii of the columns.
        rows: by source and then by rate.
    """

    name: str
    title: str
    about: str
    dimension: int
    at: tuple[float, ...]
    rows: tuple[HighDimensionRow, ...]


def high_dimension_table(
    certificates: Mapping[str, pd.DataFrame],
    *,
    name: str,
    title: str,
    about: str,
    rates: Sequence[float],
    radii: Sequence[float],
    dimension: int = IMAGENET,
) -> HighDimensionResult:
    """Certify given p_A for r-semi-elastic sigma(x) in a dimension.

    Args:
        certificates: by label, frames with the columns ``p_a_lower``, ``sigma`` and ``correct``: a certificates file of
            ours, or `with_probabilities` of published ones.
        name: stem of the files, ``"imagenet"``.
        title: heading.
        about: where the certificates come from; a sentence.
        rates: values of r; 0 is the constant sigma.
        radii: at which certified accuracy is given.
        dimension: N.

    Raises:
        ConfigError: there are no certificates, or an argument is out of range.
        CountsError: fewer than two images.
    """
    dimension = check_integer("dimension", dimension, minimum=1)
    if not certificates:
        raise ConfigError(f"{name}: no certificates; must be at least one set")
    for label, frame in certificates.items():
        if len(frame) < 2:
            raise CountsError(f"{label}: {len(frame)} image; an interval needs at least 2")
    rows = [_row(label, frame, rate, radii, dimension) for label, frame in certificates.items() for rate in rates]
    return HighDimensionResult(name, title, about, dimension, tuple(map(float, radii)), tuple(rows))


def _row(label: str, frame: pd.DataFrame, rate: float, radii: Sequence[float], dimension: int) -> HighDimensionRow:
    p_a, sigma = (frame[column].to_numpy(dtype=np.float64) for column in ("p_a_lower", "sigma"))
    correct = frame["correct"].to_numpy(dtype=bool)
    radius: Float[np.ndarray, " n"] = np.asarray(semi_elastic_radius(p_a, sigma, rate, dimension))
    setting = float(sigma.mean()), {"r": rate}
    entries = []
    for at in radii:
        accuracy = certified_accuracy(correct[None], radius[None], at)
        lower, upper = accuracy_interval(accuracy, len(correct))
        entries.append(
            Entry("certified_accuracy", float(at), 100 * accuracy, 100 * lower, 100 * upper, "percent", *setting)
        )
    each = certified_radii(correct[None], radius[None])
    ends = mean_interval(each, rng=np.random.default_rng(_BOOTSTRAP_SEED))
    entries.append(Entry("acr", None, float(each.mean()), *ends, "l2 radius", *setting))
    return HighDimensionRow(label, float(rate), len(correct), tuple(entries), tuple(map(float, each)))


def write_high_dimension(
    result: HighDimensionResult, folder: Path, *, figure: str | None = None
) -> tuple[Path, Path, Path]:
    """Write a table to a folder by `certsmooth.report.files.write_result`; its stem is the table's name.

    Args:
        result: the table.
        folder: must exist.
        figure: a picture that the Markdown file shows; its path relative to ``folder``.
    """
    return write_result(folder / result.name, result, markdown=_markdown(result, figure), values=_csv(result))


def _markdown(result: HighDimensionResult, figure: str | None) -> str:
    text = paragraph(
        f"Certified accuracy in percent at l2 radius R, and ACR, that IDRS certifies at N = {result.dimension:,} for",
        "an r-semi-elastic sigma(x) which equals the constant sigma of the given certificates at each image, with the",
        "same p_A. The lines of one source differ by what the certificate pays for r; r = 0 is the constant sigma.",
        "In brackets: 95 % intervals for the finite test set (Clopper-Pearson; percentile bootstrap for the ACR).",
    )
    body = []
    for row in result.rows:
        constant = [other.entries[-1].value for other in result.rows if (other.source, other.rate) == (row.source, 0)]
        kept = f"{100 * row.entries[-1].value / constant[0]:.1f}" if any(constant) else "–"
        body.append([row.source, f"{row.rate:g}", *(cell(entry) for entry in row.entries), kept])
    headings = ["Certificates", "r", *(f"R={at:g}" for at in result.at), "ACR", "ACR kept (%)"]
    sections = [f"# {result.title}", result.about, text, pipe_table(headings, body, text=1)]
    if figure:
        sections.append(f"![Certified accuracy against radius]({figure})")
    return "\n\n".join(sections) + "\n"


def _csv(result: HighDimensionResult) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("table", "source", "dimension", "rate", "metric", "radius", "value", "unit", "lower", "upper", "images")
    )
    for row in result.rows:
        for e in row.entries:
            values = e.metric, e.radius, e.value, e.unit, e.lower, e.upper
            writer.writerow((result.name, row.source, result.dimension, row.rate, *values, row.images))
    return text.getvalue()
