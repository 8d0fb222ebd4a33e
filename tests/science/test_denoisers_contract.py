"""What every denoiser does, and what a classifier behind one is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from certsmooth._internal.registry import member, names
from certsmooth.artefacts import checkpoint
from certsmooth.errors import CheckpointError, ConfigError
from certsmooth.science.datasets import array_split
from certsmooth.science.models import DenoiserSpec, ModelSpec, Normalisation, build
from certsmooth.science.training.loop import train
from certsmooth.science.training.recipe import Recipe
from factories.artefacts import checkpoint_header

SHAPE, CLASSES = (3, 8, 8), 4
PLAIN = ModelSpec("resnet20", SHAPE, CLASSES, Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
DENOISERS = names("denoisers")


def spec(name: str, **options: object) -> ModelSpec:
    return ModelSpec("resnet20", SHAPE, CLASSES, PLAIN.normalisation, denoiser=DenoiserSpec(name), **options)


def images(number: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> torch.Tensor:
    return torch.rand((number, *shape), generator=torch.Generator().manual_seed(seed))


def used(model: ModelSpec, seed: int = 0) -> nn.Module:
    """A classifier whose batch statistics are not the initial ones."""
    classifier = build(model, seed=seed)
    with torch.no_grad():
        for _ in range(3):
            classifier(images(8))
    return classifier


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 5, 9)])
@pytest.mark.parametrize("name", DENOISERS)
def test_images_of_a_shape_come_out_in_that_shape_each_by_itself(name, shape):
    torch.manual_seed(0)
    network = member("denoisers", name)().build(shape).eval()
    noisy = images(4, shape)
    with torch.no_grad():
        clean = network(noisy)
        assert clean.shape == noisy.shape
        assert clean.isfinite().all()
        torch.testing.assert_close(network(noisy[1:2])[0], clean[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", DENOISERS)
def test_what_is_no_image_is_refused(name):
    denoiser = member("denoisers", name)()
    for refuse in (denoiser.check_shape, denoiser.build):
        with pytest.raises(ConfigError, match=r"image_shape.*\(5,\)"):
            refuse((5,))


@pytest.mark.parametrize("name", DENOISERS)
def test_it_can_learn_to_denoise(name):
    """A constant image is found again below the noise by a few steps of the squared error."""
    torch.manual_seed(0)
    network = member("denoisers", name)().build((1, 8, 8))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(150):
        clean = torch.rand(16, 1, 1, 1).expand(16, 1, 8, 8)
        loss = (network(clean + 0.3 * torch.randn(16, 1, 8, 8)) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3**2 / 3


@pytest.mark.parametrize("name", DENOISERS)
def test_logits_are_those_of_the_classifier_at_the_denoised_image(name):
    model = used(spec(name)).eval()
    plain = build(PLAIN, seed=5)
    plain.network.load_state_dict(model.network.classifier.state_dict())
    noisy = images(3)
    with torch.no_grad():
        expected = plain.eval()(model.network.denoiser(noisy))
        torch.testing.assert_close(model(noisy), expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(model(noisy), plain(noisy), atol=1e-3)  # the denoiser does something


@pytest.mark.parametrize("name", DENOISERS)
def test_training_changes_the_denoiser_and_nothing_of_the_classifier(name):
    model = used(spec(name))
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    pixels = np.random.default_rng(0).integers(0, 256, (24, *SHAPE), dtype=np.uint8)
    split = array_split(pixels, np.arange(24) % CLASSES, name="made", num_classes=CLASSES)
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.01, weight_decay=0.1)
    train(model, split, sigma=0.25, recipe=recipe, seed=0)
    after = model.network.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if key.startswith("denoiser.")}


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("numeric_type", ["float32", "bfloat16"])
def test_a_checkpoint_holds_both(name, numeric_type, tmp_path):
    model = used(spec(name, numeric_type=numeric_type, channels_last=True))
    checkpoint.save(tmp_path / "model", model, checkpoint_header(model.spec))
    loaded, header = checkpoint.load(tmp_path / "model")
    assert header.model == model.spec
    assert torch.equal(loaded(images(3)), model.freeze()(images(3)))


@pytest.mark.parametrize("name", DENOISERS)
def test_it_starts_in_front_of_a_classifier_without_one(name, tmp_path):
    plain = used(PLAIN, seed=1)
    checkpoint.save(tmp_path / "model", plain, checkpoint_header(PLAIN))
    model = build(spec(name), seed=2)
    denoiser = {key: value.clone() for key, value in model.network.denoiser.state_dict().items()}
    checkpoint.start_from(tmp_path / "model", model)
    behind = model.network.classifier.state_dict()
    assert all(torch.equal(value, behind[key]) for key, value in plain.network.state_dict().items())
    assert all(torch.equal(value, denoiser[key]) for key, value in model.network.denoiser.state_dict().items())


def test_what_stays_behind_a_denoiser_must_have_its_normalisation(tmp_path):
    checkpoint.save(tmp_path / "model", build(PLAIN, seed=0), checkpoint_header(PLAIN))
    other = dataclasses.replace(spec(DENOISERS[0]), normalisation=None)
    with pytest.raises(CheckpointError, match=r"normalisation is Normalisation\(.*must have None"):
        checkpoint.start_from(tmp_path / "model", build(other, seed=0))


def test_a_denoiser_is_no_start_for_a_classifier_without_one(tmp_path):
    model = build(spec(DENOISERS[0]), seed=0)
    checkpoint.save(tmp_path / "model", model, checkpoint_header(model.spec))
    with pytest.raises(CheckpointError, match="denoiser"):
        checkpoint.start_from(tmp_path / "model", build(PLAIN, seed=0))


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        ({"name": "dncn"}, r"denoiser: unknown 'dncn'.*dncnn"),
        ({"name": "dncnn", "options": {"layers": 1}}, r"layers: 1; must be.*2"),
        ({"name": "dncnn", "options": {"depth": 3}}, r"unknown option 'depth'"),
    ],
)
def test_errors_name_the_option(denoiser, message):
    with pytest.raises(ConfigError, match=message):
        build(ModelSpec("resnet20", SHAPE, CLASSES, denoiser=DenoiserSpec(**denoiser)), seed=0)
