"""What every training objective keeps: one finite loss per example, all noise from the generator."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from certsmooth.registry import member, names

SHAPE, CLASSES = (2, 3, 3), 4
ARGUMENTS: dict[str, dict[str, object]] = {}
"""Member -> arguments of its Objective, where it has fields without a default."""


def naive_gaussian(objective, model, images, labels, sigma, generator):
    """Return the losses example by example, without torch's cross entropy."""
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    losses = []
    for i in range(len(images)):
        logits = model((images[i] + sigma[i] * noise[i])[None])[0]
        losses.append(-(logits[labels[i]].exp() / logits.exp().sum()).log())
    return torch.stack(losses)


NAIVE = {"gaussian": naive_gaussian}


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=names("objectives"))
def name(request):
    return request.param


@pytest.fixture
def objective(name):
    return member("objectives", name).Objective(**ARGUMENTS.get(name, {}))


@pytest.fixture
def case():
    """Model, images, labels and sigma in double precision."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 8), nn.Tanh(), nn.Linear(8, CLASSES)).double()
    images = torch.rand(5, *SHAPE, dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 2, 2])
    sigma = torch.tensor([0.1, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    return model, images, labels, sigma


def loss_at(objective, model, images, labels, sigma, seed=7):
    return objective(model, images, labels, sigma, torch.Generator().manual_seed(seed), epoch=1000)


def test_one_finite_loss_per_example(objective, case):
    loss = loss_at(objective, *case)
    assert loss.shape == (5,)
    assert loss.isfinite().all()


def test_equals_the_naive_version(name, objective, case):
    assert name in NAIVE, f"give {name} an independent version in NAIVE"
    expected = NAIVE[name](objective, *case, torch.Generator().manual_seed(7))
    torch.testing.assert_close(loss_at(objective, *case), expected, rtol=0, atol=1e-6)


def test_gradients(objective, case):
    model, images, labels, sigma = case
    parameters = [p.detach().clone().requires_grad_(True) for p in model.parameters()]
    keys = [key for key, _ in model.named_parameters()]

    def losses(*values):
        def call(x):
            return torch.func.functional_call(model, dict(zip(keys, values, strict=True)), (x,))

        return loss_at(objective, call, images, labels, sigma)

    assert torch.autograd.gradcheck(losses, parameters)


def test_depends_on_the_sigma_of_each_example(objective, case):
    model, images, labels, sigma = case
    before = loss_at(objective, *case)
    sigma[2] += 0.1
    changed = loss_at(objective, model, images, labels, sigma) != before
    assert changed.tolist() == [False, False, True, False, False]


def test_all_noise_comes_from_the_generator(objective, case):
    state = torch.get_rng_state()
    first = loss_at(objective, *case)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loss_at(objective, *case), first)
    assert not torch.equal(loss_at(objective, *case, seed=8), first)


def test_float32_images_take_float64_sigma(objective, case):
    model, images, labels, sigma = case
    loss = loss_at(objective, copy.deepcopy(model).float(), images.float(), labels, sigma)
    assert loss.dtype == torch.float32


def test_is_a_frozen_dataclass(objective):
    assert dataclasses.is_dataclass(objective)
    assert type(objective).__dataclass_params__.frozen


def test_gaussian_without_noise_is_the_clean_cross_entropy(case):
    model, images, labels, sigma = case
    objective = member("objectives", "gaussian").Objective()
    loss = loss_at(objective, model, images, labels, torch.zeros_like(sigma))
    torch.testing.assert_close(loss, F.cross_entropy(model(images), labels, reduction="none"), rtol=0, atol=0)
