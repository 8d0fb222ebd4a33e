"""What every architecture must do, whichever it is."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from certsmooth._internal.registry import function, names
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.provenance import MadeBy
from certsmooth.errors import ConfigError
from certsmooth.science import models
from certsmooth.science.models import BaseClassifier, ModelSpec, Normalisation, build, check_shape

CLASSES = 5
MODELS = names("models")


@cache
def image_shape(name: str) -> tuple[int, ...]:
    for shape in ((2,), (1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32)):
        try:
            function("models", name, "build")(shape, CLASSES)
        except ConfigError:
            continue
        return shape
    raise AssertionError(f"{name} takes no shape that these tests know")


def spec(name: str, **options: object) -> ModelSpec:
    shape = image_shape(name)
    half = (0.5,) * shape[0]
    return ModelSpec(name, shape, CLASSES, Normalisation(half, half), **options)


def images(name: str, number: int = 3) -> torch.Tensor:
    return torch.rand((number, *image_shape(name)), generator=torch.Generator().manual_seed(1))


@cache
def used(name: str) -> BaseClassifier:
    """A classifier whose batch statistics are not the initial ones."""
    classifier = build(spec(name), seed=0)
    with torch.no_grad():
        for _ in range(3):
            classifier(images(name, 8))
    return classifier


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_finite_float32_one_per_class_and_differ_between_images(name):
    logits = used(name).freeze()(images(name))
    assert logits.shape == (3, CLASSES)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[1], logits[2])


@pytest.mark.parametrize("name", MODELS)
def test_frozen_classifier_has_gradients_for_images_and_none_for_weights(name):
    frozen = used(name).freeze()
    inputs = images(name).requires_grad_()
    frozen(inputs).logsumexp(dim=1).sum().backward()
    assert inputs.grad.isfinite().all()
    assert (inputs.grad.flatten(1) != 0).any(dim=1).all()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_takes_part(name):
    classifier = build(spec(name), seed=0)
    targets = torch.arange(3) % CLASSES
    torch.nn.functional.cross_entropy(classifier(images(name)), targets).backward()
    for key, parameter in classifier.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", MODELS)
def test_initial_weights_are_a_function_of_the_seed_and_global_randomness_is_untouched(name):
    # The numbers that follow, not the bytes of the state: some of those are padding, which nobody sets.
    torch.manual_seed(7)
    expected = torch.rand(1000), torch.randn(1000)
    torch.manual_seed(7)
    first = build(spec(name), seed=3).state_dict()
    assert all(torch.equal(draw(1000), each) for draw, each in zip((torch.rand, torch.randn), expected, strict=True))
    torch.manual_seed(8)
    again, other = (build(spec(name), seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", MODELS)
def test_an_image_in_a_batch_gives_the_logits_that_it_gives_alone(name):
    frozen = used(name).freeze()
    with torch.no_grad():
        together = frozen(images(name))
        alone = torch.cat([frozen(image[None]) for image in images(name)])
    assert float((together - alone).abs().max()) <= 1e-4 * float(alone.abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_gives_back_the_very_program(tmp_path, name):
    # Of the numeric types, the one with most to lose: weights are stored in float32 and rounded when loaded.
    numeric_type = "bfloat16" if sum(p.numel() for p in used(name).parameters()) < 2_000_000 else "float32"
    declared = spec(name, numeric_type=numeric_type, channels_last=len(image_shape(name)) == 3)
    classifier = BaseClassifier(declared, used(name).network)
    header = checkpoint.CheckpointHeader(
        model=declared,
        spec={"data": {"dataset": "digits"}, "seed": 0},
        dataset_fingerprint="sha256:0",
        pixel_range=(0.0, 1.0),
        sigma=0.25,
        images=100,
        images_fingerprint="sha256:1",
        device="cpu",
        made_by=MadeBy(versions={}, git_commit=None, image=None),
    )
    checkpoint.save(tmp_path / "model.safetensors", classifier, header)
    loaded, _ = checkpoint.load(tmp_path / "model.safetensors")
    served = classifier.freeze()
    served.network.to(memory_format=torch.channels_last if declared.channels_last else torch.preserve_format)
    with torch.no_grad():
        assert torch.equal(loaded(images(name)), served(images(name)))


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_near_float32_and_not_equal(name):
    exact = used(name).freeze()
    rounded = BaseClassifier(spec(name, numeric_type="bfloat16"), used(name).network).freeze()
    with torch.no_grad():
        expected, found = exact(images(name)), rounded(images(name))
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert float((found - expected).abs().max()) <= 0.1 * float(expected.abs().max())


SHAPES = ((2,), (1, 1, 2), (1, 7, 8), (1, 8, 8), (1, 28, 28), (3, 28, 29), (3, 31, 32), (3, 32, 32), (4, 32, 32))


def is_taken(check, spec: ModelSpec) -> bool:
    try:
        check(spec)
    except ConfigError as error:
        assert str(error).startswith(f"image_shape: {spec.architecture} takes (")
        return False
    return True


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_which_images_are_taken_is_known_whether_the_file_says_it_or_not(name, says, monkeypatch):
    """A file that says nothing is of an architecture that somebody added: it is built to find out."""
    specs = [ModelSpec(name, shape, CLASSES) for shape in SHAPES]
    taken = [is_taken(lambda spec: build(spec, seed=0), spec) for spec in specs]
    if not says:
        monkeypatch.setattr(models, "literal", lambda *args, default: default)
    assert [is_taken(check_shape, spec) for spec in specs] == taken
