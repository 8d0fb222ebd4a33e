"""Tables of files that others made, under Snakemake and DVC: they need nothing else, and follow an edit of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from factories import needs_git, shipped_content, write_params
from workflow_project import call, copy_project, planned

pytestmark = [pytest.mark.workflow, needs_git]
TARGETS = ("results/theirs.md", "results/rates.md")


def write(path: Path, radius: float) -> None:
    lines = [f"{i}\t{i % 10}\t{i % 10}\t{radius}\t1\t0:00:01" for i in range(20)]
    path.write_text("\n".join(["idx\tlabel\tpredict\tradius\tcorrect\ttime", *lines]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a table of each kind about files of CIFAR-10, whose images are not there."""
    folder = tmp_path / "project"
    folder.mkdir()
    copy_project(folder)
    for file in (folder / "config").rglob("*.yaml"):
        file.unlink()
    content = shipped_content()
    theirs = {"label": "Theirs", "certificates": "published/theirs{sigma}.tsv", "sigma": [0.25, 0.5]}
    content["methods"]["theirs"] = theirs | {"dataset": "cifar10"}
    table = {"title": "Theirs", "methods": ["theirs"], "baseline": "theirs"}
    content["tables"] = {"theirs": {"kind": "certified", **table}, "rates": {"kind": "accuracy", **table}}
    content |= {"dataset": "cifar10", "toy": None, "high_dimension": None}
    write_params(folder, content)
    for sigma in (0.25, 0.5):
        write(folder / "published" / f"theirs{sigma}.tsv", sigma)
    return folder


def acr(folder: Path) -> list[float]:
    values = json.loads((folder / "results/tables/theirs.json").read_text())["values"]
    return [row["value"] for row in values if row["metric"] == "acr" and row["selected_on"] == "none"]


def test_an_edit_of_a_file_makes_its_tables_again(folder: Path) -> None:
    call(folder, "snakemake", "--cores", "1", *TARGETS)
    assert acr(folder) == pytest.approx([0.25, 0.5])
    assert not list((folder / "results" / "data").glob("*.json"))
    for figure in ("theirs", "p_a/theirs", "rates"):
        assert (folder / "results" / "tables" / "figures" / f"{figure}.svg").stat().st_size > 1000
    assert planned(folder, *TARGETS) == {}
    write(folder / "published" / "theirs0.5.tsv", 0.75)
    assert planned(folder, *TARGETS) == {"certified": 1, "accuracy": 1, "shown": 2}
    call(folder, "snakemake", "--cores", "1", *TARGETS)
    assert acr(folder) == pytest.approx([0.25, 0.75])
    for file in ("published/theirs0.5.tsv", "results/tables/theirs.md"):
        (folder / file).unlink()
    assert "published/theirs0.5.tsv" in call(folder, "snakemake", "--cores", "1", *TARGETS, ok=False)


def test_dvc_looks_at_the_folder_of_such_files(folder: Path) -> None:
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    assert [name for name, stage in stages.items() if "published" in stage["deps"]] == ["train", "report"]
