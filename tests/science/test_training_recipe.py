"""The recipe's options, and augmentation against slicing one image at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from certsmooth.errors import ConfigError
from certsmooth.science.training.batches import augment, random_crop, random_flip, random_resized_crop
from certsmooth.science.training.recipe import Recipe


def recipe(**options):
    return Recipe(**({"epochs": 90, "batch_size": 400, "learning_rate": 0.1} | options))


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": "0.1"},
        {"optimizer": "adam"},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"weight_decay": -1e-4},
        {"schedule": "steps"},
        {"milestones": (30,)},
        {"milestones": (), "schedule": "step"},
        {"milestones": (60, 30), "schedule": "step"},
        {"milestones": (30, 30), "schedule": "step"},
        {"milestones": (0, 30), "schedule": "step"},
        {"milestones": (30, 90), "schedule": "step"},
        {"factor": 1.0},
        {"factor": 0.0},
        {"augmentation": ("crops",)},
        {"augmentation": ("flip", "flip")},
        {"padding": 0},
        {"adaptive_from_epoch": -1},
        {"warmup_epochs": -1},
        {"warmup_epochs": 90},
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
    ],
    ids=str,
)
def test_refuses_invalid_options(options):
    key = next(iter(options))
    with pytest.raises(ConfigError, match=rf"^{key}: "):
        recipe(**options)


def test_names_the_nearest_choice():
    with pytest.raises(ConfigError, match="optimizer: unknown 'adam'; did you mean 'adamw'"):
        recipe(optimizer="adam")


def test_learning_rates():
    """Cohen et al.: 0.1, times 0.1 every 30 of 90 epochs."""
    step = recipe(schedule="step", milestones=(30, 60))
    expected = [0.1] * 30 + [0.01] * 30 + [0.001] * 30
    assert [step.learning_rate_at(e) for e in range(90)] == pytest.approx(expected, rel=1e-12)
    assert {recipe().learning_rate_at(e) for e in range(90)} == {0.1}
    cosine = [recipe(schedule="cosine").learning_rate_at(e) for e in range(90)]
    assert cosine[0] == 0.1
    assert cosine[45] == pytest.approx(0.05)
    assert all(np.diff(cosine) < 0)
    assert cosine[-1] > 0


def test_learning_rates_after_a_warm_up():
    warm = recipe(schedule="cosine", warmup_epochs=8)
    rates = [warm.learning_rate_at(e) for e in range(90)]
    assert rates[:8] == pytest.approx([0.0125 * (e + 1) for e in range(8)])
    assert rates[8:] == [recipe(epochs=82, schedule="cosine").learning_rate_at(e) for e in range(82)]
    step = recipe(schedule="step", milestones=(30, 60), warmup_epochs=2)
    assert [step.learning_rate_at(e) for e in (0, 1, 2, 29, 30, 60)] == pytest.approx(
        [0.05, 0.1, 0.1, 0.1, 0.01, 0.001]
    )


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimizers_have_the_options(name):
    parameter = nn.Parameter(torch.ones(1))
    group = recipe(optimizer=name, momentum=0.8, weight_decay=5e-4).make_optimizer([parameter]).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.1, 5e-4)
    assert group["momentum"] == 0.8 if name == "sgd" else group["betas"] == (0.8, 0.999)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_crop_is_a_slice_of_the_padded_image():
    images = torch.arange(1.0, 1 + 200 * 2 * 5 * 4).view(200, 2, 5, 4)
    crops = random_crop(images, padding=2, generator=generator())
    places = []
    for image, crop in zip(F.pad(images, (2, 2, 2, 2)), crops, strict=True):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(image[:, top : top + 5, left : left + 4], crop)
        ]
        assert len(found) == 1  # pixels are unique, so the place is
        places += found
    counts = np.bincount([5 * top + left for top, left in places], minlength=25)
    assert counts.min() >= 1
    assert counts.max() <= 20  # 8 expected: uniform (probability of more than 20 below 1e-3)


def test_flip_is_a_mirror_image_half_of_the_time():
    images = torch.rand(400, 1, 3, 4)
    flipped = random_flip(images, generator=generator())
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 160 < sum(mirrored) < 240


def test_augmentation_is_what_was_asked_for():
    images = torch.rand(8, 1, 4, 4)
    assert augment(images, (), padding=1, generator=generator()) is images
    crop = random_crop(images, padding=1, generator=generator(3))
    assert torch.equal(augment(images, ("crop",), padding=1, generator=generator(3)), crop)
    both = generator(3)
    expected = random_flip(random_crop(images, padding=1, generator=both), generator=both)
    assert torch.equal(augment(images, ("flip", "crop"), padding=1, generator=generator(3)), expected)


def test_a_resized_crop_is_a_part_of_the_image_at_its_old_size():
    """On an image that is linear in the coordinates, bilinear sampling is exact: each result is linear as well."""
    b, side = 400, 16
    x = torch.arange(side, dtype=torch.float64).expand(side, side)
    images = torch.stack([x, x.T]).expand(b, 2, side, side)
    cut = random_resized_crop(images, generator=torch.Generator().manual_seed(0))
    assert cut.shape == images.shape
    inner = cut[:, :, 4:12, 4:12]  # away from the border, where it is not linear
    along, across = inner[:, 0].diff(dim=2), inner[:, 1].diff(dim=1)
    width, height = along[:, 0, 0], across[:, 0, 0]
    torch.testing.assert_close(along, width.view(-1, 1, 1).expand_as(along), rtol=0, atol=1e-5)
    torch.testing.assert_close(across, height.view(-1, 1, 1).expand_as(across), rtol=0, atol=1e-5)
    area, ratio = width * height, width / height
    assert 0.08 - 1e-6 <= area.min() < 0.12
    assert 0.9 < area.max() <= 1 + 1e-6
    assert 0.75 - 1e-6 <= ratio.min() < 0.8
    assert 1.25 < ratio.max() <= 4 / 3 + 1e-6
    assert cut.min() >= 0
    assert cut.max() <= side - 1


def test_a_resized_crop_is_an_augmentation():
    images = torch.rand(3, 1, 8, 8)
    found = augment(images, ["resized_crop"], padding=1, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found, random_resized_crop(images, generator=torch.Generator().manual_seed(1)))
