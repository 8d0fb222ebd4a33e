"""Weights that other programs trained become checkpoints whose logits are theirs, or are refused with the reason."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from certsmooth._internal.storage import file_digest
from certsmooth.artefacts.trained import load_classifier
from certsmooth.experiment.cli import main
from certsmooth.science.models import ModelSpec, Normalisation, build
from factories import changed, make_sample, small_content, write_npz, write_params
from factories.peers import CIFAR10, IMAGENET, PEERS, make_peer, save_peer

pytestmark = pytest.mark.slow

SHAPE = (3, 32, 32)


def pixels(sample):
    return torch.tensor(sample.images["test"]).permute(0, 3, 1, 2).float() / 255


def write_data(folder, sample, labels):
    """Write images with these labels as the test split of a data set ``cifar10`` of params.yaml."""
    sample.labels["test"][:] = labels
    write_npz(folder / "images.npz", sample)
    entry = small_content()["datasets"]["mnist"]
    other = {"source": "images.npz", "normalisation": None, "unlabelled": None, "architecture": "small_cnn"}
    write_params(folder, changed(small_content(), "datasets.cifar10", entry | other))


def call(capsys, *arguments, ok=True):
    capsys.readouterr()
    assert main(["import", *map(str, arguments)]) == (0 if ok else 2)
    said = capsys.readouterr()
    return said.out if ok else said.err


@pytest.fixture(scope="module", params=PEERS)
def peer(request, tmp_path_factory):
    """A network of each program, its file, and a data set that has its predictions for labels."""
    folder = tmp_path_factory.mktemp(request.param)
    sample = make_sample((32, 32, 3), test=40)
    images = pixels(sample)
    network = make_peer(request.param, images)
    with torch.no_grad():
        save_peer(folder / "theirs.pth.tar", request.param, network)
        save_peer(folder / "legacy.pth.tar", request.param, network, legacy=True)
        write_data(folder, sample, network(images).argmax(1).numpy())
    return request.param, folder, network


NORMALISATION = {"cohen": CIFAR10, "imagenet": CIFAR10, "macer": None, "ddrs": None}
"""What is taken for it without a word, on images of this size."""
RIGHT = {"cohen": [], "macer": [], "imagenet": ["--normalisation", "imagenet"], "ddrs": ["--normalisation", "cifar10"]}
OURS = {"cohen": "resnet110", "macer": "resnet110", "imagenet": "resnet50", "ddrs": "resnet18_ddrs"}


@pytest.mark.parametrize("file", ["theirs.pth.tar", "legacy.pth.tar"])
def test_logits_are_theirs(peer, file, capsys, monkeypatch, tmp_path):
    name, folder, theirs = peer
    monkeypatch.chdir(folder)
    output = tmp_path / "ours.safetensors"
    said = call(capsys, file, "--dataset", "cifar10", "--sigma", 0, "--output", output, *RIGHT[name])
    assert f"{output}: {OURS[name]}" in said
    assert "| as chosen | 100.0% | " in said
    trained = load_classifier(output)
    images = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        right, found = theirs(images), trained.model(images)
    torch.testing.assert_close(found.softmax(1) if name == "ddrs" else found, right, rtol=1e-4, atol=1e-4)
    about = trained.header.given["about"]
    assert trained.header.given["sha256"] == file_digest(folder / file)
    assert about.get("epoch") == {"cohen": 90, "imagenet": 90, "macer": 440, "ddrs": None}[name]
    assert trained.header.images is trained.header.dataset_fingerprint is None
    assert trained.header.spec["measured"]["accuracy"] == 1.0


SMALL = ModelSpec("small_cnn", SHAPE, 10)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A quick network that was trained on normalised images, saved as a state_dict, and its data."""
    folder = tmp_path_factory.mktemp("small")
    sample = make_sample((32, 32, 3), test=400)
    rng = np.random.default_rng(0)
    shades = rng.integers(0, 256, (400, 1, 1, 3))  # else all images look alike to it
    sample.images["test"][:] = np.clip(sample.images["test"] // 4 + shades * 3 // 4, 0, 255)
    images = pixels(sample)
    spec = ModelSpec("small_cnn", SHAPE, 10, Normalisation(*IMAGENET))
    classifier = build(spec, seed=3)
    with torch.no_grad():
        last = [module for module in classifier.network.modules() if isinstance(module, torch.nn.Linear)][-1]
        logits = classifier.freeze()(images)
        last.weight.div_(logits.std(0)[:, None])
        last.bias.sub_(logits.mean(0)).div_(logits.std(0))
        predict = classifier.freeze()(images).argmax(1).numpy()
    assert np.bincount(predict).max() < 200
    torch.save(classifier.network.state_dict(), folder / "theirs.pt")
    return folder, sample, predict


@pytest.fixture
def folder(small, tmp_path, monkeypatch):
    place, sample, predict = small
    shutil.copy(place / "theirs.pt", tmp_path)
    write_data(tmp_path, sample, predict)
    monkeypatch.chdir(tmp_path)
    return tmp_path


BASE = ("theirs.pt", "--dataset", "cifar10", "--sigma", "0", "--output", "ours.safetensors")


def test_a_wrong_normalisation_is_refused_and_the_right_one_named(folder, capsys):
    for wrong in ("none", "0.0,0.0,0.0/0.01,0.01,0.01"):
        said = call(capsys, *BASE, "--normalisation", wrong, ok=False)
        assert "probably wrong is the preprocessing: 'imagenet' is right on 100.0%" in said
        assert "| imagenet | 100.0% | 100.0% |" in said
    assert not (folder / "ours.safetensors").exists()
    assert "| as chosen | 100.0% | 100.0% |" in call(capsys, *BASE, "--normalisation", "imagenet")


def test_channels_in_the_other_order_are_found(folder, small, capsys):
    _, sample, predict = small
    images = sample.images["test"].copy()
    sample.images["test"][:] = images[..., ::-1]
    write_data(folder, sample, predict)
    sample.images["test"][:] = images
    said = call(capsys, *BASE, "--normalisation", "imagenet", ok=False)
    assert "probably wrong is the preprocessing: 'BGR, as chosen' is right on 100.0%" in said


def test_another_order_of_the_classes_is_found(folder, small, capsys):
    _, sample, predict = small
    order = np.roll(np.arange(10), 1)
    write_data(folder, sample, order[predict])
    said = call(capsys, *BASE, "--normalisation", "imagenet", ok=False)
    assert "probably wrong is the order of the classes: another one is right on" in said
    said = call(capsys, *BASE, "--normalisation", "none", ok=False)
    assert "the order of the classes" in said
    assert "with 'imagenet'" in said


def test_weights_that_know_nothing_of_the_data_are_refused(folder, small, capsys):
    _, sample, _ = small
    write_data(folder, sample, np.random.default_rng(5).integers(0, 10, 400))
    said = call(capsys, *BASE, ok=False)
    assert "probably wrong is the architecture, the weights or the data" in said


def test_a_known_low_accuracy_is_accepted_if_it_is_what_is_measured(folder, small, capsys):
    _, sample, predict = small
    labels = np.random.default_rng(5).integers(0, 10, 400)
    labels[:10] = predict[:10]
    write_data(folder, sample, labels)
    base = (*BASE, "--normalisation", "imagenet")
    share = (labels == predict).mean()
    assert "not the 90.0% of --accept-accuracy" in call(capsys, *base, "--accept-accuracy", "0.9", ok=False)
    call(capsys, *base, "--accept-accuracy", f"{share + 0.01}")
    measured = load_classifier("ours.safetensors").header.spec["measured"]
    assert measured["accuracy"] == pytest.approx(share)


def test_noise_of_the_training_is_measured_too(folder, capsys):
    said = call(capsys, *BASE[:4], "0.02", *BASE[5:], "--normalisation", "imagenet")
    assert "with noise of sigma 0.02" in said
    assert "As chosen, without noise: 100.0%" in said
    assert load_classifier("ours.safetensors").sigma == 0.02


def test_what_does_not_fit_is_named(folder, capsys):
    state = torch.load("theirs.pt", weights_only=True)
    first, last = next(iter(state)), list(state)[-1]
    torch.save({name: each for name, each in state.items() if name != first}, "theirs.pt")
    asked = (*BASE, "--architecture", "small_cnn")
    assert f"{first} is missing" in call(capsys, *asked, ok=False)
    torch.save(state | {"extra.weight": torch.zeros(3)}, "theirs.pt")
    assert "extra.weight is left over" in call(capsys, *asked, ok=False)
    torch.save(state | {last: torch.zeros(11)}, "theirs.pt")
    assert f"{last} is [11], must be [10]" in call(capsys, *asked, ok=False)
    said = call(capsys, *BASE, ok=False)
    assert "theirs.pt: " in said
    assert "of none of lenet, mlp, resnet110" in said


def test_a_prefix_is_taken_away(folder, capsys):
    state = torch.load("theirs.pt", weights_only=True)
    torch.save({f"student.{name}": each for name, each in state.items()} | {"teacher.x": torch.zeros(1)}, "theirs.pt")
    base = (*BASE, "--normalisation", "imagenet")
    assert "of none of" in call(capsys, *base, ok=False)
    call(capsys, *base, "--prefix", "student.")


def test_a_first_layer_with_its_statistics_is_the_normalisation(folder, capsys):
    state = torch.load("theirs.pt", weights_only=True)
    layer = {"0.means": torch.tensor(IMAGENET[0]), "0.sds": torch.tensor(IMAGENET[1]).view(3, 1, 1)}
    torch.save({f"1.{name}": each for name, each in state.items()} | layer, "theirs.pt")
    call(capsys, *BASE)
    found = load_classifier("ours.safetensors").header.model.normalisation
    assert found.std == pytest.approx(IMAGENET[1])


def test_an_architecture_of_another_program_must_be_trusted(folder, capsys):
    (folder / "models").mkdir()
    (folder / "models" / "mine.py").write_text("raise SystemExit\n")
    said = call(capsys, *BASE, "--architecture", json.dumps({"import": "models.mine:build"}), ok=False)
    assert "add 'models' to the list `trusted` of params.yaml" in said
    said = call(capsys, *BASE, "--architecture", json.dumps({"torchvision": "resnet18"}), ok=False)
    assert "theirs.pt: torchvision resnet18: tensors do not fit" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--normalisation", "cifar"], "--normalisation: 'cifar'; must be none, cifar10, imagenet, or means/stds"),
        (["--normalisation", "0.5,0.5/0.5,0.5"], "normalisation: 2 channels"),
        (["--architecture", "resnet21"], "did you mean"),
        (["--architecture", "{"], "--architecture: '{'"),
        (["--dataset", "cifar11"], "--dataset: unknown 'cifar11'; did you mean 'cifar10'"),
        (["--sigma", "-1"], "--sigma: -1.0; must be"),
        (["--accept-accuracy", "42"], "--accept-accuracy: 42.0; must be"),
    ],
)
def test_a_wrong_option_is_named(folder, capsys, options, said):
    assert said in call(capsys, *BASE, *options, ok=False)
