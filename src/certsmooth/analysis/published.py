"""Numbers that papers published, from ``published.csv``: shown beside ours and never mixed with them.

A row is a cell of a table: ``printed`` is the text of the paper, ``value`` the same number in ``unit``. What a paper
writes behind a ± is a cell of its own: a metric that ends in ``_std`` or, where the paper does not say what it is,
``_error``.
"""

from __future__ import annotations

import csv
import io
from importlib import resources

from certsmooth.analysis import Record
from certsmooth.errors import ConfigError, nearest

# SmoothAdv, footnote 5 of Section 4. The cells of ADRE's Basic come out of the 500 images that Cohen et al. released
# (docs/ledger.md); of its other rows, and in DDRS, nothing is said.
_IMAGES = {
    ("smoothadv", "cifar10", "SmoothAdv"): (10_000, "0 to 9999"),
    ("smoothadv", "imagenet", "SmoothAdv"): (500, "a part that the paper does not name"),
    ("adre", "cifar10", "Basic"): (500, "0 to 9980, every 20th"),
}
"""Which test images published numbers are about, where it is known: by paper, data set, start of a method's name."""

_SHOWN = {"certified_accuracy": "certified_accuracy", "clean_accuracy": "certified_accuracy", "acr": "acr"}


def published_rows(paper: str, table: int, dataset: str) -> list[Record]:
    """Return the certified accuracies of a paper's table, and the ACRs where it has them; by method and sigma.

    A standard accuracy that the paper gives beside them is that of radius 0.

    Args:
        paper: ``"ddrs"``, ``"smoothadv"``, ``"adre"`` or ``"idrs"``.
        table: its number in the paper.
        dataset: for example ``"cifar10"``.

    Returns:
        Rows with the columns of ``published.csv``, ``kind``, ``selected_on``, and ``images`` and ``image_choice``, None
        where it is not known which images they are about.

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


def published_cells() -> list[Record]:
    """Return every cell of every table, in the order of the file, in the units of our tables.

    Returns:
        Rows as of `published_numbers`, with radius (None where there is none), printed, and ``half``: half a unit of
        the last printed digit. The number that was rounded for print is at most so far from the value.
    """
    records = _records()
    cells = [_number(record) | {"radius": float(record["radius"]) if record["radius"] else None} for record in records]
    scales: dict[tuple[str, int, str], int] = {}  # a paper prints fractions throughout a column, or percent
    for cell, record in zip(cells, records, strict=True):
        if cell["value"]:
            scales[_column(cell)] = round(cell["value"] / float(record["printed"]))
    for cell, record in zip(cells, records, strict=True):
        decimals = len(record["printed"].partition(".")[2])
        cell.update(printed=record["printed"], half=0.5 * scales[_column(cell)] / 10**decimals)
    return cells


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
    images, choice = next(
        (
            known
            for (paper, dataset, start), known in _IMAGES.items()
            if (paper, dataset) == (record["paper"], record["dataset"]) and record["method"].startswith(start)
        ),
        (None, None),
    )
    return {
        **{**record, "images": images, "image_choice": choice},
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
        **{key: record[key] for key in ("paper", "dataset", "norm", "method", "sigma")},
        "table": int(record["table"]),
        "metric": metric,
        "value": round(100 * value if in_fractions and record["metric"] == metric else value, 6),
        "unit": "percent" if in_fractions else record["unit"],
        "kind": "published",
    }


def _column(cell: Record) -> tuple[str, int, str]:
    return cell["paper"], cell["table"], cell["metric"]
