"""A table as files: Markdown for people by its kind's template, CSV in long form, JSON with everything.

A template is prose with a few expressions: its lines may break anywhere, for `unwrapped` puts paragraphs together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from tabulate import tabulate

from certsmooth._internal.storage import atomic_write
from certsmooth.analysis import Record
from certsmooth.analysis.choices import chosen_fairly, chosen_on_test, with_one_setting
from certsmooth.analysis.result import TableResult, records
from certsmooth.artefacts.provenance import Image, made_by
from certsmooth.report import formats

Show = str | tuple[str | Callable[..., str], ...]
"""What a cell shows of a row: a column, or columns and how they are written (``"{:.1f} ({})"``, or a function)."""

_IMAGE = {field.name for field in fields(Image)}
_BLOCKS = ("#", "|", "![")
"""What begins a line that stands alone."""


def render(result: TableResult, *, figure: str | None = None) -> str:
    """Return a table as Markdown.

    Args:
        result: the table.
        figure: a picture to show; its path relative to the Markdown file.
    """
    content = {**result.content(), "values": result.values, **result.more, **result.views, "figure": figure}
    return fill(result.kind, content)


def fill(template: str, content: Mapping[str, Any]) -> str:
    """Return Markdown by a template that may use `formats` and the functions of this module.

    Args:
        template: the stem of its file.
        content: its variables.
    """
    environment = Environment(
        loader=PackageLoader("certsmooth.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = {name: function for name, function in vars(formats).items() if callable(function)}
    functions = (rows, grid, records, where, grouped, ordered, united, chosen_fairly, chosen_on_test, with_one_setting)
    named |= {function.__name__: function for function in functions}
    environment.globals |= named
    environment.filters |= named
    return unwrapped(environment.get_template(f"{template}.md.j2").render(content))


def write_table(result: TableResult, folder: Path, *, figure: str | None = None) -> tuple[Path, Path, Path]:
    """Write a table as ``NAME.md``, ``NAME.csv`` and ``NAME.json``, and return their paths.

    The JSON file has its content and what made it (`artefacts.provenance.MadeBy`). The records of container images are
    under ``images``, each once; elsewhere its key there stands for it.

    Args:
        result: the table.
        folder: must exist.
        figure: a picture that the Markdown file shows; its path relative to ``folder``.

    Raises:
        CertsmoothError: a file cannot be written.
    """
    images: dict[str, Any] = {}
    whole = _named({**result.content(), **asdict(made_by())}, images) | {"images": images}
    markdown, values, content = (folder / f"{result.name}.{suffix}" for suffix in ("md", "csv", "json"))
    for path, text in (
        (markdown, render(result, figure=figure)),
        (values, result.values.to_csv(index=False, lineterminator="\n")),
        (content, json.dumps(whole, indent=2, allow_nan=False) + "\n"),
    ):
        with atomic_write(path) as file:
            file.write(text.encode())
    return markdown, values, content


def _named(value: Any, images: dict[str, Any]) -> Any:  # noqa: ANN401 - what JSON holds
    """Return a value with each record of an image moved to ``images``, and its key there in its place."""
    if isinstance(value, dict) and value.keys() == _IMAGE:
        key = f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()}"
        images[key] = value
        return key
    if isinstance(value, dict):
        return {key: _named(each, images) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_named(each, images) for each in value]
    return value


def rows(frame: pd.DataFrame, *columns: Mapping[str, Show], text: int) -> str:
    """Return a table with a line for each row of a frame.

    Args:
        frame: tidy.
        *columns: heading -> what it shows.
        text: how many columns, the first ones, are left-aligned.
    """
    shown = {heading: show for some in columns for heading, show in some.items()}
    body = [[_shown(record, show) for show in shown.values()] for record in records(frame)]
    return pipe_table(list(shown), body, text=text)


def grid(
    frame: pd.DataFrame,
    lines: Mapping[str, Show],
    across: str | tuple[str, ...],
    columns: Mapping[Any, str] | Show,
    cell: Show,
    *,
    text: int | None = None,
) -> str:
    """Return a table whose cells are the rows of a frame.

    Args:
        frame: tidy.
        lines: heading -> what it shows at the beginning of a line; rows of the frame that agree in all of these columns
            are one line. Lines come in the order in which they first appear.
        across: which column of the table a row belongs to: the value of this column of the frame, or of several.
        columns: that value -> heading; or what a heading shows, for columns in the order of their first rows.
        cell: what is shown; no row, no number.
        text: how many columns, the first ones, are left-aligned; None for those of ``lines``.
    """
    found = records(frame)
    line = itemgetter(*(name for show in lines.values() for name in _columns(show)))
    place = itemgetter(*([across] if isinstance(across, str) else across))
    headings = columns if isinstance(columns, Mapping) else {place(each): _shown(each, columns) for each in found}
    starts = {line(each): [_shown(each, show) for show in lines.values()] for each in found}
    cells = {(line(each), place(each)): _shown(each, cell) for each in found}
    body = [[*start, *(cells.get((key, at), formats.ABSENT) for at in headings)] for key, start in starts.items()]
    return pipe_table([*lines, *headings.values()], body, text=len(lines) if text is None else text)


def where(frame: pd.DataFrame, **columns: object) -> pd.DataFrame:
    """Return the rows of a frame in which each of these columns has the value, or one of several."""
    for name, value in columns.items():
        frame = frame[frame[name].isin(value if isinstance(value, list) else [value])]
    return frame


def grouped(frame: pd.DataFrame, *columns: str) -> list[pd.DataFrame]:
    """Return the rows of a frame that agree in these columns, as a frame each, in the order of their first rows."""
    return [each for _, each in frame.groupby(list(columns), sort=False)]


def ordered(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return a frame in which rows that agree in these columns follow each other, in the order of their first rows."""
    return frame.loc[[label for each in grouped(frame, *columns) for label in each.index]]


def united(frame: pd.DataFrame, by: str, column: str) -> pd.DataFrame:
    """Return a frame with every item that a column has in rows that agree in another column, in each of these rows."""
    groups = frame.groupby(by, sort=False)[column]
    return frame.assign(**{column: groups.transform(lambda texts: formats.distinct(", ".join(texts).split(", ")))})


def _columns(show: Show) -> tuple[str, ...]:
    return (show,) if isinstance(show, str) else tuple(name for name in show[:-1] if isinstance(name, str))


def _shown(record: Record, show: Show) -> str:
    if isinstance(show, str):
        return "" if record[show] is None else str(record[show])
    values, form = [record[name] for name in _columns(show)], show[-1]
    if callable(form):
        return form(*values)
    return formats.ABSENT if None in values else form.format(*values)


def pipe_table(headings: Sequence[str], body: Sequence[Sequence[str]], *, text: int) -> str:
    """Return a pipe table whose first ``text`` columns are left-aligned, and the others right-aligned."""
    align = ["left"] * text + ["right"] * (len(headings) - text)
    first, *others = ([cell.replace("|", "\\|") for cell in line] for line in (headings, *body))
    return tabulate(others, first, tablefmt="pipe", colalign=align, disable_numparse=True)


def unwrapped(text: str) -> str:
    """Return Markdown with each paragraph and each item of a list on one line, and one empty line between blocks."""
    lines: list[str] = []
    continues = False
    for line in map(str.strip, text.splitlines()):
        if continues and line and not line.startswith((*_BLOCKS, "- ")):
            lines[-1] += f" {line}"
            continue
        if line or (lines and lines[-1]):
            lines.append(line)
        continues = bool(line) and not line.startswith(_BLOCKS)
    return "\n".join(lines).strip() + "\n"
