"""What README and docs/results.md say of our results: every number is one of a committed result file.

The files are those of the tables of `GALLERY`, in `docs/results/digits`: Markdown, long CSV and figures, as a run of
the shipped params.yaml made them. ``python -m certsmooth.report.results_page`` writes the texts anew; ``python -m
certsmooth.report.results_page results/tables`` first takes the files from there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

import pandas as pd

from certsmooth._internal.storage import atomic_write
from certsmooth.errors import CertsmoothError, ConfigError
from certsmooth.report.render import fill, where

COMMITTED = Path("docs", "results", "digits")
GALLERY = (
    *("table1", "table2", "table3", "ds_variants", "adre_table1", "adre_figure2", "smoothadv_attacks", "trainings"),
    *("policies", "policies-cones", "evaluation", "dual", "soundness"),
)
"""Tables whose files are there: those that a text takes a number from, and others to look at."""

APART = {data: Path("docs", "results", f"{data}-small") for data in ("mnist", "cifar10")}
"""Data set -> the table of its name that ``make mnist-small`` and ``make cifar10-small`` make; certificates and counts
are there too."""
MADE_BY = "made_by.json"
"""Beside them: the commit and the versions of the run."""

PAGE, README = Path("docs", "results.md"), Path("README.md")
PARTS = {"table": "first_table", "findings": "findings"}
"""Part of README that is written -> its template."""

_FIGURE = re.compile(r"!\[[^\]]*\]\((figures/[^)\s]+)\)")

_WIDTH = 100
"""Characters in a line of README."""


def begin(part: str) -> str:
    """Return the line that a written part of README stands after."""
    return f"<!-- {part}: written by `make results` -->\n"


def end(part: str) -> str:
    """Return the line that it stands before."""
    return f"<!-- end of {part} -->\n"


@dataclass(frozen=True)
class Results:
    """Result files of tables, and which of them were read.

    Attributes:
        folder: holds ``TABLE.csv`` of each table.
        frames: table -> its rows, of those that were read.
    """

    folder: Path
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)

    def number(self, table: str, column: str = "value", **columns: object) -> float:
        """Return the number of the one row in which each of these columns has this value.

        Args:
            table: name of the table.
            column: which number of the row.
            **columns: column -> value; None where there is none.

        Raises:
            CertsmoothError: the file cannot be read, or has no such row, or several.
        """
        found = self.rows(table, **columns)
        if len(found) != 1:
            asked = ", ".join(f"{name} {value}" for name, value in columns.items())
            raise CertsmoothError(f"{self.folder / table}.csv: {len(found)} rows with {asked}; must be one")
        return float(found[column].iloc[0])

    def rows(self, table: str, **columns: object) -> pd.DataFrame:
        """Return the rows in which each of these columns has this value.

        Raises:
            CertsmoothError: the file cannot be read.
        """
        path = self.folder / f"{table}.csv"
        if table not in self.frames:
            try:
                self.frames[table] = pd.read_csv(path, dtype={"sigma": str, "grid": str, "chosen_grid": str})
            except (OSError, ValueError) as error:
                raise CertsmoothError(
                    f"{path}: cannot be read ({error}); `snakemake results/{table}.md` makes it"
                ) from None
        frame = self.frames[table]
        absent = [name for name, value in columns.items() if value is None]
        given = {name: value for name, value in columns.items() if value is not None}
        return where(frame[frame[absent].isna().all(axis=1)], **given)


def texts(results: Results, made_by: dict[str, Any], readme: str) -> dict[Path, str]:
    """Return path -> content of what is written from results.

    Args:
        results: where the numbers are.
        made_by: `git_commit` and `versions` of the run.
        readme: README as it is.

    Raises:
        CertsmoothError: a number is not there.
        ConfigError: README has not the two lines that a part stands between.
    """
    content = {
        "number": results.number,
        "rows_of": results.rows,
        "apart": {data: Results(folder).number for data, folder in APART.items()},
        "made_by": made_by,
    }
    for part, template in PARTS.items():
        before, first, rest = readme.partition(begin(part))
        _, last, after = rest.partition(end(part))
        if not (first and last):
            lines = f"{begin(part).strip()!r} and {end(part).strip()!r}"
            raise ConfigError(f"{README}: lacks the lines {lines}; must have both, in this order")
        readme = before + first + _wrapped(fill(template, content)) + last + after
    content["gallery"] = {name: _title(results.folder / f"{name}.md") for name in GALLERY}
    return {PAGE: fill("results", content), README: readme}


def gallery_files(folder: Path) -> Iterator[Path]:
    """Yield the files of the tables of `GALLERY` in a folder of tables: Markdown, CSV, and the figures they show.

    Raises:
        CertsmoothError: a table is not there.
    """
    for name in GALLERY:
        yield from (Path(f"{name}.md"), Path(f"{name}.csv"))
        yield from map(Path, _FIGURE.findall(_markdown(folder / f"{name}.md")))


def _markdown(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CertsmoothError(f"{path}: cannot be read ({error}); `snakemake results/{path.name}` makes it") from None


def _title(path: Path) -> str:
    return _markdown(path).partition("\n")[0].removeprefix("# ")


def _wrapped(text: str) -> str:
    """Return Markdown in lines of README's width; rows of tables, and what has no blanks, stay whole."""
    lines = [
        line if line[:1] in ("|", "!") else "\n".join(_LINES.wrap(line) if line[:1] != "-" else _ITEM.wrap(line))
        for line in text.splitlines()
    ]
    return "".join(f"{line}\n" for line in lines)


_LINES = TextWrapper(_WIDTH, break_long_words=False, break_on_hyphens=False)
_ITEM = TextWrapper(_WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent="  ")


def main(arguments: list[str]) -> None:
    """Write the texts, in the root of the repository, and first, given a folder of tables, what they rest on.

    Raises:
        CertsmoothError: a number is not there.
        ConfigError: README lacks the place of a part.
    """
    folder = Path(arguments[0]) if arguments else COMMITTED
    results = Results(folder)
    made_by = _made_by(folder, table=bool(arguments))
    written = {path: text.encode() for path, text in texts(results, made_by, README.read_text()).items()}
    if arguments:
        written |= {COMMITTED / path: (folder / path).read_bytes() for path in gallery_files(folder)}
        written[COMMITTED / MADE_BY] = (json.dumps(made_by, indent=2) + "\n").encode()
    for path, content in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(content)


def _made_by(folder: Path, *, table: bool) -> dict[str, Any]:
    """Return the commit and the versions of a run: of its first table, or as committed."""
    whole = json.loads((folder / ("table1.json" if table else MADE_BY)).read_text())
    return {name: whole[name] for name in ("git_commit", "versions")}


if __name__ == "__main__":
    main(sys.argv[1:])
