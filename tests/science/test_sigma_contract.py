"""What every sigma policy keeps: one positive sigma per image, and nothing else changed."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from certsmooth._internal.registry import member, names
from certsmooth.errors import ConfigError

SHAPE, CLASSES = (1, 3, 3), 3
EXAMPLES = {"sigma": 0.5, "iterations": 4, "rate": 0.3}
"""Values of the fields that have no default."""
INVALID = {
    "sigma": (0.0, -1.0, math.nan, math.inf, "0.5"),
    "iterations": (-1, 1.5),
    "samples": (0, 2.5),
    "step": (0.0, -1e-4, math.nan),
    "lower": (0.0, 2.0, 3.0),
    "upper": (0.0, 0.01, math.inf),
    "variant": ("papre", None),
    "norm": ("l3", "linf", None),
    "class_samples": (0,),
    "rate": (-0.1, math.nan, math.inf, None),
    "neighbours": (0, 2.5, None),
    "offset": (-1.0, math.nan, math.inf, "1"),
    "factor": (0.0, -1.0, math.nan, math.inf),
    "share": (0.0, 1.1, math.nan),
    "starts": (0, 1.5),
    "steps": (-1, 1.5),
    "evaluation_samples": (0, 2.5),
    "largest": (1.0, 0.0, math.nan, math.inf),
}
LABELS = np.arange(40) % CLASSES


@pytest.fixture(params=names("sigma"))
def policy_class(request):
    return member("sigma", request.param)


def required(policy_class):
    fields = [f.name for f in dataclasses.fields(policy_class) if f.init and f.default is dataclasses.MISSING]
    assert set(fields) <= set(EXAMPLES), f"give an example of each of {fields} in EXAMPLES"
    return {name: EXAMPLES[name] for name in fields}


@pytest.fixture
def unfitted(policy_class):
    return policy_class(**required(policy_class))


@pytest.fixture(params=[np.uint8, np.float32])
def training_images(request):
    generator = np.random.default_rng(5)
    images = generator.random((40, *SHAPE), dtype=np.float32)
    return images if request.param == np.float32 else (255 * images).astype(np.uint8)


@pytest.fixture
def policy(unfitted, training_images):
    return unfitted.fit(training_images, LABELS)


@pytest.fixture
def case():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5))
    model.append(nn.Linear(16, CLASSES))
    model.train()
    model[1].requires_grad_(False)
    model[2].eval()  # a part may be in a mode of its own
    images = torch.rand(6, *SHAPE)
    return model, images


def draws(policy, images):
    def draw(step):
        generator = torch.Generator().manual_seed(step)
        return torch.randn(policy.samples, *images.shape, generator=generator)

    return draw


def run(policy, model, images):
    start = torch.full((len(images),), policy.sigma0, dtype=torch.float64)
    return policy(model, images, start, draws(policy, images))


def test_one_positive_sigma_per_image(policy, case):
    sigma = run(policy, *case)
    assert sigma.shape == (6,)
    assert sigma.dtype == torch.float64
    assert (sigma.isfinite() & (sigma > 0)).all()
    assert not sigma.requires_grad


def test_attributes(policy):
    assert policy.sigma0 > 0
    assert isinstance(policy.samples, int)
    assert policy.samples >= 0
    assert policy.semi_elasticity is None or policy.semi_elasticity >= 0


def test_what_sigma_depends_on(policy):
    assert isinstance(policy.uses_model, bool)
    assert isinstance(policy.uses_training_images, bool)


def test_without_the_model_only_the_image_counts(policy, case):
    if policy.uses_model:
        pytest.skip("it depends on the model")
    model, images = case
    expected = run(policy, model, images)
    assert torch.equal(run(policy, nn.Identity(), images), expected)
    order = torch.randperm(len(images))
    assert torch.equal(run(policy, model, images[order]), expected[order])


def test_fit(unfitted, training_images, case):
    before = repr(unfitted)
    fitted = unfitted.fit(training_images, LABELS)
    assert repr(unfitted) == before
    assert (fitted.sigma0, fitted.samples, fitted.semi_elasticity) == (
        unfitted.sigma0,
        unfitted.samples,
        unfitted.semi_elasticity,
    )
    if not unfitted.uses_training_images:
        assert fitted is unfitted
        return
    assert type(fitted) is type(unfitted)
    assert torch.equal(run(unfitted.fit(training_images, LABELS), *case), run(fitted, *case))
    assert not torch.equal(run(unfitted.fit(training_images // 2, LABELS), *case), run(fitted, *case))


def test_must_be_fitted_first(unfitted, training_images, case):
    if not unfitted.uses_training_images:
        pytest.skip("there is nothing to fit")
    unfitted.fit(training_images, LABELS)  # returns the fitted one, and leaves this one as it is
    with pytest.raises(ConfigError, match="fit"):
        run(unfitted, *case)


def test_too_few_training_images(unfitted, training_images):
    if not unfitted.uses_training_images:
        pytest.skip("there is nothing to fit")
    with pytest.raises(ConfigError, match=r"must be"):
        unfitted.fit(training_images[:0], LABELS[:0])


def test_semi_elasticity_bounds_the_change_of_log_sigma(policy, case):
    if policy.semi_elasticity is None:
        pytest.skip("nothing is claimed")
    model, images = case
    moved = images + 0.1 * torch.randn(images.shape)
    ratio = (run(policy, model, moved).log() - run(policy, model, images).log()).abs()
    assert (ratio <= policy.semi_elasticity * (moved - images).flatten(1).norm(dim=1) + 1e-12).all()


def variants(policy_class):
    """Return the policy, and forms of it that are constant in places."""
    fields = {f.name for f in dataclasses.fields(policy_class)}
    changes = [{}]
    if {"rate", "lower", "upper"} <= fields:
        changes += [{"lower": 0.99, "upper": 1.01}, {"upper": 1.01}, {"lower": 0.9, "upper": 1.1, "rate": math.inf}]
    return [policy_class(**(required(policy_class) | change)) for change in changes]


@pytest.mark.parametrize("name", names("sigma"))
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.floats(0, 3))
def test_constant_within_and_semi_elasticity(name, seed, length):
    """Rays in any direction, to training images, and away from them: to the end of where sigma is constant, and on."""
    generator = np.random.default_rng(seed)
    training = generator.random((40, *SHAPE), dtype=np.float32)
    images, targets = (torch.from_numpy(part).double() for part in (generator.random((9, *SHAPE)), training[:9]))
    directions = torch.cat(
        [targets - images, images - targets, torch.from_numpy(generator.standard_normal((9, *SHAPE)))]
    )
    directions = nn.functional.normalize(directions.flatten(1)).view_as(directions)
    images = images.repeat(3, 1, 1, 1)
    for unfitted in variants(member("sigma", name)):
        policy = unfitted.fit(training, LABELS)
        constant = policy.constant_within(images)
        assert constant.shape == (27,)
        assert constant.dtype == torch.float64
        assert (constant >= 0).all()
        if policy.semi_elasticity is None:
            assert (constant == 0).all()
            continue
        before = run(policy, nn.Identity(), images)
        for reach in (constant.clamp(max=10), length * constant.clamp(max=10), constant.clamp(max=10) + length):
            moved = images + reach.view(-1, 1, 1, 1) * directions
            distance = (moved - images).flatten(1).norm(dim=1)
            after = run(policy, nn.Identity(), moved)
            assert torch.equal(after[distance <= constant], before[distance <= constant])
            beyond = distance > constant
            change = (after.log() - before.log()).abs()[beyond]
            assert (change <= policy.semi_elasticity * (distance - constant)[beyond] + 1e-12).all()


def test_leaves_the_model_as_it_was(policy, case):
    model, images = case
    model(images).sum().backward()
    before = [(p.clone(), p.requires_grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()]
    buffers = {k: v.clone() for k, v in model.named_buffers()}
    modes = [m.training for m in model.modules()]
    run(policy, model, images)
    for p, (value, requires_grad, grad) in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, value)
        assert p.requires_grad == requires_grad
        assert (p.grad is None) == (grad is None)
        assert grad is None or torch.equal(p.grad, grad)
    assert all(torch.equal(v, buffers[k]) for k, v in model.named_buffers())
    assert [m.training for m in model.modules()] == modes


def test_is_a_function_of_its_arguments(policy, case):
    state = torch.get_rng_state()
    first = run(policy, *case)
    with torch.no_grad():
        second = run(policy, *case)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_each_image_is_on_its_own(policy, case):
    model, images = case
    together = run(policy, model, images)
    draw = draws(policy, images)
    for i in range(len(images)):
        start = torch.full((1,), policy.sigma0, dtype=torch.float64)
        alone = policy(model, images[i : i + 1], start, lambda step, i=i: draw(step)[:, i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-6, atol=0)


def test_asks_for_the_steps_in_order(policy, case):
    model, images = case
    asked = []
    draw = draws(policy, images)

    def recording(step):
        asked.append(step)
        return draw(step)

    policy(model, images, torch.full((6,), policy.sigma0, dtype=torch.float64), recording)
    assert asked == list(range(len(asked)))
    assert policy.samples > 0 or not asked


def test_several_policies_give_what_each_gives(policy, case):
    model, images = case
    extents = () if policy.extent is None else (3, 0, 7, 3)
    policies = [policy, *(dataclasses.replace(policy, **{policy.extent: extent}) for extent in extents)]
    start = torch.full((len(images),), policy.sigma0, dtype=torch.float64)
    found = policy.together(policies, model, images, start, draws(policy, images))
    assert torch.equal(found, torch.stack([run(each, model, images) for each in policies]))


def test_is_a_frozen_dataclass(policy):
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.sigma = 1.0


def test_refuses_invalid_options(policy_class):
    fields = [f.name for f in dataclasses.fields(policy_class) if f.init]
    assert set(fields) <= set(INVALID), f"give invalid values of each of {fields} in INVALID"
    for name in fields:
        for value in INVALID[name]:
            with pytest.raises(ConfigError, match=rf"\b{name}\b"):
                policy_class(**(required(policy_class) | {name: value}))
