"""A trained classifier from its checkpoint."""

from __future__ import annotations

import pytest
import torch

from certsmooth import SmoothedClassifier, load_classifier
from certsmooth.errors import CheckpointError, ConfigError
from certsmooth.science.models import ModelSpec, build
from factories import save_classifier


@pytest.fixture
def path(tmp_path):
    return save_classifier(tmp_path / "model.safetensors", ModelSpec("mlp", (1, 8, 8), 10), seed=1)


def test_what_a_checkpoint_holds(path):
    trained = load_classifier(path)
    assert (trained.num_classes, trained.sigma, trained.pixel_range) == (10, 0.25, (0.0, 1.0))
    assert trained.header.spec == {"data": {"dataset": "digits"}, "seed": 3}
    assert trained.model.frozen
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    served = build(trained.header.model, seed=1).freeze()
    assert torch.equal(trained.model(images), served(images))
    smoothed = SmoothedClassifier(trained.model, trained.num_classes, trained.sigma)
    assert smoothed.predict(images, n=50, seed=0).shape == (5,)


def test_it_is_no_model_itself_and_the_message_says_what_is(path):
    with pytest.raises(
        ConfigError, match=r"^model: a TrainedClassifier; must be a torch module, .* such as its \.model$"
    ):
        SmoothedClassifier(load_classifier(path), 10, 0.25)


def test_the_path_may_be_text(path):
    assert load_classifier(str(path)).sigma == 0.25


def test_a_damaged_or_missing_checkpoint_is_named(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: truncated or altered"):
        load_classifier(path)
    with pytest.raises(CheckpointError, match=r"other\.safetensors: cannot be read"):
        load_classifier(path.with_name("other.safetensors"))
