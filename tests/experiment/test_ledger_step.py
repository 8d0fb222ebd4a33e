"""`certsmooth ledger`: files of authors in every layout, our tables, and what it refuses."""

import gzip
import json
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest

from certsmooth.analysis.ledger.derive import DERIVED_COLUMNS, parse_derived, shipped_derived
from certsmooth.analysis.result import records
from certsmooth.artefacts.records import RECORD
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import read_params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.steps.data import record_data
from certsmooth.experiment.steps.ledger import compared_tables
from factories import row, rows, shipped_content
from workflow_project import plain_yaml

pytestmark = pytest.mark.slow  # it reads thousands of cells and files of 10,000 images
REFERENCE = Path(__file__).resolve().parents[2] / ".." / "shared" / "reference"
HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
SIGMAS = ("0.12", "0.25", "0.50", "1.00")


def lines(sigma):
    """Four images: right with radii sigma and 2 sigma, wrong, and an abstention."""
    radii = f"0\t3\t3\t{sigma}\t1\t0:00:14.15\n1\t8\t8\t{2 * float(sigma)}\t1\t0:00:14.12\n"
    return f"{HEADER}{radii}2\t1\t5\t3.0\t0\t14.1\n3\t2\t-1\t0.0\t0\t14.1\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project without results."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(plain_yaml(shipped_content()))
    return tmp_path


@pytest.fixture
def logs(folder):
    """Cohen's files of CIFAR-10 in the layout of the repository."""
    for sigma in SIGMAS:
        path = (
            folder
            / "logs"
            / "data"
            / "certify"
            / "cifar10"
            / "resnet110"
            / f"noise_{sigma}"
            / "test"
            / f"sigma_{sigma}"
        )
        path.parent.mkdir(parents=True)
        path.write_text(lines(sigma))
    (folder / "logs" / "README.md").write_text("not certificates")
    return folder / "logs"


def values(name="ledger"):
    return pd.read_csv(f"results/tables/{name}.csv", dtype={"sigma": str})


def test_without_results_the_ledger_has_what_is_published_and_derived(folder, capsys):
    assert main(["ledger"]) == 0
    assert capsys.readouterr().out == "results/tables/ledger.md\n"
    ledger = values()
    assert len(ledger) == 833
    assert ledger.verdict.value_counts().to_dict() == {"published only": 724, "derived": 103, "differs": 6}
    content = json.loads(Path("results/tables/ledger.json").read_text())
    assert content["kind"] == "ledger"
    assert sum(each["cells"] for each in content["counts"]) == 833
    assert not Path("results/tables/derived.csv").exists()


def test_files_of_a_repository_are_derived_and_what_differs_is_printed(logs, capsys):
    assert main(["ledger", "--logs", str(logs)]) == 0
    text = capsys.readouterr().out
    first, *others = text.splitlines()
    assert first.startswith("results/tables/derived.csv: 73 cells from 4 files (1 others are of no known path), ")
    assert text.endswith("results/tables/ledger.md\n")
    where = "idrs table 4, cifar10, Cohen, sigma 0.25, abstention_rate: "
    assert where + "printed 0.086, derived 25 percent (cifar10/resnet110/noise_0.25/test/sigma_0.25)" in others
    ledger = values()
    cell = row(ledger, paper="smoothadv", table=2, method="Cohen", radius=2.0)
    assert (cell["derived"], cell["verdict"]) == (25.0, "differs")
    # What these files do not give is as it came with the package.
    assert row(ledger, paper="smoothadv", table=2, method="SmoothAdv", radius=2.0)["derived"] == 18.43
    derived = parse_derived(Path("results/tables/derived.csv").read_text(), source="derived.csv")
    assert len(derived) == len(shipped_derived())
    assert main(["ledger"]) == 0  # again, without the files: by what was derived
    pd.testing.assert_frame_equal(values(), ledger)


def test_flat_and_compressed_files_give_the_same_bytes(logs, folder):
    assert main(["ledger", "--logs", str(logs)]) == 0
    expected = Path("results/tables/derived.csv").read_bytes()
    (flat := folder / "flat").mkdir()
    for sigma, name in zip(
        SIGMAS,
        ("cohen2019_cifar10_resnet110_train{0}_certify{0}.tsv",) * 2
        + ("cifar10__resnet110__noise_{0}__test__sigma_{0}.tsv.gz",) * 2,
        strict=True,
    ):
        write = gzip.compress if name.endswith(".gz") else bytes
        (flat / name.format(sigma)).write_bytes(write(lines(sigma).encode()))
    Path("results/tables/derived.csv").unlink()
    assert main(["ledger", "--logs", str(flat)]) == 0
    assert Path("results/tables/derived.csv").read_bytes() == expected


def test_the_same_file_twice_counts_once_but_not_with_another_content(logs, capsys):
    again = logs / "cohen2019_cifar10_resnet110_train0.12_certify0.12.tsv"
    again.write_text(lines("0.12"))
    assert main(["ledger", "--logs", str(logs)]) == 0
    assert "73 cells from 5 files" in capsys.readouterr().out
    again.write_text(lines("0.13"))
    assert main(["ledger", "--logs", str(logs)]) == 2
    said = capsys.readouterr().err
    assert "is cifar10/resnet110/noise_0.12/test/sigma_0.12 as" in said
    assert "with another content; must be there once" in said


def test_what_lacks_files_is_said(logs, capsys):
    next(logs.rglob("sigma_0.50")).unlink()
    assert main(["ledger", "--logs", str(logs)]) == 0
    said = "not derived: smoothadv table 2, cifar10, Cohen: no file of cohen cifar10 at sigma 0.5"
    assert said in capsys.readouterr().out.splitlines()
    assert row(values(), paper="smoothadv", table=2, method="Cohen", radius=2.0)["derived"] == 10.0  # as shipped


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("\t0.5\t", "\tx\t"), "line 3, column radius: 'x'; must be a finite number >= 0"),
        (lambda text: text.replace("idx\t", "id\t"), "columns 'id label predict radius correct time'; must be"),
        (lambda text: text.replace("\t14.1", ""), "line 4: 5 fields; must be 6, separated by tabs"),
        (lambda text: text.replace("\t8\t8\t", "\t8\t7\t"), "line 3, column correct: 1; must be 1 exactly if"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(logs, capsys, damage, message):
    path = next(logs.rglob("sigma_0.25"))
    path.write_text(damage(path.read_text()))
    assert main(["ledger", "--logs", str(logs)]) == 2
    assert capsys.readouterr().err.startswith(f"certsmooth: {path}: {message}")
    assert not Path("results/tables").exists()


def test_folders_without_known_files(folder, capsys):
    assert main(["ledger", "--logs", "nowhere"]) == 2
    assert "--logs: nowhere is no folder; must hold per-image certificates" in capsys.readouterr().err
    Path("some").mkdir()
    Path("some/sigma_0.25").write_text(lines("0.25"))
    assert main(["ledger", "--logs", "some"]) == 2
    said = capsys.readouterr().err
    assert "--logs: some: none of 1 files is known by its path; must be as data/certify in" in said


def test_damaged_derived_values_are_named(folder, capsys):
    Path("results/tables").mkdir(parents=True)
    Path("results/tables/derived.csv").write_text("paper,table\n")
    assert main(["ledger"]) == 2
    assert "results/tables/derived.csv: columns 'paper table'; must be" in capsys.readouterr().err


# --- ours

NUMBER = {"kind": "measured", "images": 60, "seeds": "0"}
CERTIFIED = NUMBER | {"lower": 39.0, "upper": 41.0, "value": 40.0, "method": "Cohen", "selected_on": "test"}
CERTIFIED |= {"sigma": "best", "metric": "certified_accuracy", "radius": 0.5, "dataset": "digits"}
ACCURACY = NUMBER | {"row": "IDRS; rate 0.01", "sigma": "0.12", "metric": "clean_accuracy", "dataset": "digits"}
ACCURACY |= {"value": 82.0, "seed_sd": 0.6, "image_error": 1.0}


def write(name, *numbers):
    path = Path("results/tables", f"{name}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(numbers).to_csv(path, index=False)


@pytest.fixture
def recorded(folder):
    experiment = Experiment(read_params(Path("params.yaml")))
    record_data(experiment.data("digits"), results=Path("results"))
    return folder


def test_our_tables_stand_beside_the_cells_of_the_tables_that_they_name(recorded):
    write(
        "table1", CERTIFIED, CERTIFIED | {"kind": "published"}, CERTIFIED | {"selected_on": "validation", "value": 1.0}
    )
    write("rates", ACCURACY)
    assert main(["ledger"]) == 0
    ledger = values()
    beside = ledger[ledger.ours.notna()]
    assert set(zip(beside.paper, beside.table, beside.dataset, beside.metric, beside.our_table, strict=True)) == {
        ("ddrs", 1, "cifar10", "certified_accuracy", "table1"),
        ("ddrs", 1, "imagenet", "certified_accuracy", "table1"),
        ("idrs", 6, "cifar10", "clean_accuracy", "rates"),
        ("idrs", 8, "mnist", "clean_accuracy", "rates"),
        ("idrs", 11, "cifar10", "accuracy_std", "rates"),
        ("idrs", 12, "mnist", "accuracy_std", "rates"),
    }
    assert set(beside.verdict) == {"published only"}
    cell = row(beside, paper="ddrs", dataset="cifar10")
    assert (cell["ours"], cell["our_data"], cell["our_images"], cell["our_seeds"]) == (40.0, "digits", 60, 0)
    assert "40.0 [39.0, 41.0]" in Path("results/tables/ledger.md").read_text()
    assert "| digits, `table1` |" in Path("results/tables/ledger.md").read_text()


def test_only_images_that_are_proved_to_be_the_papers_change_a_verdict(recorded):
    record = Path("results/data/digits.json")
    for description, data, verdict in (
        ("CIFAR-10", "cifar10", "replicated"),
        ("data in CIFAR-10's format", "data in CIFAR-10's format", "published only"),
    ):
        content = json.loads(record.read_text())
        changed = content | {"name": "cifar10", "description": description}
        del changed["sha256"]
        RECORD.write_json(record, changed)
        write("table1", CERTIFIED)
        assert main(["ledger"]) == 0
        cell = row(values(), paper="ddrs", table=1, dataset="cifar10", method="Cohen", radius=0.5)
        assert (cell["our_data"], cell["verdict"]) == (data, verdict)
        (other,) = rows(values(), paper="ddrs", table=1, dataset="imagenet", method="Cohen", radius=0.5)
        assert other["verdict"] == "published only"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (CERTIFIED | {"dataset": "other"}, "tables/table1.csv: dataset 'other' is not in params.yaml; make the table"),
        (CERTIFIED | {"dataset": "mnist"}, "results/data/mnist.json: cannot be read"),
        (CERTIFIED | {"value": "many"}, "results/tables/table1.csv: damaged ("),
        ({"kind": "measured"}, "results/tables/table1.csv: damaged ("),
    ],
)
def test_a_table_of_something_else_is_refused(recorded, capsys, number, message):
    write("table1", number)
    assert main(["ledger"]) == 2
    assert message in capsys.readouterr().err


def test_the_tables_that_name_published_ones(folder):
    found = compared_tables(Experiment(read_params(Path("params.yaml"))))
    assert found["smoothadv_table2"] == [("smoothadv", 2)]
    assert found["evaluation"] == [("idrs", 2), ("idrs", 3)]
    assert not {"soundness", "empirical", "policies", "policies-cones"} & found.keys()


# --- the shipped file


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the authors' files are not on this machine")
def test_the_shipped_values_are_what_the_authors_files_give(folder, capsys):
    assert main(["ledger", "--logs", str(REFERENCE)]) == 0
    assert "109 cells from 27 files" in capsys.readouterr().out
    shipped = resources.files("certsmooth.analysis.ledger").joinpath("derived.csv").read_bytes()
    assert Path("results/tables/derived.csv").read_bytes() == shipped
    frame = shipped_derived()
    assert tuple(frame) == DERIVED_COLUMNS
    assert {len(each["sha256"]) for each in records(frame)} == {64}
