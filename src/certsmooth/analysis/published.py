"""Numbers that papers published, from ``published.csv``: shown beside ours and never mixed with them."""

from __future__ import annotations

import csv
import io
from importlib import resources

from certsmooth.analysis import Record
from certsmooth.errors import ConfigError, nearest

_SHOWN = {"certified_accuracy": "certified_accuracy", "clean_accuracy": "certified_accuracy", "acr": "acr"}


def published_rows(paper: str, table: int, dataset: str) -> list[Record]:
    """Return the certified accuracies of a paper's table, and the ACRs where it has them; by method and sigma.

    A standard accuracy that the paper gives beside them is that of radius 0.

    Args:
        paper: ``"ddrs"``, ``"smoothadv"``, ``"adre"`` or ``"idrs"``.
        table: its number in the paper.
        dataset: for example ``"cifar10"``.

    Returns:
        Rows with the columns of ``published.csv``, ``kind`` and ``selected_on``.

    Raises:
        ConfigError: there is no such table; the message names the nearest one.
    """
    every = _records()
    wanted = f"{paper} {table} {dataset}"
    _check_known(wanted, {_name(r) for r in every if r["metric"] in ("certified_accuracy", "acr")})
    rows: dict[tuple[str, str], list[Record]] = {}
    for record in every:
        if _name(record) == wanted and record["metric"] in _SHOWN:
            rows.setdefault((record["method"], record["sigma"]), []).append(_certified(record))
    return [record for row in rows.values() for record in row]


def published_numbers(paper: str, table: int) -> list[Record]:
    """Return every number of a paper's table, in the order of the paper.

    Args:
        paper: ``"idrs"`` for example.
        table: its number in the paper.

    Returns:
        Rows with the columns paper, table, dataset, norm, method, sigma (as the paper says it: sigma, or for thresholds
        ``"pA=.99"``), metric, value, unit and kind: rates and class-wise standard deviations in percent, thresholds as
        fractions.

    Raises:
        ConfigError: there is no such table; the message names the nearest one.
    """
    every = _records()
    wanted = f"{paper} {table}"
    _check_known(wanted, {f"{r['paper']} {r['table']}" for r in every})
    return [_number(record) for record in every if f"{record['paper']} {record['table']}" == wanted]


def published_datasets(paper: str, table: int) -> tuple[str, ...]:
    """Return the data sets that a paper's table has rows of."""
    found = (r["dataset"] for r in _records() if (r["paper"], r["table"]) == (paper, str(table)))
    return tuple(dict.fromkeys(found))


def _check_known(wanted: str, known: set[str]) -> None:
    if wanted not in known:
        raise ConfigError(f"published table {wanted!r} is unknown; {nearest(wanted, known)}")


def _records() -> list[dict[str, str]]:
    text = resources.files("certsmooth.analysis").joinpath("published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def _name(record: dict[str, str]) -> str:
    return f"{record['paper']} {record['table']} {record['dataset']}"


def _certified(record: dict[str, str]) -> Record:
    metric, sigma = _SHOWN[record["metric"]], record["sigma"]
    return {
        **record,
        "metric": metric,
        "radius": None if metric == "acr" else float(record["radius"] or 0),
        "value": float(record["value"]),
        "kind": "published",
        "selected_on": "published",
        "chosen_sigma": None if sigma in ("best", "") else float(sigma),
    }


def _number(record: dict[str, str]) -> Record:
    # A metric called "..._x100" was printed as a hundred times itself: that is percent already.
    metric = record["metric"].removesuffix("_x100")
    value, in_fractions = float(record["value"]), record["unit"] == "fraction" and metric != "threshold"
    return {
        **{key: record[key] for key in ("paper", "dataset", "method", "sigma")},
        "table": int(record["table"]),
        "norm": "l2",
        "metric": metric,
        "value": round(100 * value, 6) if in_fractions and record["metric"] == metric else value,
        "unit": "fraction" if metric == "threshold" else "percent",
        "kind": "published",
    }
