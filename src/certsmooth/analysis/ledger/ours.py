"""Our numbers, as the ledger compares them with published ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from scipy.special import ndtri

from certsmooth.analysis import Record
from certsmooth.analysis.metrics import CONFIDENCE
from certsmooth.analysis.result import records

if TYPE_CHECKING:
    import pandas as pd

OURS_COLUMNS = (
    *("paper", "table", "source", "dataset", "data", "method", "sigma", "metric", "radius", "value", "lower", "upper"),
    *("images", "seeds"),
)
"""Of our numbers: the published table that they stand beside; our table; the entry of ``datasets``, and what its images
are: the name of a published data set only if they are proved to be it; the row; the number, its 95 % interval for the
finite test set (none where the table gives none); how many images, and which training seeds."""

_ERRORS = float(ndtri(0.5 + CONFIDENCE / 2))
"""Half an interval, in standard errors."""
_DEVIATIONS = {
    "clean_accuracy": "accuracy_std",
    "abstention_rate": "abstention_rate_std",
    "misclassification_rate": "misclassification_rate_std",
}
"""What IDRS calls the standard deviation over trainings."""


def measured(
    values: pd.DataFrame, *, source: str, published: Sequence[tuple[str, int]], data: Mapping[str, str]
) -> list[Record]:
    """Return the measured numbers of a table of certified or of clean accuracy, once for each published table.

    Where a setting was chosen, it is the choice on the test images, as in the papers.

    Args:
        values: of the table, in long form (`certsmooth.analysis.result`).
        source: name of the table.
        published: papers and numbers of the published tables that it stands beside.
        data: what the images are, by entry of ``datasets``.

    Returns:
        Rows with `OURS_COLUMNS`.
    """
    read = _accuracies if "row" in values else _certified
    rows = [row for each in records(values[values["kind"] == "measured"]) for row in read(each)]
    return [
        {**row, "paper": paper, "table": table, "source": source, "data": data[row["dataset"]]}
        for paper, table in published
        for row in rows
    ]


def _certified(row: Record) -> Iterator[Record]:
    if row["selected_on"] != "validation":
        yield row


def _accuracies(row: Record) -> Iterator[Record]:
    error = _ERRORS * row["image_error"]
    shared = {**row, "method": row["row"], "radius": None}
    yield {**shared, "lower": row["value"] - error, "upper": row["value"] + error}
    if row["metric"] in _DEVIATIONS and row["seed_sd"] is not None:
        yield {**shared, "metric": _DEVIATIONS[row["metric"]], "value": row["seed_sd"], "lower": None, "upper": None}


def thresholds(values: pd.DataFrame, *, source: str) -> list[Record]:
    """Return the thresholds of IDRS's Theorem 2.4, which need no data: what is printed must be what they round to.

    Args:
        values: of `certsmooth.analysis.idrs_theory.threshold_table`.
        source: name of the table.

    Returns:
        Rows with `OURS_COLUMNS`.
    """
    return [
        {
            **{"paper": "idrs", "table": 1, "source": source, "dataset": row["dataset"], "data": row["dataset"]},
            **{"method": "min sigma1/sigma0 by p_A", "sigma": f"pA={row['p_a']:g}".replace("=0.", "=.")},
            **{"metric": "threshold", "radius": None, "images": None, "seeds": None},
            **dict.fromkeys(("value", "lower", "upper"), row["theorem"]),
        }
        for row in records(values[values["statement"] == 1])
    ]
