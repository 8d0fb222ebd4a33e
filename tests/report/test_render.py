"""How frames become files: types of columns, tables, paragraphs, and a template for each kind."""

import io
import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from certsmooth.analysis.result import Kind, TableResult, records, tidy
from certsmooth.report import formats, render

SOURCES = Path(render.__file__).parents[2]
CELLS = [
    {"method": "A", "radius": 0.0, "value": 80.0},
    {"method": "B", "radius": 0.5, "value": 20.0},
    {"method": "A", "radius": None, "value": 0.25},
    {"method": "B", "radius": 0.0, "value": None},
]
COLUMNS = ("method", "radius", "value", "images")


def test_a_column_of_integers_stays_one_where_some_are_absent():
    frame = tidy([{"a": 3, "b": 1, "c": "x", "more": 1}, {"a": None, "b": 0.5, "d": None}], "abcd")
    assert frame.to_csv(index=False) == "a,b,c,d\n3,1.0,x,\n,0.5,,\n"
    assert records(frame) == [{"a": 3, "b": 1.0, "c": "x", "d": None}, {"a": None, "b": 0.5, "c": None, "d": None}]


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))))
def test_numbers_come_back_from_csv_and_json_as_they_were(numbers):
    frame = tidy([{"place": place, "value": value} for place, value in enumerate(numbers)], ("place", "value"))
    result = TableResult(kind="thresholds", name="t", title="T", about={}, values=frame)
    stored = json.loads(json.dumps(result.content()))["values"]
    assert [row["value"] for row in stored] == numbers
    text = frame.to_csv(index=False)
    read = pd.read_csv(io.StringIO(text), float_precision="round_trip")["value"]
    assert [None if np.isnan(value) else value for value in read] == numbers


def test_a_cell_that_no_row_of_the_frame_is_about_is_a_dash():
    table = render.grid(
        tidy(CELLS, COLUMNS),
        {"Method": "method"},
        "radius",
        {0.0: "r=0", 0.5: "r=0.5", None: "ACR"},
        ("value", "{:.1f}"),
    )
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert [lines[0], *lines[2:]] == [
        ["Method", "r=0", "r=0.5", "ACR"],
        ["A", "80.0", "–", "0.2"],
        ["B", "–", "20.0", "–"],
    ]


def test_columns_come_in_the_order_of_their_first_rows_unless_they_are_given():
    shown = ("radius", "{:g}")
    table = render.grid(tidy(CELLS, COLUMNS), {"Method": "method"}, "radius", shown, ("value", "{:g}"))
    assert re.split(r"[ |]+", table.splitlines()[0])[1:-1] == ["Method", "0", "0.5", "–"]


def test_lines_of_the_same_text_but_other_values_stay_apart():
    frame = tidy([{"sigma": 0.12345678, "value": 1.0}, {"sigma": 0.12345679, "value": 2.0}], ("sigma", "value"))
    table = render.grid(frame.assign(at=0), {"Sigma": ("sigma", "{:.3f}")}, "at", {0: "x"}, ("value", "{:g}"))
    assert [line.split("|")[2].strip() for line in table.splitlines()[2:]] == ["1", "2"]


def test_a_bar_in_a_label_is_no_column():
    table = render.rows(
        tidy([{"method": "a|b", "value": 1.0}], COLUMNS), {"Method": "method", "x": ("value", "{:g}")}, text=1
    )
    assert re.findall(r"(?<!\\)\|", table.splitlines()[2]) == ["|"] * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# T\none\ntwo\n\n\nthree", "# T\none two\n\nthree\n"),
        ("- a;\n  b\n- c", "- a; b\n- c\n"),
        ("text\n| a |\n| b |", "text\n| a |\n| b |\n"),
        ("![f](f.svg)\ntext", "![f](f.svg)\ntext\n"),
        ("\n\n  x\n", "x\n"),
    ],
)
def test_paragraphs_and_items_are_one_line(text, expected):
    assert render.unwrapped(text) == expected


@given(st.lists(st.sampled_from(["", "word", "two words", "- item", "  more", "# Heading", "| a | b |"])))
def test_unwrapping_keeps_every_word_in_its_place_and_is_done_once(lines):
    text = "\n".join(lines)
    once = render.unwrapped(text)
    assert once.split() == text.split()
    assert render.unwrapped(once) == once
    assert "\n\n\n" not in once


ALONE = ("plan", "recipes", "results", "findings", "first_table")
"""Pages that are no tables."""


def test_each_kind_has_its_template_and_no_template_is_without_a_kind():
    folder = Path(render.__file__).parent / "templates"
    assert {path.name.removesuffix(".md.j2") for path in folder.glob("[!_]*")} == {*get_args(Kind), *ALONE}


def test_a_template_that_names_what_is_not_there_is_refused():
    frame = tidy([], ("statement", "published", "theorem"))
    with pytest.raises(UndefinedError, match="about"):
        render.render(TableResult(kind="high_dimension", name="t", title="T", about={}, values=frame))


def test_every_file_of_the_package_is_installed():
    patterns = tomllib.loads((SOURCES.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = [path.relative_to(SOURCES / "certsmooth").as_posix() for path in (SOURCES / "certsmooth").rglob("*.*")]
    data = [name for name in found if not name.endswith((".py", ".pyc"))]
    assert len(data) > 8
    assert [name for name in data if not any(fnmatch(name, each) for each in patterns["certsmooth"])] == []


def test_numbers_as_people_read_them():
    assert formats.interval(62.5, "certified_accuracy", 50.04, 70.06) == "62.5 [50.0, 70.1]"
    assert formats.interval(0.5, "acr") == "0.500"
    assert [formats.signed(value) for value in (1.25, -0.04, 0.0, -3.0)] == ["+1.2", "0.0", "0.0", "-3.0"]
    assert formats.difference(-0.001, 0.5, "clean_accuracy") == "+0.00 ± 0.50"
    assert [formats.p_value(value) for value in (0.0009, 0.001, 1.0)] == ["< 0.001", "0.001", "1.000"]
    assert formats.setting(0.25, "iterations=100 step=0.1") == "0.25; iterations 100; step 0.1"
    assert formats.short("sha256:" + "ab" * 32) == "sha256:abababababab"
    assert formats.promises(["global, none"], ["global (real arithmetic)"]) == {
        "global",
        "none",
        "global (real arithmetic)",
    }
