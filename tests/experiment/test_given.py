"""A training that is given: the checkpoint of somebody else's classifier is a base classifier as any other."""

from __future__ import annotations

import json

import pytest
import torch

from certsmooth._internal.external import ExternalArchitecture
from certsmooth._internal.storage import file_digest
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.trained import load_classifier
from certsmooth.errors import ConfigError
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params
from certsmooth.experiment.labels import labels_of
from certsmooth.experiment.members import check_members
from certsmooth.experiment.plan import _Measured, jobs
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import ModelRun
from certsmooth.science.models import ModelSpec, Normalisation, build
from factories import changed, checkpoint_header, small_content, write_params

SHAPE = (1, 8, 8)
PEER = "digits/peer/sigma=0.25/seed=0/default"


def content(given="peer{sigma}.safetensors", **more):
    """The small configuration with a row that others trained, in the tables of every kind."""
    whole = small_content() | {"high_dimension": None}
    whole["trainings"]["peer"] = {"given": given, **more}
    whole["methods"]["peers"] = {**whole["methods"]["cohen"], "label": "Theirs", "training": "peer"}
    for name in ("table1", "empirical", "promises"):
        whole["tables"][name]["methods"].append("peers")
    return whole


def write_peer(path, model=None, seed=5, **header):
    model = model or ModelSpec("resnet20", SHAPE, 10, Normalisation((0.25,), (0.5,)))
    classifier = build(model, seed=seed)
    about = {"sigma": 0.0, "dataset_fingerprint": None, "images": None, "images_fingerprint": None, "device": None}
    checkpoint.save(path, classifier, checkpoint_header(model, **about | header))
    return classifier


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, content(architecture="resnet20"))
    assert main(["data", "digits"]) == 0
    return tmp_path


def refused(capsys, *command):
    assert main(list(command)) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_it_is_certified_like_one_that_was_trained_here(folder):
    theirs = write_peer(folder / "peer0.25.safetensors")
    assert main(["check"]) == 0
    assert main(["train", PEER]) == 0
    path = folder / "results" / "checkpoints" / PEER / "model.safetensors"
    taken = load_classifier(path)
    images = torch.rand(7, *SHAPE)
    assert torch.equal(taken.model(images), theirs.freeze()(images))
    spec = Experiment(parse_params(content(architecture="resnet20"))).train(ModelRun("digits", "peer", 0.25, 0, ()))
    assert taken.header.spec == spec.identity
    assert (taken.sigma, taken.pixel_range) == (0.25, (0.0, 1.0))
    assert taken.header.given["sha256"] == file_digest(folder / "peer0.25.safetensors")
    assert taken.header.given["spec"] == {"data": {"dataset": "digits"}, "seed": 3}
    assert main(["sample", "digits/peers/seed=0"]) == 0
    assert main(["certify", "digits/peers/seed=0"]) == 0
    (part, *_) = read_certificates(folder / "results" / "certificates" / "digits" / "peers" / "seed=0.parquet")
    assert part.spec["sampled"]["base"] == spec.identity
    before = path.read_bytes()
    assert main(["train", PEER]) == 0
    assert path.read_bytes() == before


@pytest.mark.slow
def test_its_arithmetic_is_that_of_the_data_set_and_its_normalisation_its_own(folder):
    write_peer(folder / "peer0.25.safetensors")
    write_params(folder, changed(content(architecture="resnet20"), "datasets.digits.numeric_type", "bfloat16"))
    assert main(["train", PEER]) == 0
    model = load_classifier(folder / "results" / "checkpoints" / PEER / "model.safetensors").header.model
    assert (model.numeric_type, model.normalisation) == ("bfloat16", Normalisation((0.25,), (0.5,)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "header", "said"),
    [
        (ModelSpec("small_cnn", SHAPE, 10), {}, "architecture is 'small_cnn'; must be 'resnet20'"),
        (ModelSpec("resnet20", (1, 9, 9), 10), {}, "image_shape is (1, 9, 9); must be (1, 8, 8)"),
        (ModelSpec("resnet20", SHAPE, 9), {}, "num_classes is 9; must be 10"),
        (None, {"pixel_range": None}, "pixel_range is None; must be (0.0, 1.0)"),
    ],
)
def test_one_for_other_images_is_refused(folder, capsys, model, header, said):
    write_peer(folder / "peer0.25.safetensors", model, **header)
    assert said in refused(capsys, "train", PEER)
    if model is not None:
        assert f"trainings.peer.given: peer0.25.safetensors: {said}" in refused(capsys, "check")


@pytest.mark.slow
def test_a_file_that_is_missing_or_damaged_is_named(folder, capsys):
    assert "trainings.peer.given: 'peer0.25.safetensors'; no such file" in refused(capsys, "check")
    assert "peer0.25.safetensors: cannot be read" in refused(capsys, "train", PEER)
    write_peer(folder / "peer0.25.safetensors")
    whole = (folder / "peer0.25.safetensors").read_bytes()
    (folder / "peer0.25.safetensors").write_bytes(whole[:-1])
    assert "peer0.25.safetensors: truncated or altered" in refused(capsys, "train", PEER)
    assert not list((folder / "results" / "checkpoints").rglob("*.safetensors"))


@pytest.mark.slow
def test_a_plan_counts_nothing_for_it(folder):
    experiment = Experiment(parse_params(content()))
    measured = _Measured(experiment, folder / "results", folder / "logs")
    hours = {
        job.parts[0]["training"]: measured.about(job, 8.0)["hours"] for job in jobs(experiment) if job.rule == "train"
    }
    assert hours["peer"] == 0.0
    assert hours["gaussian"] is None  # not measured


def test_the_name_of_its_file_has_sigma_and_seed():
    params = parse_params(content("a/{sigma:.2f}/{seed}.safetensors"))
    found = [Experiment(params).train(ModelRun("digits", "peer", sigma, 3, ())).given for sigma in (0.5, 0.25)]
    assert found == ["a/0.50/3.safetensors", "a/0.25/3.safetensors"]


def test_its_identity_is_not_where_it_lies_and_its_architecture_is_its_own():
    runs = ModelRun("digits", "peer", 0.25, 0, ())
    one, other = (Experiment(parse_params(content(name))).train(runs) for name in ("one", "other"))
    assert one.identity == other.identity
    assert one.architecture == "mlp"
    assert (one.objective, one.policy, one.noise, one.identity["recipe"]) == (None, None, None, {})
    network = {"torchvision": "resnet18"}
    third = Experiment(parse_params(content(architecture=network))).train(runs)
    assert third.architecture == ExternalArchitecture("torchvision", "resnet18")
    json.dumps(third.identity)


def test_what_was_trained_here_is_what_it_was():
    whole = Experiment(parse_params(content())).train(ModelRun("digits", "gaussian", 0.25, 0, ())).identity
    assert not {"given", "trusted"} & whole.keys()
    assert whole["objective"] == {"name": "gaussian", "options": {}}


def test_tables_say_how_it_was_trained_if_anybody_knows():
    assert labels_of(parse_params(content()), "peers")[0] == "unknown"
    assert labels_of(parse_params(content(train="FS")), "peers")[0] == "FS"


def test_another_training_can_start_from_it_or_learn_from_it():
    whole = content()
    whole["trainings"]["continued"] |= {"start": {"training": "peer"}, "teacher": "peer"}
    spec = Experiment(parse_params(whole)).train(ModelRun("digits", "continued", 0.25, 0, ()))
    assert spec.start.given == spec.labels.teacher.given == "peer0.25.safetensors"


def test_one_file_does_not_pass_for_several_seeds():
    seeds = changed(content(), "training_seeds", [0, 1])
    with pytest.raises(
        ConfigError, match=r"trainings\.peer\.given: 'peer{sigma}\.safetensors' is one checkpoint, .* 0, 1"
    ):
        check_members(parse_params(seeds))
    seeds["trainings"]["peer"]["given"] = "peer{sigma}-{seed}.safetensors"
    check_members(parse_params(seeds))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("trainings.peer.given", "a{n}", r"trainings\.peer\.given: 'a{n}'; must be a path"),
        ("trainings.peer.given", "--output=x", r"trainings\.peer\.given: .*; must be a path"),
        ("trainings.peer.objective", {"name": "gaussian"}, r"unknown key trainings\.peer\.objective"),
        ("trainings.peer.architecture", "resnet21", r"trainings\.peer\.architecture: unknown 'resnet21'"),
        ("trainings.peer.architecture", {"tim": "x"}, r"trainings\.peer\.architecture: unknown key 'tim'"),
        (
            "trainings.peer.architecture",
            {"import": "a.b:c"},
            r"trainings\.peer\.architecture: .*'a' to the list `trusted`",
        ),
        ("trainings.gaussian.objektive", {}, r"unknown key trainings\.gaussian\.objektive; did you mean 'objective'"),
        ("datasets.digits.trainings.peer", {}, r"datasets\.digits\.trainings: unknown 'peer'"),
    ],
)
def test_what_is_wrong_is_named(key, value, said):
    with pytest.raises(ConfigError, match=said):
        parse_params(changed(content(), key, value))
