"""What README and docs/results.md say of our results: current, and each number of a result file."""

import json

import pandas as pd
import pytest

from certsmooth.artefacts.certificates import read_certificates
from certsmooth.errors import CertsmoothError, ConfigError
from certsmooth.report.results_page import CIFAR10, COMMITTED, FIGURE, MADE_BY, README, Results, begin, end, texts
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
    needed = {MADE_BY, FIGURE.name, *(f"{table}.csv" for table in results.frames)}
    assert {path.name for path in COMMITTED.iterdir()} == needed, "no text takes a number from the others"


def test_the_numbers_of_cifar10_are_those_of_the_certificates_beside_them():
    values = pd.read_csv(ROOT / CIFAR10 / "cifar10.csv", dtype={"sigma": str})
    found = 0
    for path in sorted((ROOT / CIFAR10 / "certificates").iterdir()):
        for part in read_certificates(path):
            frame, sampled = part.frame, part.spec["sampled"]
            if sampled["split"] != "test":
                continue
            method = {"cohen": "Cohen", "cohen-ds": "Cohen-DS", "cohen-ds-held": "Cohen-DS, class held"}[path.stem]
            mine = values[(values["method"] == method) & (values["sigma"] == f"{sampled['base']['sigma']:g}")]
            mine = mine[mine["selected_on"] == "none"]
            right = frame["correct"] == 1
            for _, row in mine[mine["metric"] == "certified_accuracy"].iterrows():
                assert row["value"] == pytest.approx(
                    100 * (right & (frame["radius"] >= row["radius"])).mean(), abs=1e-6
                )
            (acr,) = mine[mine["metric"] == "acr"]["value"]
            assert acr == pytest.approx((right * frame["radius"]).mean(), abs=1e-6)
            found += 1
    assert found == 6


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
