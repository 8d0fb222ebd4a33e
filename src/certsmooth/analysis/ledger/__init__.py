"""The ledger: every published number, what the authors' files give for it, what we measured, and the verdict.

Kept by hand, as CSV: ``rows`` (which row of ours is a published one, where the names differ), ``same`` (rows of a paper
that are about the same models at the same setting), ``reasons`` (why numbers differ) and ``notes`` (on tables). An
empty field there stands for any value. ``derived.csv`` is written by ``certsmooth ledger --logs``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Literal

from certsmooth.analysis import Record
from certsmooth.analysis.ledger.derive import BEST, DERIVED_COLUMNS
from certsmooth.analysis.result import TableResult, records, tidy
from certsmooth.errors import CountsError

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["replicated", "derived", "differs", "published only"]
VERDICTS: tuple[Verdict, ...] = ("replicated", "derived", "differs", "published only")

_CELL = ("paper", "table", "dataset", "method", "sigma", "metric", "radius")
_COLUMNS = (
    *("paper", "table", "dataset", "norm", "method", "sigma", "metric", "radius", "printed", "value", "half", "unit"),
    *("derived", "derived_images", "derived_file", "derived_sha256", "ours", "lower", "upper", "our_table"),
    *("our_method", "our_data", "our_images", "our_seeds", "verdict", "reason", "contradicted_by"),
)
_COUNTS = ("paper", "table", "dataset", "cells", *VERDICTS, "contradicted", "beside_ours")
_FILES = ("number", "file", "images", "sha256", "cells")
_TOLERANCE = 1e-9
"""In units of the ledger: sums of decimal fractions are not exact."""


def ledger_table(published: Sequence[Record], derived: pd.DataFrame, ours: Sequence[Record]) -> TableResult:
    """Return the ledger.

    A cell is ``replicated`` if the printed number, before it was rounded, can lie in our 95 % interval on the paper's
    own data set; ``derived`` if the authors' files give it to the printed digit; it ``differs`` if one of the two does
    not give it. Where neither is there, it is ``published only``: numbers of ours on other data are shown, and say
    nothing for or against it.

    Args:
        published: as `certsmooth.analysis.published.published_cells` returns them.
        derived: with `certsmooth.analysis.ledger.derive.DERIVED_COLUMNS`.
        ours: rows with `certsmooth.analysis.ledger.ours.OURS_COLUMNS`.

    Returns:
        About: nothing. Values: a row for each published cell, grouped by table. ``counts``: how many cells of each
        table have which verdict. ``files``: those that cells were derived from. ``notes``: on tables.

    Raises:
        CountsError: a value was derived for what is no published cell.
    """
    papers = list(dict.fromkeys(cell["paper"] for cell in published))
    cells = sorted(published, key=lambda cell: (papers.index(cell["paper"]), cell["table"]))
    at, beside, other = _by_cell(derived, cells), _by_row(ours), _contradictions(cells, _kept("same"))
    names, reasons = _kept("rows"), _kept("reasons")
    rows = []
    for cell in cells:
        theirs, mine = at.get(_key(cell)), _beside(cell, beside, names)
        against, verdict = _judged(cell, theirs, mine)
        because = _first(reasons, cell).get("reason", "unexplained")
        reason = f"{' and '.join(against)}: {because}" if against else ""
        rows.append(
            {
                **cell,
                **_named(
                    theirs, derived="value", derived_images="images", derived_file="file", derived_sha256="sha256"
                ),
                **_named(mine, ours="value", lower="lower", upper="upper", our_table="source", our_method="method"),
                **_named(mine, our_data="data", our_images="images", our_seeds="seeds"),
                **{"verdict": verdict, "reason": reason, "contradicted_by": other.get(_key(cell), "")},
            }
        )
    return TableResult(
        kind="ledger",
        name="ledger",
        title="Ledger of the published tables",
        about={},
        values=tidy(rows, _COLUMNS),
        more={"counts": _counts(rows), "files": _files(derived), "notes": _notes()},
    )


def _named(row: Record | None, **columns: str) -> Record:
    return {} if row is None else {new: row[old] for new, old in columns.items()}


_Line = Mapping[str, str]
"""Of a file that is kept by hand."""


def _kept(name: str) -> list[_Line]:
    text = resources.files("certsmooth.analysis.ledger").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def _notes() -> pd.DataFrame:
    return tidy(({**line, "table": int(line["table"])} for line in _kept("notes")), ("paper", "table", "note"))


def _first(lines: Sequence[_Line], cell: Record) -> _Line:
    """Return the first line that is about a cell; an empty one if none is."""
    return next((line for line in lines if _matches(line, cell)), {})


def _matches(line: _Line, cell: Record) -> bool:
    """Return whether a line that is kept by hand is about a cell."""
    return all(not line[name] or _plain(line[name]) == _plain(cell[name]) for name in _CELL if name in line)


def _plain(value: object) -> str:
    """Return one text for ``1``, ``1.0`` and ``"1.0"``."""
    try:
        return f"{float(str(value)):.6g}"
    except ValueError:
        return str(value)


def _key(cell: Record) -> tuple[str, ...]:
    return tuple(_plain(cell[name]) for name in _CELL)


def _by_cell(derived: pd.DataFrame, cells: Sequence[Record]) -> dict[tuple[str, ...], Record]:
    found = {_key(row): row for row in records(derived)}
    if unknown := found.keys() - {_key(cell) for cell in cells}:
        raise CountsError(f"derived value of {', '.join(min(unknown))}: no such published cell; derive again")
    return found


_Row = tuple[str, int, str, str, str, str]


def _by_row(ours: Sequence[Record]) -> dict[_Row, list[Record]]:
    found: dict[_Row, list[Record]] = {}
    for row in ours:
        place = row["paper"], row["table"], row["method"], _plain(row["sigma"]), row["metric"], _plain(row["radius"])
        found.setdefault(place, []).append(row)
    return found


def _beside(cell: Record, ours: Mapping[_Row, Sequence[Record]], names: Sequence[_Line]) -> Record | None:
    """Return our number beside a cell, or None: on the paper's data set if we have that, of its settings the best."""
    line = _first(names, cell)
    method, sigma = line.get("our_method") or cell["method"], line.get("our_sigma") or cell["sigma"] or BEST
    metrics = [(cell["metric"], cell["radius"])]
    if cell["metric"] == "clean_accuracy":  # what a table of certified accuracy has at radius 0
        metrics.append(("certified_accuracy", 0.0))
    found = [
        row
        for metric, radius in metrics
        for row in ours.get((cell["paper"], cell["table"], method, _plain(sigma), metric, _plain(radius)), ())
        if line.get("our_dataset") in ("", None, row["dataset"])
    ]
    own = [row for row in found if row["data"] == cell["dataset"]]
    same = own or [row for row in found if row["dataset"] == found[0]["dataset"]]
    return max(same, key=lambda row: row["value"], default=None)


def _judged(cell: Record, derived: Record | None, ours: Record | None) -> tuple[list[str], Verdict]:
    """Return what does not give a cell, and the verdict on it."""
    against: list[str] = []
    verdict: Verdict = "published only"
    if derived is not None:
        verdict = "derived"
        if not _within(cell, derived["value"], derived["value"]):
            against.append("the authors' files")
    if ours is not None and ours["lower"] is not None and ours["data"] == cell["dataset"]:
        verdict = "replicated"
        if not _within(cell, ours["lower"], ours["upper"]):
            against.append("ours")
    return against, "differs" if against else verdict


def _within(cell: Record, lower: float, upper: float) -> bool:
    margin = cell["half"] + _TOLERANCE
    return bool(lower - margin <= cell["value"] <= upper + margin)


def _contradictions(cells: Sequence[Record], same: Sequence[_Line]) -> dict[tuple[str, ...], str]:
    """Return, by cell, what other tables of the paper print for the same quantity, where that is another number."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for cell in cells:
        if line := _first(same, cell):
            groups.setdefault((line["group"], *map(_plain, (cell["sigma"], cell["metric"]))), []).append(cell)
    found = {}
    for group in groups.values():
        for cell in group:
            others = [each for each in group if not _same_number(cell, each)]
            if others:
                found[_key(cell)] = ", ".join(f"Table {each['table']}: {each['printed']}" for each in others)
    return found


def _same_number(cell: Record, other: Record) -> bool:
    """Return whether two printed numbers are equal as far as both are printed."""
    return bool(abs(cell["value"] - other["value"]) < 2 * max(cell["half"], other["half"]) - _TOLERANCE)


def _counts(rows: Sequence[Record]) -> pd.DataFrame:
    tables: dict[tuple[str, int, str], list[Record]] = {}
    for row in rows:
        tables.setdefault((row["paper"], row["table"], row["dataset"]), []).append(row)
    return tidy(
        (
            {
                **{"paper": paper, "table": table, "dataset": dataset, "cells": len(found)},
                **{verdict: sum(row["verdict"] == verdict for row in found) for verdict in VERDICTS},
                "contradicted": sum(bool(row["contradicted_by"]) for row in found),
                "beside_ours": sum("ours" in row for row in found),
            }
            for (paper, table, dataset), found in tables.items()
        ),
        _COUNTS,
    )


def _files(derived: pd.DataFrame) -> pd.DataFrame:
    """Return the files that cells were derived from, numbered in the order of their names."""
    found = records(
        derived.groupby(["file", "images", "sha256"], as_index=False).agg(cells=(DERIVED_COLUMNS[0], "size"))
    )
    return tidy(({"number": number, **row} for number, row in enumerate(found, 1)), _FILES)
