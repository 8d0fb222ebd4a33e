"""What every sigma policy keeps: one positive sigma per image, and nothing else changed."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from certsmooth.errors import ConfigError
from certsmooth.registry import member, names

SHAPE, CLASSES = (1, 3, 3), 3
EXAMPLES = {"sigma": 0.5, "iterations": 4}
"""Values of the fields that have no default."""
INVALID = {
    "sigma": (0.0, -1.0, math.nan, math.inf, "0.5"),
    "iterations": (-1, 1.5),
    "samples": (0, 2.5),
    "step": (0.0, -1e-4, math.nan),
    "lower": (0.0, 2.0, 3.0),
    "upper": (0.0, 0.01, math.inf),
    "variant": ("papre", None),
    "class_samples": (0,),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=names("sigma"))
def policy_class(request):
    return member("sigma", request.param).Policy


def required(policy_class):
    fields = [f.name for f in dataclasses.fields(policy_class) if f.default is dataclasses.MISSING]
    assert set(fields) <= set(EXAMPLES), f"give an example of each of {fields} in EXAMPLES"
    return {name: EXAMPLES[name] for name in fields}


@pytest.fixture
def policy(policy_class):
    return policy_class(**required(policy_class))


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


def test_semi_elasticity_bounds_the_change_of_log_sigma(policy, case):
    if policy.semi_elasticity is None:
        pytest.skip("nothing is claimed")
    model, images = case
    moved = images + 0.1 * torch.randn(images.shape)
    ratio = (run(policy, model, moved).log() - run(policy, model, images).log()).abs()
    assert (ratio <= policy.semi_elasticity * (moved - images).flatten(1).norm(dim=1) + 1e-12).all()


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


def test_is_a_frozen_dataclass(policy):
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.sigma = 1.0


def test_refuses_invalid_options(policy_class):
    fields = [f.name for f in dataclasses.fields(policy_class)]
    assert set(fields) <= set(INVALID), f"give invalid values of each of {fields} in INVALID"
    for name in fields:
        for value in INVALID[name]:
            with pytest.raises(ConfigError, match=rf"\b{name}\b"):
                policy_class(**(required(policy_class) | {name: value}))
