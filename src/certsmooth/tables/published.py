"""Numbers that papers published, from ``published.csv``: shown beside ours and never mixed with them."""

from __future__ import annotations

import csv
import io
from importlib import resources

from certsmooth.errors import ConfigError, nearest
from certsmooth.tables.result import Entry, Metric, Row

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


def published_datasets(paper: str, table: int) -> tuple[str, ...]:
    """Return the data sets that a paper's table has rows of."""
    found = (r["dataset"] for r in _records() if (r["paper"], r["table"]) == (paper, str(table)))
    return tuple(dict.fromkeys(found))


def _records() -> list[dict[str, str]]:
    text = resources.files("certsmooth.tables").joinpath("published.csv").read_text(encoding="utf-8")
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
