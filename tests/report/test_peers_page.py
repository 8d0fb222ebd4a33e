"""docs/peers.md, followed to the letter with a checkpoint as the program of Cohen et al. saves it."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
import torch
import yaml

from certsmooth.experiment.cli import main
from factories import ROOT, image_bytes, make_sample, numbered_files, shipped_content, write_folder, write_params
from factories.peers import make_peer, save_peer

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "peers.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


COMMANDS = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project with few images, whose labels are what the peer predicts of them with noise."""
    folder = tmp_path_factory.mktemp("peers")
    sample = make_sample((32, 32, 3), train=60, test=40)
    images = torch.tensor(sample.images["test"]).permute(0, 3, 1, 2).float() / 255
    images += 0.25 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))  # as the import has it
    network = make_peer("cohen", images)
    save_peer(folder / "theirs.pth.tar", "cohen", network)
    with torch.no_grad():
        sample.labels["test"][:] = network(images).argmax(1).numpy()
    write_folder(folder / "images", numbered_files(sample))
    content = shipped_content() | {"toy": None, "pictures": None, "high_dimension": None}
    (block,) = blocks("yaml")
    added = yaml.safe_load(block)
    cifar10 = content["datasets"]["cifar10-resnet110"]
    cifar10 |= {"source": "images", "validation": 0.4, "unlabelled": None}
    cifar10["certification"] |= {"n0": 2, "n": 20, "alpha": 0.05, "last": 1}
    for section in ("trainings", "methods"):
        content[section] |= added[section]
    write_params(folder, content | {"dataset": added["dataset"], "tables": added["tables"]})
    (folder / "published").mkdir()
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    (folder / "photos" / "one.png").write_bytes(image_bytes(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)))
    return folder


def test_the_commands_of_the_page(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    programs = [command[0] for command in COMMANDS]
    assert programs == ["certsmooth", "certsmooth", "snakemake", "certsmooth"]
    imported, checked, (*_, target), certified = COMMANDS
    assert main(imported[1:]) == 0
    assert "| as chosen | 100.0% |" in capsys.readouterr().out
    assert main(checked[1:]) == 0
    assert main(["data", "cifar10-resnet110"]) == 0
    assert main(["train", "cifar10-resnet110/peer/sigma=0.25/seed=0/default"]) == 0
    assert target == "results/peers.md"
    assert main(certified[1:]) == 0
    assert "photos/one.png" in capsys.readouterr().out
    assert (folder / "pictures" / "0.svg").is_file()


def test_the_python_of_the_page(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    if not (folder / "published" / "peer0.25.safetensors").exists():
        assert main(COMMANDS[0][1:]) == 0
    (code,) = blocks("python")
    exec(code, {"images": torch.rand(1, 3, 32, 32)})
    assert "guarantee" in capsys.readouterr().out
