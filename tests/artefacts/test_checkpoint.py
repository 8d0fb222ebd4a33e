"""Checkpoints come back bit for bit, or are refused by name."""

from __future__ import annotations

import dataclasses
import json
import pickle
import resource
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import certsmooth.science.models
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.checkpoint import load, save, start_from
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.provenance import Image
from certsmooth.errors import CheckpointError, ConfigError
from certsmooth.science.models import BaseClassifier, ModelSpec, Normalisation, build
from factories import DIGEST, checkpoint_header, made_by

SPEC = ModelSpec("mlp", (2,), 3, Normalisation((0.0, 0.5), (1.0, 2.0)))
TRAINED = {
    "data": {"dataset": "cones", "seed": 0},
    "training": "gaussian",
    "sigma": 0.25,
    "seed": 7,
    "objective": {"name": "gaussian", "options": {}},
    "recipe": {"epochs": 3, "milestones": [1, 2]},
}
IMAGE = Image(commit="0" * 40, definition=DIGEST, packages={"debian:libc6": "2.36"})
HEADER = checkpoint_header(SPEC, spec=TRAINED, pixel_range=None, made_by=made_by(image=IMAGE))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save(path, build(SPEC, seed=1), HEADER)
    return path


def refused(path: Path, content: bytes, *parts: str) -> None:
    path.unlink(missing_ok=True)  # much faster than to overwrite it
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)


def test_header_and_logits_come_back_exactly(saved):
    classifier, header = load(saved)
    assert header == HEADER
    points = torch.randn(50, 2)
    assert torch.equal(classifier(points), build(SPEC, seed=1).freeze()(points))
    assert classifier.frozen
    assert classifier.spec == SPEC


def test_equal_content_gives_equal_bytes_whatever_the_order_or_the_memory_format(tmp_path):
    spec = ModelSpec("small_cnn", (3, 8, 8), 4)
    header = dataclasses.replace(HEADER, model=spec)
    backwards = dataclasses.replace(header, spec=dict(reversed(header.spec.items())))
    first, second = build(spec, seed=0), build(spec, seed=0)
    second.network.to(memory_format=torch.channels_last)
    save(tmp_path / "first", first, header)
    save(tmp_path / "second", second, backwards)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    save(tmp_path / "third", build(spec, seed=1), header)
    assert (tmp_path / "first").read_bytes() != (tmp_path / "third").read_bytes()


def test_header_is_open_to_any_reader_of_safetensors(saved):
    with safetensors.safe_open(saved, framework="pt") as file:
        record = json.loads(file.metadata()["certsmooth"])
    assert record["spec"] == TRAINED
    assert record["model"]["architecture"] == "mlp"


def test_training_can_go_on_from_the_master_weights(tmp_path):
    spec = dataclasses.replace(SPEC, numeric_type="bfloat16")
    original = build(spec, seed=1)
    save(tmp_path / "model", original, dataclasses.replace(HEADER, model=spec))
    classifier, _ = load(tmp_path / "model", trainable=True)
    assert classifier.training
    assert not classifier.frozen
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    for name, tensor in original.network.state_dict().items():
        assert torch.equal(classifier.network.state_dict()[name], tensor)


def test_a_frozen_bfloat16_classifier_is_saved_as_what_it_computes(tmp_path):
    spec = dataclasses.replace(SPEC, numeric_type="bfloat16")
    frozen = build(spec, seed=1).freeze()
    save(tmp_path / "model", frozen, dataclasses.replace(HEADER, model=spec))
    points = torch.randn(50, 2)
    assert torch.equal(load(tmp_path / "model")[0](points), frozen(points))


def test_every_single_byte_is_covered(saved, tmp_path):
    content, path = saved.read_bytes(), tmp_path / "altered"
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 0x01
        refused(path, bytes(altered))


@given(data=st.data())
def test_any_change_of_a_byte_is_refused(saved, tmp_path_factory, data):
    content = bytearray(saved.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    refused(tmp_path_factory.getbasetemp() / "altered", bytes(content))


def test_a_file_cut_anywhere_or_with_bytes_appended_is_refused(saved, tmp_path):
    content = saved.read_bytes()
    header_end = 8 + int.from_bytes(content[:8], "little")
    for length in {*range(0, len(content), 101), 7, 8, 9, header_end - 1, header_end, len(content) - 1}:
        refused(tmp_path / "cut", content[:length], "truncated")
    refused(tmp_path / "longer", content + b"\0", "altered")


class Payload:
    """Unpickling this writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.write_text, (self.target, "unpickled"))


@pytest.mark.parametrize("write", [lambda x, p: p.write_bytes(pickle.dumps(x)), torch.save])
def test_pickle_files_are_refused_and_never_unpickled(tmp_path, write):
    path = tmp_path / "model.pt"
    write(Payload(tmp_path / "harm"), path)
    refused(path, path.read_bytes(), "not 'checkpoint 3'")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"certsmooth": "1"}, {"certsmooth": "{"}])
def test_foreign_safetensors_files_are_refused(tmp_path, metadata):
    content = safetensors.torch.save(build(SPEC, seed=1).network.state_dict(), metadata=metadata)
    refused(tmp_path / "foreign", content, "not 'checkpoint 3'")


@pytest.mark.parametrize("content", [b"", b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}", b"a,b\n1,2\n" * 9])
def test_other_files_are_refused(tmp_path, content):
    refused(tmp_path / "foreign", content, "not 'checkpoint 3'")


def test_another_format_version_is_named(tmp_path, monkeypatch):
    path = tmp_path / "model"
    monkeypatch.setattr(checkpoint, "FORM", Form("checkpoint 2", "train again", CheckpointError))
    save(path, build(SPEC, seed=1), HEADER)
    monkeypatch.undo()
    refused(path, path.read_bytes(), "holds 'checkpoint 2'; must be 'checkpoint 3'")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent.*No such file"):
        load(tmp_path / "absent")


def with_integer_bias() -> nn.Module:
    network = build(SPEC, seed=0).network
    del network[5].bias
    network[5].register_buffer("bias", torch.zeros(3, dtype=torch.int64))
    return network


@pytest.mark.parametrize(
    ("network", "parts"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(2, 3)), ("tensors.3.weight is nothing; must be", "and 3 more entries")),
        (
            nn.Sequential(*build(SPEC, seed=0).network, nn.Linear(3, 3)),
            ("tensors.6.bias is", "must be nothing"),
        ),
        (
            build(ModelSpec("mlp", (2,), 4), seed=0).network,
            ("5.bias", "(4,)", "(3,)"),
        ),
        (with_integer_bias(), ("5.bias", "torch.int64", "torch.float32")),
    ],
)
def test_tensors_that_do_not_fit_the_architecture_are_named(tmp_path, network, parts):
    path = tmp_path / "model"
    save(path, BaseClassifier(SPEC, network), HEADER)
    refused(path, path.read_bytes(), *parts)


def test_a_shape_that_the_architecture_does_not_take_is_named(tmp_path):
    path, spec = tmp_path / "model", ModelSpec("lenet", (1, 8, 8), 3)
    save(path, BaseClassifier(spec, nn.Linear(2, 3)), dataclasses.replace(HEADER, model=spec))
    refused(path, path.read_bytes(), "image_shape", "28x28", "(1, 8, 8)")


def test_an_architecture_that_this_version_lacks_is_named(tmp_path, monkeypatch):
    path = tmp_path / "model"
    monkeypatch.setattr(certsmooth.science.models, "names", lambda family: ("mine", "mlp"))
    spec = ModelSpec("mine", (2,), 3)
    save(path, BaseClassifier(spec, nn.Linear(2, 3)), dataclasses.replace(HEADER, model=spec))
    monkeypatch.undo()
    refused(path, path.read_bytes(), "architecture", "'mine'", "small_cnn")


MODEL = json.loads(json.dumps(dataclasses.asdict(SPEC)))


@pytest.mark.parametrize(
    ("field", "right", "change", "words"),
    [
        ("spec", TRAINED, {"seed": 8}, "spec.seed is 7; must be 8;"),
        ("spec", TRAINED, {"sigma": 0.5}, "spec.sigma is 0.25; must be 0.5;"),
        ("spec", TRAINED, {"training": "standard"}, "spec.training is 'gaussian'; must be 'standard';"),
        (
            "spec",
            TRAINED,
            {"data": {"dataset": "digits", "seed": 0}},
            "spec.data.dataset is 'cones'; must be 'digits';",
        ),
        (
            "spec",
            TRAINED,
            {"recipe": {"epochs": 3, "milestones": [1]}},
            "spec.recipe.milestones is [1, 2]; must be [1];",
        ),
        ("spec", TRAINED, {"recipe": {"epochs": 3}}, "spec.recipe.milestones is [1, 2]; must be nothing;"),
        ("spec", TRAINED, {"noise": "uniform"}, "spec.noise is nothing; must be 'uniform';"),
        ("dataset_fingerprint", HEADER.dataset_fingerprint, "sha256:0", "dataset_fingerprint is 'sha256:abab"),
        ("sigma", 0.25, 0.5, "sigma is 0.25; must be 0.5;"),
        ("images", 100, 50, "images is 100; must be 50;"),
        ("pixel_range", None, (0.0, 1.0), "pixel_range is None; must be [0.0, 1.0];"),
        ("model", MODEL, {"image_shape": (1, 8, 8)}, "model.image_shape is [2]; must be [1, 8, 8];"),
        ("model", MODEL, {"num_classes": 10}, "model.num_classes is 3; must be 10;"),
        ("model", MODEL, {"architecture": "lenet"}, "model.architecture is 'mlp'; must be 'lenet';"),
        ("model", MODEL, {"numeric_type": "tf32"}, "model.numeric_type is 'float32'; must be 'tf32';"),
        (
            "model",
            MODEL,
            {"normalisation": None},
            "model.normalisation is {'mean': [0.0, 0.5], 'std': [1.0, 2.0]}",
        ),
    ],
)
def test_a_checkpoint_made_for_something_else_is_refused_by_entry(saved, field, right, change, words):
    load(saved, expect={field: right})
    wrong = {**right, **change} if isinstance(right, dict) else change
    with pytest.raises(CheckpointError) as caught:
        load(saved, expect={"device": "cpu", field: wrong})
    message = str(caught.value)
    assert message.startswith(f"{saved}: {words}")
    assert message.endswith("; train again")
    assert "device" not in message


def test_all_entries_that_differ_are_named_with_both_values(saved):
    words = r"spec\.seed is 7; must be 8; sigma is 0\.25; must be 0\.5; train again"
    with pytest.raises(CheckpointError, match=words):
        load(saved, expect={"spec": TRAINED | {"seed": 8}, "sigma": 0.5})


def test_an_entry_that_no_header_has_is_refused(saved):
    with pytest.raises(CheckpointError, match="dataset_fingerprnt is nothing; must be 'sha256:'"):
        load(saved, expect={"dataset_fingerprnt": "sha256:"})


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_header_refuses_a_sigma_that_is_none(sigma):
    with pytest.raises(ConfigError, match="sigma"):
        dataclasses.replace(HEADER, sigma=sigma)


def test_saving_under_the_header_of_another_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="numeric_type='tf32'"):
        save(
            tmp_path / "model",
            build(SPEC, seed=1),
            dataclasses.replace(HEADER, model=ModelSpec("mlp", (2,), 3, numeric_type="tf32")),
        )
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("value", [object(), float("nan")])
def test_a_header_that_json_cannot_hold_is_refused(tmp_path, value):
    with pytest.raises(CheckpointError, match="JSON"):
        save(tmp_path / "model", build(SPEC, seed=1), dataclasses.replace(HEADER, spec={"lr": value}))
    assert not (tmp_path / "model").exists()


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "model"
    save(path, build(SPEC, seed=1), HEADER)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=str(path)):
            save(path, build(SPEC, seed=2), HEADER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def cnn(**changes):
    return dataclasses.replace(ModelSpec("small_cnn", (1, 8, 8), 4), **changes)


def saved_as(path, spec):
    save(path, build(spec, seed=1), dataclasses.replace(HEADER, model=spec))
    return path


def test_a_start_has_the_weights_of_the_checkpoint_whatever_normalisation_and_arithmetic(tmp_path):
    path = saved_as(tmp_path / "m.safetensors", cnn())
    classifier = build(cnn(normalisation=Normalisation((0.5,), (2.0,)), numeric_type="bfloat16"), seed=2)
    assert start_from(path, classifier, expect={"spec": TRAINED}).spec == TRAINED
    stored = build(cnn(), seed=1).network.state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in classifier.network.state_dict().items())
    assert classifier.training
    assert classifier.spec.normalisation == Normalisation((0.5,), (2.0,))


def test_a_start_with_other_classes_keeps_the_fresh_last_layer(tmp_path):
    path = saved_as(tmp_path / "m.safetensors", cnn(num_classes=100))
    classifier = build(cnn(), seed=2)
    start_from(path, classifier)
    fresh, stored = (build(spec, seed=seed).network.state_dict() for spec, seed in ((cnn(), 2), (cnn(), 1)))
    taken = [name for name, tensor in classifier.network.state_dict().items() if torch.equal(tensor, stored[name])]
    kept = [name for name, tensor in classifier.network.state_dict().items() if torch.equal(tensor, fresh[name])]
    shaped = {
        n for n, t in build(cnn(num_classes=100), seed=0).network.state_dict().items() if t.shape != fresh[n].shape
    }
    assert shaped <= set(kept)
    assert set(fresh) - shaped <= set(taken)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ModelSpec("resnet20", (1, 8, 8), 4), ["architecture is 'resnet20'", "'small_cnn'"]),
        (cnn(image_shape=(3, 8, 8)), ["image_shape is (3, 8, 8)", "(1, 8, 8)"]),
    ],
)
def test_a_start_of_another_architecture_or_shape_is_refused(tmp_path, spec, words):
    path = saved_as(tmp_path / "m.safetensors", spec)
    classifier = build(cnn(), seed=2)
    before = {name: tensor.clone() for name, tensor in classifier.network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        start_from(path, classifier)
    for word in (str(path), *words):
        assert word in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.network.state_dict().items())


def test_a_start_that_was_trained_otherwise_is_refused(tmp_path):
    path = saved_as(tmp_path / "m.safetensors", cnn())
    classifier = build(cnn(), seed=2)
    before = {name: tensor.clone() for name, tensor in classifier.network.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"{path}: spec\.training is 'gaussian'; must be 'standard'; "):
        start_from(path, classifier, expect={"spec": TRAINED | {"training": "standard"}})
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.network.state_dict().items())


@pytest.mark.parametrize("images", [0, -1])
def test_header_refuses_a_training_on_no_images(images):
    with pytest.raises(ConfigError, match=f"images: {images}; must be"):
        dataclasses.replace(HEADER, images=images)
