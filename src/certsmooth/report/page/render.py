"""A page from what there is to show: its HTML by a template, and what its script draws from as compressed JSON."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, cast

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from certsmooth._internal import labels
from certsmooth._internal.extras import optional_libraries
from certsmooth.analysis import Record
from certsmooth.analysis.choices import chosen_fairly, chosen_on_test
from certsmooth.analysis.overview import PROBABILITIES
from certsmooth.analysis.result import records
from certsmooth.report import formats
from certsmooth.report.page.markdown import html, provenance
from certsmooth.report.page.pictures import columns


@dataclass(frozen=True)
class Shown:
    """What a table shows of a gallery: data set, runs (their numbers), which of them lead, and its worst images."""

    dataset: str
    runs: Sequence[int]
    leading: Sequence[int]
    worst: Sequence[int]


@dataclass(frozen=True)
class DrawnTable:
    """A table with what the page shows beside it.

    Attributes:
        name: of the table.
        content: its JSON.
        markdown: its text.
        notes: what is to be said first.
        settings: a record of each setting (`certsmooth.analysis.overview.setting_record`).
        curves: of every setting, as the script reads them; None for none.
        gallery: which images; None for none.
    """

    name: str
    content: Mapping[str, Any]
    markdown: str
    notes: Sequence[str] = ()
    settings: Sequence[Record] = ()
    curves: Mapping[str, Any] | None = None
    gallery: Shown | None = None


@dataclass(frozen=True)
class Gallery:
    """Test images of one data set.

    Attributes:
        dataset: a key of ``datasets``.
        size: height and width of a picture; None for data that are no pictures.
        index: of each image in the split.
        label: likewise.
        note: which images these are.
        runs: number of a run -> what it says of each image.
        sheets: ``"clean"``, or the name of a noise -> the pictures, as a data URI.
    """

    dataset: str
    size: tuple[int, int] | None
    index: Sequence[int]
    label: Sequence[int]
    note: str
    runs: Mapping[int, Mapping[str, Any]]
    sheets: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        """Pictures in a row of a sheet."""
        return columns(len(self.index))


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Attributes:
        dataset: that params.yaml chooses.
        tables: those that are there.
        missing: names of those that are not.
        galleries: images of the data sets that tables are about.
        made_by: what made the page (`certsmooth.artefacts.provenance.MadeBy`).
    """

    dataset: str
    tables: Sequence[DrawnTable]
    missing: Sequence[str]
    galleries: Sequence[Gallery]
    made_by: Mapping[str, Any]


def page_html(page: Page) -> str:
    """Return the page; equal content gives equal text.

    Raises:
        MissingLibraryError: a library that it needs is not installed.
    """
    environment = Environment(
        loader=PackageLoader("certsmooth.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = {name: each for name, each in vars(formats).items() if callable(each)}
    functions = (html, provenance, legend, policies, fair_rows, optimistic_rows, published_rows, cards, place)
    named |= {function.__name__: function for function in (*functions, promises_of, sheet_class)}
    environment.globals |= named
    environment.filters |= named
    return environment.get_template("index.html.j2").render(
        page=page,
        style=_asset("page.css.j2"),
        script=_asset("page.js.j2"),
        library=_library(),
        data=_packed(_tables(page)),
        images=_packed(_galleries(page)),
        galleries={gallery.dataset: gallery for gallery in page.galleries},
    )


def _asset(name: str) -> Markup:
    """Return the style or the script: a template by its name alone, so that a change of it makes the page anew."""
    text = resources.files("certsmooth.report.page").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)


def _library() -> Markup:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    with optional_libraries():
        import vl_convert
    bundle: str = cast(Any, vl_convert).javascript_bundle()  # its types want an argument that it does not need
    return Markup(bundle.replace("</script", r"<\/script"))


def _packed(value: Any) -> str:  # noqa: ANN401 - what JSON holds
    """Return JSON compressed by gzip, as base64: a tenth of its length, and nothing in it ends a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _tables(page: Page) -> dict[str, Any]:
    tables = {}
    for table in page.tables:
        shown = table.gallery
        gallery = {"dataset": shown.dataset, "runs": shown.runs, "leading": shown.leading} if shown else None
        tables[table.name] = {"curves": table.curves, "gallery": gallery}
    return {"probabilities": [float(p) for p in PROBABILITIES], "tables": tables}


def _galleries(page: Page) -> dict[str, Any]:
    return {
        each.dataset: {
            **{"size": each.size, "columns": each.columns, "index": each.index, "label": each.label},
            **{"sheets": list(each.sheets), "runs": each.runs},
        }
        for each in page.galleries
    }


def legend(found: set[str]) -> Markup:
    """Return what each of these guarantees says, as HTML."""
    templates = Environment(loader=PackageLoader("certsmooth.report"), trim_blocks=True, lstrip_blocks=True)
    return html(templates.get_template("_legend.md.j2").module.legend(found))  # type: ignore[attr-defined]


def promises_of(guarantee: str | None) -> list[str]:
    """Return the guarantees that a text lists."""
    return guarantee.split(", ") if guarantee else []


def fair_rows(content: Mapping[str, Any]) -> list[Record]:
    """Return the rows of a certified table that no test image chose, each with its cells by radius."""
    return _rows(records(chosen_fairly(pd.DataFrame(content["values"]))), lambda row: row["method"])


def optimistic_rows(content: Mapping[str, Any]) -> list[Record]:
    """Return the rows that the test images chose otherwise, likewise; a cell says whether it is the fair one."""
    return _rows(records(chosen_on_test(pd.DataFrame(content["values"]))), lambda row: row["method"])


def published_rows(content: Mapping[str, Any]) -> list[Record]:
    """Return the rows of a paper's table, each with its cells by radius."""
    published = [row for row in content["values"] if row["kind"] == "published"]
    return _rows(published, lambda row: (row["method"], row["sigma"]))


def policies(rows: Sequence[Record]) -> str:
    """Return what the labels of sigma in training and in certification stand for."""
    return labels.legend(label for row in rows for label in (row["train"], row["certify"]) if label)


def _rows(values: Sequence[Record], key: Any) -> list[Record]:  # noqa: ANN401 - a function
    found: dict[Any, Record] = {}
    for row in values:
        found.setdefault(key(row), {**row, "cells": {}})["cells"][row["radius"]] = row
    return [{**row, "has_acr": None in row["cells"]} for row in found.values()]


def cards(shown: Shown, gallery: Gallery) -> list[Record]:
    """Return the worst images of a table, each with what the leading runs say of it."""
    found = []
    for index in shown.worst:
        at = list(gallery.index).index(index)
        rows = [_said(gallery.runs[run], at, gallery.label[at]) for run in shown.leading]
        asked = gallery.runs[shown.leading[0]]["noise"]
        noise = asked if asked in gallery.sheets else list(gallery.sheets)[-1] if gallery.sheets else ""
        found.append({"index": index, "label": gallery.label[at], "at": at, "noise": noise, "rows": rows})
    return found


def _said(run: Mapping[str, Any], at: int, label: int) -> Record:
    values = {name: column[at if len(column) > 1 else 0] for name, column in run["at"].items()}
    counts = run["counts"][at] if run["counts"] else []
    pairs = list(zip(counts[::2], counts[1::2], strict=True))
    total = run["n"][at if len(run["n"]) > 1 else 0] if run["n"] else 0
    return {
        **{"method": run["method"], "setting": formats.setting(run["sigma"], run["grid"]), **values},
        **{"guarantee": run["guarantee"], "right": values["predict"] == label},
        "counts": [{"label": k, "number": number, "share": 100 * number / total} for k, number in pairs[:3]],
    }


def sheet_class(galleries: Mapping[str, Gallery], dataset: str, sheet: str) -> str:
    """Return the class of the elements that show a picture of a sheet."""
    return f"sheet-{list(galleries).index(dataset)}-{list(galleries[dataset].sheets).index(sheet)}"


def place(gallery: Gallery, at: int, size: int) -> str:
    """Return the style of an element that shows one picture of a sheet, so many CSS pixels high."""
    height, width = gallery.size or (1, 1)
    across, row, column = round(size * width / height), at // gallery.columns, at % gallery.columns
    return (
        f"width:{across}px;height:{size}px;background-size:{across * gallery.columns}px auto;"
        f"background-position:-{column * across}px -{row * size}px"
    )
