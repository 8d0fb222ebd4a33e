"""Networks of others in a table, under Snakemake: it follows a change of their code, and of a file of weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from certsmooth.artefacts import checkpoint
from certsmooth.science.models import ModelSpec, build
from factories import checkpoint_header, digits_content, needs_git, write_params
from workflow_project import call, copy_project, planned

pytestmark = [pytest.mark.workflow, needs_git]
TARGET = "results/peers.md"
NETWORK = """\
from torch import nn

def build(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


def write_peer(folder: Path, seed: int) -> None:
    classifier = build(ModelSpec("mlp", (1, 8, 8), 10), seed=seed)
    header = dataclasses.replace(checkpoint_header(classifier.spec), images=None)
    checkpoint.save(folder / "published" / "peer.safetensors", classifier, header)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a table of a row of ours, with a network of the user's, and one that somebody else trained."""
    folder = tmp_path / "project"
    folder.mkdir()
    copy_project(folder)
    for file in (folder / "config").rglob("*.yaml"):
        file.unlink()
    content = digits_content(epochs=2, n=100, stride=60)
    content["trusted"] = ["models"]
    content["datasets"]["digits"]["architecture"] = {"import": "models.mine:build"}
    content["trainings"]["peer"] = {"given": "published/peer.safetensors", "architecture": "mlp"}
    content["methods"]["peers"] = {**content["methods"]["cohen"], "label": "Theirs", "training": "peer"}
    table = {"title": "Peers", "methods": ["peers", "cohen"], "baseline": "cohen"}
    content["tables"] = {"peers": {"kind": "certified", **table}}
    write_params(folder, content | {"toy": None, "pictures": None, "high_dimension": None})
    (folder / "models" / "mine.py").write_text(NETWORK)
    write_peer(folder, seed=0)
    return folder


def test_a_row_follows_the_code_of_its_network_or_the_file_of_its_weights(folder: Path) -> None:
    call(folder, "certsmooth", "check")
    call(folder, "snakemake", "--cores", "1", TARGET)
    text = (folder / "results" / "tables" / "peers.md").read_text()
    assert "| Theirs " in text
    assert "| unknown " in text
    assert planned(folder, TARGET) == {}
    (folder / "models" / "mine.py").write_text(NETWORK.replace("nn.Flatten()", "nn.Flatten(), nn.ReLU()"))
    changed = planned(folder, TARGET)
    assert (changed["train"], changed["sample"]) == (1, 1)
    (folder / "models" / "mine.py").write_text(f'"""A comment."""\n{NETWORK}')
    assert planned(folder, TARGET) == {}
    write_peer(folder, seed=1)
    changed = planned(folder, TARGET)
    assert (changed["train"], changed["sample"]) == (1, 1)
