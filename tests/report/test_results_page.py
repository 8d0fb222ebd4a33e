"""What README and docs/results.md say of our results: current, and each number of a result file."""

import json
from pathlib import Path

import pandas as pd
import pytest

from certsmooth.artefacts.certificates import read_certificates
from certsmooth.errors import CertsmoothError, ConfigError
from certsmooth.report.results_page import (
    APART,
    COMMITTED,
    GALLERY,
    MADE_BY,
    README,
    Results,
    begin,
    end,
    gallery_files,
    texts,
)
from factories import ROOT

TABLE = "method,sigma,radius,value\nCohen,0.5,,0.25\nCohen,0.25,,0.375\nCohen,0.25,0.1,60\n"


@pytest.fixture
def results(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    return Results(tmp_path)


def test_the_texts_and_files_are_those_of_one_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    results = Results(COMMITTED)
    made_by = json.loads((COMMITTED / MADE_BY).read_text())
    for path, text in texts(results, made_by, README.read_text()).items():
        assert path.read_text() == text, "must be what `make results` writes"
    assert set(results.frames) <= set(GALLERY), "what a text takes a number from is there to look at"
    there = {path.relative_to(COMMITTED) for path in COMMITTED.rglob("*") if path.is_file()}
    assert there == {Path(MADE_BY), *gallery_files(COMMITTED)}


def rows_under(path, heading):
    """The first table of a Markdown file under a heading: column -> cell, of each row."""
    text = (ROOT / f"{path}.md").read_text()
    lines = text.partition(f"\n{heading}")[2].partition("\n| ")[2].partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in (lines[0], *lines[2:])]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]


def values_of(path):
    return pd.read_csv(ROOT / f"{path}.csv", dtype={"sigma": str})


ACCURACY = ("ds_variants", "evaluation", "policies-cones")


def test_the_broken_certificates_to_look_at_are_those_of_the_file():
    values = values_of(COMMITTED / "soundness")
    totals = values.groupby(["method", "metric"])["value"].sum()
    rows = rows_under(COMMITTED / "soundness", "")
    assert {row["Method"] for row in rows} == set(values["method"])
    for row in rows:
        for heading, metric in (("Conflicts", "conflicts"), ("Attacked", "certificates"), ("Broken", "broken")):
            assert int(row[heading]) == totals[row["Method"], metric]


CERTIFIED = [COMMITTED / name for name in GALLERY if name not in ("soundness", *ACCURACY)]
CERTIFIED += [folder / data for data, folder in APART.items()]


@pytest.mark.parametrize("path", CERTIFIED, ids=lambda path: path.name)
def test_a_table_of_certified_accuracy_to_look_at_shows_the_numbers_of_its_file(path):
    values = values_of(path)
    values = values[values["selected_on"] == "validation"]
    rows = rows_under(path, "## Certified accuracy")
    assert {row["Method"] for row in rows} == set(values["method"])
    for row in rows:
        mine = values[values["method"] == row["Method"]]
        for _, each in mine.iterrows():
            is_acr = each["metric"] == "acr"
            shown = row["ACR" if is_acr else f"r={each['radius']:g}"]
            ends = [f"{each[key]:.{3 if is_acr else 1}f}" for key in ("value", "lower", "upper")]
            assert shown == "{} [{}, {}]".format(*ends)


@pytest.mark.parametrize("name", ACCURACY)
def test_a_table_of_accuracies_to_look_at_shows_the_numbers_of_its_file(name):
    values = values_of(COMMITTED / name)
    values = values[values["kind"] == "measured"]
    several = values["dataset"].nunique() > 1
    for heading, metric, digits in (("## Clean accuracy", "clean_accuracy", 2), ("## Average certified", "acr", 3)):
        rows = {row["Method"]: row for row in rows_under(COMMITTED / name, heading)}
        found = values[values["metric"] == metric]
        assert set(rows) == set(found["row"])
        for _, each in found.iterrows():
            column = f"{each['dataset']}, " * several + f"σ = {float(each['sigma']):g}"
            assert rows[each["row"]][column].split()[0] == f"{each['value']:.{digits}f}"


LABELS = {
    "cohen": "Cohen",
    "cohen-ds": "Cohen-DS",
    "cohen-ds-held": "Cohen-DS, class held",
    "smoothadv": "SmoothAdv",
    "dual": "Dual",
}


@pytest.mark.parametrize(("data", "count"), [("mnist", 12), ("cifar10", 6)])
def test_the_numbers_of_a_table_apart_are_those_of_the_certificates_beside_it(data, count):
    folder = ROOT / APART[data]
    values = values_of(folder / data)
    found = 0
    for path in sorted((folder / "certificates").iterdir()):
        for part in read_certificates(path):
            frame, sampled = part.frame, part.spec["sampled"]
            if sampled["split"] != "test":
                continue
            mine = values[values["method"] == LABELS[path.stem]]
            mine = mine[(mine["sigma"] == f"{sampled['base']['sigma']:g}") & (mine["selected_on"] == "none")]
            right = frame["correct"] == 1
            for _, row in mine[mine["metric"] == "certified_accuracy"].iterrows():
                assert row["value"] == pytest.approx(
                    100 * (right & (frame["radius"] >= row["radius"])).mean(), abs=1e-6
                )
            (acr,) = mine[mine["metric"] == "acr"]["value"]
            assert acr == pytest.approx((right * frame["radius"]).mean(), abs=1e-6)
            found += 1
    assert found == count


def test_a_number_is_that_of_the_one_row(results):
    assert results.number("t", method="Cohen", sigma="0.25", radius=None) == 0.375
    assert results.number("t", "radius", value=60) == 0.1


@pytest.mark.parametrize(
    ("conditions", "found"),
    [({"sigma": "0.25"}, "2 rows with sigma 0.25"), ({"method": "MACER"}, "0 rows with method MACER")],
)
def test_no_row_and_several_are_refused(results, conditions, found):
    with pytest.raises(CertsmoothError, match=rf"t\.csv: {found}; must be one$"):
        results.number("t", **conditions)


def test_a_table_that_was_not_made_is_named(results):
    with pytest.raises(CertsmoothError, match=r"table1\.csv: cannot be read .*`snakemake results/table1.md` makes it$"):
        results.number("table1")


@pytest.mark.parametrize("readme", ["", begin("table"), end("table"), end("table") + begin("table")])
def test_a_readme_without_a_place_for_its_parts_is_refused(results, readme):
    with pytest.raises(ConfigError, match=r"^README\.md: lacks the lines"):
        texts(results, {"git_commit": "", "versions": {}}, readme)
