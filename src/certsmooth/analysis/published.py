"""Numbers that papers published, from ``published.csv``: shown beside ours and never mixed with them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from importlib import resources

from certsmooth.analysis.result import Entry, Metric, Row
from certsmooth.errors import ConfigError, nearest

_METRICS = ("certified_accuracy", "clean_accuracy", "acr")


def published_rows(paper: str, table: int, dataset: str) -> tuple[Row, ...]:
    """Return the rows of a paper's table that give certified accuracies, and ACRs where the paper does.

    A standard accuracy that the paper gives beside them is the entry of radius 0.

    Args:
        paper: ``"ddrs"``, ``"smoothadv"``, ``"adre"`` or ``"idrs"``.
        table: its number in the paper.
        dataset: for example ``"cifar10"``.

    Raises:
        ConfigError: there is no such table; the message names the nearest one.
    """
    records = _records()
    wanted, known = (
        f"{paper} {table} {dataset}",
        {_name(r) for r in records if r["metric"] in ("certified_accuracy", "acr")},
    )
    if wanted not in known:
        raise ConfigError(f"published table {wanted!r} is unknown; {nearest(wanted, known)}")
    chosen = [r for r in records if _name(r) == wanted and r["metric"] in _METRICS]
    rows: dict[tuple[str, str], list[dict[str, str]]] = {}
    for record in chosen:
        rows.setdefault((record["method"], record["sigma"]), []).append(record)
    return tuple(_row(records) for records in rows.values())


@dataclass(frozen=True)
class PublishedNumber:
    """One number of a paper's table, in the unit of ours.

    Attributes:
        paper: for example ``"idrs"``.
        table: its number in the paper.
        dataset: name of the data set.
        method: the row, as the paper calls it.
        sigma: the column, as the paper says it: sigma, or for thresholds ``"pA=.99"``.
        metric: what it is.
        value: rates and class-wise standard deviations in percent, thresholds as fractions.
    """

    paper: str
    table: int
    dataset: str
    method: str
    sigma: str
    metric: str
    value: float


def published_numbers(paper: str, table: int) -> tuple[PublishedNumber, ...]:
    """Return every number of a paper's table, in the order of the paper.

    Args:
        paper: ``"idrs"`` for example.
        table: its number in the paper.

    Raises:
        ConfigError: there is no such table; the message names the nearest one.
    """
    records = _records()
    wanted, known = f"{paper} {table}", {f"{r['paper']} {r['table']}" for r in records}
    if wanted not in known:
        raise ConfigError(f"published table {wanted!r} is unknown; {nearest(wanted, known)}")
    return tuple(_number(r) for r in records if f"{r['paper']} {r['table']}" == wanted)


def _number(record: dict[str, str]) -> PublishedNumber:
    # A metric called "..._x100" was printed as a hundred times itself: that is percent already.
    metric = record["metric"].removesuffix("_x100")
    value, in_fractions = float(record["value"]), record["unit"] == "fraction" and metric != "threshold"
    return PublishedNumber(
        paper=record["paper"],
        table=int(record["table"]),
        dataset=record["dataset"],
        method=record["method"],
        sigma=record["sigma"],
        metric=metric,
        value=round(100 * value, 6) if in_fractions and record["metric"] == metric else value,
    )


def published_datasets(paper: str, table: int) -> tuple[str, ...]:
    """Return the data sets that a paper's table has rows of."""
    found = (r["dataset"] for r in _records() if (r["paper"], r["table"]) == (paper, str(table)))
    return tuple(dict.fromkeys(found))


def _records() -> list[dict[str, str]]:
    text = resources.files("certsmooth.analysis").joinpath("published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def _name(record: dict[str, str]) -> str:
    return f"{record['paper']} {record['table']} {record['dataset']}"


def _row(records: list[dict[str, str]]) -> Row:
    first = records[0]
    return Row(
        kind="published",
        paper=first["paper"],
        table=first["table"],
        dataset=first["dataset"],
        norm=first["norm"],
        method=first["method"],
        train=first["train"],
        certify=first["certify"],
        guarantee=(),
        sigma=first["sigma"],
        selected_on="published",
        seeds=(),
        images=None,
        entries=tuple(_entry(record) for record in records),
    )


def _entry(record: dict[str, str]) -> Entry:
    sigma = None if record["sigma"] in ("best", "") else float(record["sigma"])
    metric: Metric = "acr" if record["metric"] == "acr" else "certified_accuracy"
    radius = None if metric == "acr" else float(record["radius"] or 0)
    return Entry(metric, radius, float(record["value"]), None, None, record["unit"], sigma, {})
