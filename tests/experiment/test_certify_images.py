"""Image files and a checkpoint make a table of certificates: those of the Python class, for the pixels of the files."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from certsmooth import SmoothedClassifier, load_classifier
from certsmooth.experiment.cli import main
from certsmooth.science.models import ModelSpec
from factories import save_classifier

pytestmark = pytest.mark.slow

SPEC = ModelSpec("small_cnn", (3, 16, 16), 4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkpoint and images; no params.yaml."""
    monkeypatch.chdir(tmp_path)
    save_classifier(tmp_path / "model.safetensors", SPEC, seed=1)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("b.png", "a|$x$.png", "c.PNG"):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path


def call(capsys, *arguments, ok=True):
    capsys.readouterr()
    assert main(["certify-images", "model.safetensors", *map(str, arguments)]) == (0 if ok else 2)
    said = capsys.readouterr()
    return said.out if ok else said.err


def rows(table):
    return [re.split(r" *(?<!\\)\| *", line.strip())[1:-1] for line in table.splitlines() if re.match(r"\| +\d", line)]


def pixels(path):
    return torch.tensor(np.asarray(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255


def test_certificates_are_those_of_the_class_for_the_pixels_of_the_files(folder, capsys):
    said = call(capsys, "photos", "photos/b.png", "--sigma", 0.1, "--n", 200, "--alpha", 0.01, "--seed", 3)
    names = ["photos/a\\|$x$.png", "photos/b.png", "photos/c.PNG", "photos/b.png"]
    assert [row[1] for row in rows(said)] == names
    trained = load_classifier("model.safetensors")
    images = torch.stack([pixels(name.replace("\\", "")) for name in names])
    right = SmoothedClassifier(trained.model, 4, 0.1).certify(images, n0=100, n=200, alpha=0.01, seed=3)
    for row, (_, expected) in zip(rows(said), right.iterrows(), strict=True):
        assert row[2] == ("abstains" if expected.predict == -1 else str(expected.predict))
        for said_bound, bound, step in ((row[3], expected.radius, 1e-3), (row[4], expected.p_a_lower, 1e-4)):
            assert bound - step < float(said_bound) <= bound  # never more than is certified
        assert row[5:] == ["global"]
    assert {float(row[3]) for row in rows(said)} != {0.0}
    assert "model.safetensors, sigma 0.1, n0 100, n 200, alpha 0.01, seed 3;" in said


def test_each_image_has_its_picture(folder, capsys):
    call(capsys, "photos", "--sigma", 0.1, "--n", 100, "--output", "pictures/here")
    found = sorted(path.name for path in (folder / "pictures" / "here").iterdir())
    assert found == ["0.png", "0.svg", "1.png", "1.svg", "2.png", "2.svg"]
    assert all((folder / "pictures" / "here" / name).stat().st_size > 1000 for name in found)


def test_the_middle_of_another_size_is_taken(folder, capsys):
    """What an image of plain halves shows does not depend on how pixels are mixed."""
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    Image.fromarray(wide).save("wide.png")
    Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save("square.png")
    base = ("--sigma", 0.1, "--n", 100)
    assert "wide.png: 60x20; must be 16x16, or say --size" in call(capsys, "wide.png", *base, ok=False)
    one, other = (rows(call(capsys, name, *base, "--size", 20))[0][2:] for name in ("wide.png", "square.png"))
    assert one == other


def test_a_grey_image_is_taken_for_colours_and_the_other_way_round(folder, capsys):
    Image.fromarray(np.full((16, 16), 77, np.uint8)).save("grey.png")
    Image.fromarray(np.full((16, 16, 3), 77, np.uint8)).save("colours.png")
    first, second = rows(call(capsys, "grey.png", "colours.png", "--sigma", 0.1, "--n", 100))
    assert first[2:] == second[2:]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["photos", "--sigma", "0"], "--sigma: 0.0; must be a finite number > 0"),
        (["photos", "--sigma", "0.1", "--n", "5"], "n"),
        (["photos", "--sigma", "0.1", "--alpha", "2"], "alpha: 2.0; must be in"),
        (["photos", "--sigma", "0.1", "--size", "8"], "--size: 8; must be a whole number, at least 16"),
        (["photos/notes.txt", "--sigma", "0.1"], "notes.txt: cannot be read"),
        (["nowhere.png", "--sigma", "0.1"], "nowhere.png: cannot be read"),
        (["empty", "--sigma", "0.1"], "empty: no images; must hold files .png"),
    ],
)
def test_what_is_wrong_is_named(folder, capsys, options, said):
    (folder / "empty").mkdir()
    assert said in call(capsys, *options, ok=False)


def test_a_network_of_no_images_is_refused(folder, capsys):
    save_classifier(folder / "model.safetensors", ModelSpec("mlp", (2,), 3), pixel_range=None)
    assert "takes shape (2,), pixels in None; must take images" in call(capsys, "photos", "--sigma", "0.1", ok=False)


def test_code_of_others_runs_only_if_it_is_trusted(folder, capsys):
    from certsmooth._internal.external import ExternalArchitecture

    (folder / "models").mkdir()
    (folder / "models" / "mine.py").write_text(
        "from torch import nn\n\ndef build(shape, k):\n    return nn.Sequential(nn.Flatten(), nn.Linear(768, k))\n"
    )
    spec = ModelSpec(ExternalArchitecture("import", "models.mine:build"), (3, 16, 16), 4)
    save_classifier(folder / "model.safetensors", spec)
    base = ("photos", "--sigma", "0.1", "--n", "100")
    assert "'models', which is not trusted" in call(capsys, *base, ok=False)
    assert len(rows(call(capsys, *base, "--trust", "models"))) == 3
