"""What every attack keeps: its bounds, the model as it was, each example on its own."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from certsmooth._internal.registry import member, names
from certsmooth.errors import ConfigError, DataError, ModelError
from certsmooth.science.attacks._gradients import Estimator
from certsmooth.science.models import ModelSpec, build

SHAPE, CLASSES = (2, 4, 4), 3
EXAMPLES, SAMPLES = 5, 3


def variants():
    """Return (member, its estimator): the member once if it does not have that option."""
    for name in names("attacks"):
        fields = {field.name for field in dataclasses.fields(member("attacks", name))}
        yield from (((name, {"estimator": e}) for e in get_args(Estimator)) if "estimator" in fields else ((name, {}),))


def make_attack(variant, **changes):
    name, options = variant
    return member("attacks", name)(**({"epsilon": 0.5, "steps": 3} | options | changes))


@pytest.fixture(params=list(variants()), ids=lambda variant: "-".join((variant[0], *variant[1].values())))
def variant(request):
    return request.param


def network(seed=0):
    """Return a network whose mode matters: batch normalisation and dropout."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )
    with torch.no_grad():
        model(torch.randn(64, *SHAPE))  # the running statistics are not those of the start
    return model.double()


@pytest.fixture
def model():
    return network()


@pytest.fixture
def case():
    """Images, labels and noise in double precision."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(EXAMPLES, *SHAPE, generator=generator, dtype=torch.float64)
    noise = 0.2 * torch.randn(SAMPLES, EXAMPLES, *SHAPE, generator=generator, dtype=torch.float64)
    return images, torch.tensor([0, 1, 2, 1, 0]), noise


def norms(vectors):
    return vectors.double().flatten(1).norm(dim=1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    epsilon=st.floats(1e-6, 5),
    steps=st.integers(1, 4),
    sigma=st.sampled_from([0.0, 0.25]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    data=st.data(),
)
def test_norm_and_pixels_are_bounded(seed, epsilon, steps, sigma, dtype, data):
    variant = data.draw(st.sampled_from(list(variants())))
    generator = torch.Generator().manual_seed(seed)
    model = network(seed).to(dtype)
    # Beyond [0, 1] before clamping: a part of the pixels is exactly 0 or 1, where rounding could leave the box.
    images = (torch.rand(EXAMPLES, *SHAPE, generator=generator, dtype=dtype) * 2 - 0.5).clamp(0, 1)
    labels = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
    noise = sigma * torch.randn(SAMPLES, EXAMPLES, *SHAPE, generator=generator, dtype=dtype)
    points = make_attack(variant, epsilon=epsilon, steps=steps)(model, images, labels, noise)
    assert points.dtype == dtype
    assert points.shape == images.shape
    assert points.min() >= 0
    assert points.max() <= 1
    rounding = 4 * torch.finfo(dtype).eps * math.sqrt(images[0].numel()) * max(1, epsilon)
    assert norms(points.double() - images.double()).max() <= epsilon + rounding


def test_it_does_move_images(variant, model, case):
    images, labels, noise = case
    moved = norms(make_attack(variant, epsilon=0.05, steps=60)(model, images, labels, noise) - images)
    with torch.no_grad():
        right = copy.deepcopy(model).eval()((images + noise).flatten(0, 1)).view(SAMPLES, EXAMPLES, -1)
    right = right.softmax(2).mean(0).argmax(1) == labels
    assert right.any()
    assert (moved[right] > 0.02).all()


def test_without_clamping_only_the_norm_is_bounded(variant, model, case):
    images, labels, noise = case
    points = make_attack(variant, epsilon=2.0, clamp=False)(model, images * 3 - 1, labels, noise)
    assert norms(points - (images * 3 - 1)).max() <= 2 + 1e-12
    assert points.min() < 0
    assert points.max() > 1


def test_epsilon_zero_returns_the_images_and_asks_nothing(variant, case):
    images, labels, noise = case
    points = make_attack(variant, epsilon=0)(Failing(), images, labels, noise)
    assert torch.equal(points, images)


class Failing(nn.Module):
    def forward(self, images):
        raise RuntimeError("asked")


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(variant, model, case, fails):
    images, labels, noise = case
    model.train()
    model[1].eval()  # parts may be in different modes
    model[0].weight.requires_grad_(False)
    for parameter in model[5].parameters():
        parameter.grad = torch.ones_like(parameter)
    before, state = copy.deepcopy(model), [p.grad is None for p in model.parameters()]
    if fails:
        with pytest.raises(RuntimeError, match="asked"):
            make_attack(variant)(nn.Sequential(model, Failing()), images, labels, noise)
    else:
        make_attack(variant)(model, images, labels, noise)
    for (key, now), then in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(now, then), key
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert [p.grad is None for p in model.parameters()] == state
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model[5].parameters())


def test_it_runs_in_evaluation_mode(variant, model, case):
    in_training = make_attack(variant)(model.train(), *case)
    assert torch.equal(in_training, make_attack(variant)(model.eval(), *case))


def test_arguments_are_left_as_they_were(variant, model, case):
    before = [tensor.clone() for tensor in case]
    make_attack(variant)(model, *case)
    assert all(torch.equal(now, then) for now, then in zip(case, before, strict=True))
    assert not any(tensor.requires_grad for tensor in case)


def test_each_example_is_attacked_on_its_own(variant, model, case):
    images, labels, noise = case
    attack = make_attack(variant, steps=5)
    together = attack(model, images, labels, noise)
    for i in range(EXAMPLES):
        alone = attack(model, images[i : i + 1], labels[i : i + 1], noise[:, i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-9)


def test_it_has_no_randomness(variant, model, case):
    state = torch.get_rng_state()
    first = make_attack(variant)(model, *case)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(make_attack(variant)(model, *case), first)


def test_gradients_need_not_be_enabled(variant, model, case):
    expected = make_attack(variant)(model, *case)
    with torch.no_grad():
        points = make_attack(variant)(model, *case)
    assert torch.equal(points, expected)
    images, labels, noise = case
    points = make_attack(variant)(model, images.clone().requires_grad_(True), labels, noise)
    assert torch.equal(points, expected)
    assert not points.requires_grad


def test_a_frozen_base_classifier(variant, case):
    images, noise = case[0].float(), case[2].float()
    served = build(ModelSpec("mlp", SHAPE, CLASSES), seed=0).freeze()
    points = make_attack(variant, steps=60)(served, images, served(images).argmax(1), noise)
    assert points.dtype == torch.float32
    finds_nothing_here = variant == ("ddn", {"estimator": "gradient_free"})
    assert torch.equal(points, images) == finds_nothing_here
    assert points.isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite(variant, case, value):
    broken = nn.Sequential(network(), Output(lambda logits: logits.index_fill(1, torch.tensor([1]), value)))
    with pytest.raises(ModelError, match="not finite"):
        make_attack(variant)(broken, *case)


@pytest.mark.parametrize(
    "change", [lambda z: z[:, :1], lambda z: z[:-1], lambda z: z[..., None], lambda z: (z, z)], ids=range(4)
)
def test_something_else_than_logits(variant, case, change):
    with pytest.raises(ModelError, match="must be logits"):
        make_attack(variant)(nn.Sequential(network(), Output(change)), *case)


class Output(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, logits):
        return self.change(logits)


@pytest.mark.parametrize("pixel", [-0.01, 1.01, math.nan])
def test_images_out_of_range(variant, model, case, pixel):
    images, labels, noise = case
    images[2, 1, 3, 0] = pixel
    with pytest.raises(DataError, match=r"images: pixels from .* must be in \[0, 1\]"):
        make_attack(variant)(model, images, labels, noise)


BAD_VALUES = {
    "epsilon": (-0.1, math.nan, math.inf, "0.5", None, True),
    "steps": (0, -1, 2.5, "3", None, True),
    "step_size": (0, -0.1, math.nan, math.inf, "0.1"),
    "initial_norm": (0, -1, math.nan),
    "gamma": (0, 1, -0.1, math.nan),
    "levels": (0, 1, -256, 2.5),
    "estimator": ("plugin", "", None),
    "clamp": ("yes", 1, None),
}


def options_with_bad_values():
    for name in names("attacks"):
        for field in dataclasses.fields(member("attacks", name)):
            yield from ((name, field.name, value) for value in BAD_VALUES[field.name])


@pytest.mark.parametrize(("name", "key", "value"), list(options_with_bad_values()))
def test_bad_options(name, key, value):
    with pytest.raises(ConfigError, match=f"^{key}: .*{value!r}"):
        make_attack((name, {}), **{key: value})


def test_is_a_frozen_dataclass(variant):
    attack = make_attack(variant)
    assert dataclasses.is_dataclass(attack)
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.epsilon = 1.0
    assert attack == make_attack(variant)
