"""What every training objective keeps: one finite loss per example, all noise from what draws it, model left alone."""

from __future__ import annotations

import copy
import dataclasses
from statistics import NormalDist

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from certsmooth._internal.registry import member, names
from certsmooth.science.objectives import Batch

SHAPE, CLASSES = (2, 3, 3), 4
ADVERSARY = {"epsilon": 0.5, "steps": 3}
OPTIONS: dict[str, dict[str, dict[str, object]]] = {
    "smoothadv": {
        "pgd": {**ADVERSARY, "samples": 3},
        "pgd-unclamped": {**ADVERSARY, "samples": 1, "clamp": False},
        "ddn": {**ADVERSARY, "attacker": "ddn", "samples": 2},
        "base": {**ADVERSARY, "target": "base", "samples": 2},
        "base-ddn": {**ADVERSARY, "target": "base", "attacker": "ddn"},
        "mean_loss": {**ADVERSARY, "estimator": "mean_loss", "samples": 3},
        "gradient_free": {**ADVERSARY, "estimator": "gradient_free", "samples": 4},
    },
    "macer": {
        "default": {},
        "cool": {"samples": 3, "beta": 1.0, "gamma": 0.7, "weight": 2.0},
        "without": {"samples": 2, "weight": 0.0},
    },
    "adre": {
        "reg": {"weight": 0.3, "samples": 3},
        "single": {"weight": 0.3, "samples": 3, "single_loss_sample": True},
        "adv": {**ADVERSARY, "weight": 0.3, "samples": 3},
        "adv-ddn": {**ADVERSARY, "weight": 0.3, "samples": 2, "attacker": "ddn", "clamp": False},
    },
    "expected_radius": {"default": {"weight": 0.7, "samples": 3}, "without": {"weight": 0.0, "samples": 2}},
    "stability": {"default": {"weight": 2.0}, "without": {"weight": 0.0}},
    "consistency": {
        "default": {},
        "many": {"samples": 4, "weight": 3.0, "entropy_weight": 0.0},
        "without": {"weight": 0.0, "entropy_weight": 0.0},
    },
    "smoothmix": {
        "default": {"steps": 2, "step_size": 0.3},
        "one-step": {"samples": 2, "weight": 2.0, "step_size": 0.2, "one_step": True, "warmup_epochs": 0},
        "unclamped": {"samples": 1, "steps": 1, "clamp": False},
    },
    "cat_rs": {
        "default": {"epsilon": 0.5},
        "pair": {"samples": 2, "weight": 0.5, "steps": 2},
        "without": {"samples": 3, "weight": 0.0},
    },
}
"""Member -> sets of arguments of its Objective; a member that is not here is tested with its defaults."""

CASES = [(name, key) for name in names("objectives") for key in OPTIONS.get(name, {"default": {}})]
NOISELESS = {"standard"}
"""Members that ignore sigma and noise: tested that they do."""

LATE = 1000
"""An epoch after every warm-up."""


def softmax(logits):
    weights = (logits - logits.detach().max()).exp()
    return weights / weights.sum()


def probabilities(model, image, noise):
    """Return softmax of each noise sample of one image, one forward pass each."""
    return [softmax(model((image + delta)[None])[0]) for delta in noise]


def mean(values):
    return sum(values) / len(values)


def best_other(p, label):
    """Return the largest entry of p that is not the label's."""
    return max((p[c] for c in range(len(p)) if c != label), key=torch.Tensor.item)


def drawing(images, seed, *, law="gaussian", dtype=None):
    """Return what draws standard noise, of the images' type or rounded to another one first."""
    generator = torch.Generator().manual_seed(seed)

    def draw(samples):
        noise = torch.empty(samples, *images.shape, dtype=dtype or images.dtype)
        member("noise", law)().from_generator(generator, noise)
        return noise.to(images.dtype)

    return draw


def drawn(objective, sigma, draw):
    """Return scaled noise [m, b, ...] of an objective with samples."""
    noise = draw(objective.samples)
    for i, s in enumerate(sigma):
        noise[:, i] *= s
    return noise


def naive_pgd(objective, model, image, label, noise, weight):
    """Return PGD's image for one image: steps of 2 epsilon / T along the direction, clamped, projected."""
    x = image.clone()
    for _ in range(objective.steps):
        if getattr(objective, "estimator", "plug_in") == "gradient_free":
            direction = -sum(p[label].detach() * d for p, d in zip(probabilities(model, x, noise), noise, strict=True))
        else:
            v = x.clone().requires_grad_(True)
            each = probabilities(model, v, noise)
            g = mean(each)
            goal = weight * best_other(g, label).log() - g[label].log()
            if getattr(objective, "estimator", "plug_in") == "mean_loss":
                goal = -mean([p[label].log() for p in each])
            (direction,) = torch.autograd.grad(goal, v)
        x = x + 2 * objective.epsilon / objective.steps * direction / direction.square().sum().sqrt()
        if objective.clamp:
            x = x.clamp(0, 1)
        length = (x - image).square().sum().sqrt()
        if length > objective.epsilon:
            x = image + (x - image) * objective.epsilon / length
    return x


def naive_adversarial(objective, model, images, labels, noise, weight=0.0):
    """Return adversarial images: PGD by an own loop, DDN by the attack module, one image at a time."""
    found = []
    for i in range(len(images)):
        if objective.attacker == "pgd":
            found.append(naive_pgd(objective, model, images[i], labels[i], noise[:, i], weight))
            continue
        attack = member("attacks", "ddn")(epsilon=objective.epsilon, steps=objective.steps, clamp=objective.clamp)

        def loss(log_p, y):
            others = log_p.clone()
            others[:, y] = -torch.inf
            return weight * others.max(1).values - log_p[:, y].squeeze(1)

        found.append(attack(model, images[i : i + 1], labels[i : i + 1], noise[:, i : i + 1], loss=loss)[0])
    return torch.stack(found)


def naive_gaussian(objective, model, images, labels, sigma, draw):
    noise = draw(1)[0]
    x = [images[i] + sigma[i] * noise[i] for i in range(len(images))]
    return torch.stack([-softmax(model(x[i][None])[0])[labels[i]].log() for i in range(len(images))])


def naive_standard(objective, model, images, labels, sigma, draw):
    return torch.stack([-softmax(model(images[i : i + 1])[0])[labels[i]].log() for i in range(len(images))])


def naive_smoothadv(objective, model, images, labels, sigma, draw):
    noise = drawn(objective, sigma, draw)
    seen = noise if objective.target == "smoothed" else torch.zeros_like(noise[:1])
    attacked = naive_adversarial(objective, model, images, labels, seen)
    assert (attacked - images).flatten(1).norm(dim=1).max() > 0.1  # the attack does something
    return torch.stack(
        [
            mean([-p[labels[i]].log() for p in probabilities(model, attacked[i], noise[:, i])])
            for i in range(len(images))
        ]
    )


def naive_macer(objective, model, images, labels, sigma, draw):
    noise = drawn(objective, sigma, draw)
    losses = []
    for i, y in enumerate(labels):
        logits = [model((images[i] + delta)[None])[0] for delta in noise[:, i]]
        loss = -mean([softmax(z) for z in logits])[y].log()
        p = mean([softmax(objective.beta * z) for z in logits])
        if p.argmax() == y:
            quantile = NormalDist().inv_cdf
            gap = quantile(p[y].item()) - quantile(best_other(p, y).item())
            loss = loss + objective.weight * sigma[i].item() / 2 * max(objective.gamma - gap, 0)
        losses.append(loss)
    return torch.stack(losses)


def naive_adre(objective, model, images, labels, sigma, draw):
    noise = drawn(objective, sigma, draw)
    if objective.epsilon > 0:
        images = naive_adversarial(objective, model, images, labels, noise, objective.weight)
    losses = []
    for i, y in enumerate(labels):
        p = probabilities(model, images[i], noise[:, i])
        used = p[:1] if objective.single_loss_sample else p
        perturbed = mean([-q[y].log() for q in used])
        losses.append(perturbed - objective.weight * -best_other(mean(p), y).log())
    return torch.stack(losses)


def naive_expected_radius(objective, model, images, labels, sigma, draw):
    noise, quantile = drawn(objective, sigma, draw), NormalDist().inv_cdf
    losses = []
    for i, y in enumerate(labels):
        p = probabilities(model, images[i], noise[:, i])
        second, first = sorted(mean(p).tolist())[-2:]
        losses.append(mean([-q[y].log() for q in p]) - objective.weight * (quantile(first) - quantile(second)))
    return torch.stack(losses)


def naive_stability(objective, model, images, labels, sigma, draw):
    noise = draw(1)[0]
    losses = []
    for i, y in enumerate(labels):
        clean, noisy = (softmax(model(x[None])[0]) for x in (images[i], images[i] + sigma[i] * noise[i]))
        distance = -sum(clean[c] * noisy[c].log() for c in range(CLASSES))
        losses.append(-noisy[y].log() + objective.weight * distance)
    return torch.stack(losses)


def naive_kl(p, q):
    return sum(p[c] * (p[c] / q[c]).log() for c in range(CLASSES))


def naive_consistency(objective, model, images, labels, sigma, draw):
    noise = drawn(objective, sigma, draw)
    losses = []
    for i, y in enumerate(labels):
        f = probabilities(model, images[i], noise[:, i])
        g = mean(f)
        entropy = -sum(g[c] * g[c].log() for c in range(CLASSES))
        loss = mean([-p[y].log() for p in f]) + objective.weight * mean([naive_kl(g, p) for p in f])
        losses.append(loss + objective.entropy_weight * entropy)
    return torch.stack(losses)


def naive_uniforms(images, count, draw):
    """Return numbers on (0, 1): the signs of standard noise, in the order in which it is drawn, as binary digits."""
    size = images[0].numel()
    noise = draw((24 * count + size - 1) // size)
    numbers = torch.zeros(count, len(images), dtype=torch.float64)
    for i in range(len(images)):
        coins = [float(z > 0) for z in noise[:, i].flatten()]
        for j in range(count):
            digits = coins[24 * j : 24 * (j + 1)]
            numbers[j, i] = sum(coin / 2 ** (place + 1) for place, coin in enumerate(digits)) + 2.0**-25
    return numbers


def naive_ascent(model, image, label, noise, steps, step_size, clamp):
    """Return an image after steps of one length up the loss of the smoothed classifier, wherever they lead."""
    x = image.clone()
    for _ in range(steps):
        v = x.clone().requires_grad_(True)
        (direction,) = torch.autograd.grad(-mean(probabilities(model, v, noise))[label].log(), v)
        x = x + step_size * direction / direction.square().sum().sqrt()
        x = x.clamp(0, 1) if clamp else x
    return x


def naive_smoothmix(objective, model, images, labels, sigma, draw):
    noise = drawn(objective, sigma, draw)
    kappas = naive_uniforms(images, 1, draw)[0] / 2
    losses = []
    for i, y in enumerate(labels):
        options = model, images[i], y, noise[:, i]
        start = naive_ascent(*options, int(objective.one_step), objective.step_size, objective.clamp)
        end = naive_ascent(*options, objective.steps, objective.step_size, objective.clamp)
        f = probabilities(model, start, noise[:, i])
        mixed = probabilities(model, start + kappas[i] * (end - start), noise[:, i])
        target = (1 - kappas[i]) * mean(f) + kappas[i] / CLASSES
        loss = mean([-p[y].log() for p in f])
        if mean(f).argmax() == y:
            loss = loss + objective.weight * mean([naive_kl(target, p) for p in mixed])
        losses.append(loss)
    return torch.stack(losses)


def naive_worst_noise(objective, model, image, noise, target):
    """Return the noise after PGD up the divergence from the target, with the mean and deviation that it had."""
    x = noise.clone()
    for _ in range(objective.steps):
        v = x.clone().requires_grad_(True)
        (direction,) = torch.autograd.grad(naive_kl(target, softmax(model((image + v)[None])[0])), v)
        x = x + 2 * objective.epsilon / objective.steps * direction / direction.square().sum().sqrt()
        length = (x - noise).square().sum().sqrt()
        if length > objective.epsilon:
            x = noise + (x - noise) * objective.epsilon / length
    return (x - x.mean()) / x.std(correction=0) * noise.std(correction=0) + noise.mean()


def naive_cat_rs(objective, model, images, labels, sigma, draw):
    noise = drawn(objective, sigma, draw)
    coins = naive_uniforms(images, objective.samples, draw)
    losses = []
    for i, y in enumerate(labels):
        f = probabilities(model, images[i], noise[:, i])
        share = sum(int(p.argmax() == y) for p in f) / len(f)
        k = sum(int(coin < share) for coin in coins[:, i])
        loss = sum(sorted((-p[y].log() for p in f), key=torch.Tensor.item)[: max(k, 1)]) / objective.samples
        if k == objective.samples:
            target = mean(f).detach()
            worst = [naive_worst_noise(objective, model, images[i], delta, target) for delta in noise[:, i]]
            far = [naive_kl(mean(f), p) for p in probabilities(model, images[i], worst)]
            loss = loss + objective.weight * max(far, key=torch.Tensor.item)
        losses.append(loss)
    return torch.stack(losses)


NAIVE = {
    "adre": naive_adre,
    "cat_rs": naive_cat_rs,
    "consistency": naive_consistency,
    "expected_radius": naive_expected_radius,
    "gaussian": naive_gaussian,
    "macer": naive_macer,
    "smoothadv": naive_smoothadv,
    "smoothmix": naive_smoothmix,
    "stability": naive_stability,
    "standard": naive_standard,
}


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def name(request):
    return request.param[0]


@pytest.fixture
def objective(request, name):
    key = request.node.callspec.params["name"][1]
    return member("objectives", name)(**OPTIONS.get(name, {}).get(key, {}))


@pytest.fixture
def case():
    """Model, images, labels and sigma in double precision; some images are classified correctly, some are not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 8), nn.Tanh(), nn.Linear(8, CLASSES)).double()
    with torch.no_grad():
        model[3].weight *= 3
    images = torch.rand(5, *SHAPE, dtype=torch.float64)
    labels = model(images).argmax(1)
    labels[3:] = (labels[3:] + 1) % CLASSES
    sigma = torch.tensor([0.1, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    return model, images, labels, sigma


@pytest.fixture
def fixed_attack(monkeypatch):
    """Every attack returns the image plus the same perturbation, so that it does not move with the parameters."""
    delta = 0.3 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def call(self, model, images, labels, noise, *, loss=None):
        return images if self.epsilon == 0 else images + delta.to(images.dtype)

    for attacker in names("attacks"):
        monkeypatch.setattr(member("attacks", attacker), "__call__", call)


def loss_at(objective, model, images, labels, sigma, *, seed=7, label_smoothing=0.0, **noise):
    return objective(model, Batch(images, labels, sigma, drawing(images, seed, **noise), LATE, label_smoothing))


def test_smoothed_labels_mix_the_cross_entropies_of_all_classes(objective, case):
    """It is linear in the share; attacks, and what rewards a radius, know the label itself."""
    sharp, some, more = (loss_at(objective, *case, label_smoothing=share) for share in (0.0, 0.1, 0.2))
    torch.testing.assert_close(more - sharp, 2 * (some - sharp), rtol=1e-6, atol=1e-9)
    assert ((some - sharp).abs() > 1e-6).all()


def test_one_finite_loss_per_example(objective, case):
    loss = loss_at(objective, *case)
    assert loss.shape == (5,)
    assert loss.isfinite().all()


@pytest.mark.parametrize("law", names("noise"))
def test_equals_the_naive_version(name, objective, case, law):
    assert name in NAIVE, f"give {name} an independent version in NAIVE"
    expected = NAIVE[name](objective, *case, drawing(case[1], 7, law=law))
    torch.testing.assert_close(loss_at(objective, *case, law=law), expected, rtol=0, atol=1e-6)


def test_gradients(objective, case, fixed_attack):
    model, images, labels, sigma = case
    parameters = [p.detach().clone().requires_grad_(True) for p in model.parameters()]
    keys = [key for key, _ in model.named_parameters()]

    class At(nn.Module):
        """The model at other values of its parameters."""

        def __init__(self, values):
            super().__init__()
            self.values = dict(zip(keys, values, strict=True))

        def forward(self, x):
            return torch.func.functional_call(model, self.values, (x,))

    def losses(*values):
        return loss_at(objective, At(values), images, labels, sigma)

    assert torch.autograd.gradcheck(losses, parameters)


def test_depends_on_the_sigma_of_each_example(name, objective, case):
    model, images, labels, sigma = case
    before = loss_at(objective, *case)
    sigma[2] += 0.1
    changed = loss_at(objective, model, images, labels, sigma) != before
    assert changed.tolist() == [False, False, name not in NOISELESS, False, False]


def test_all_noise_comes_from_what_draws_it(name, objective, case):
    state = torch.get_rng_state()
    first = loss_at(objective, *case)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loss_at(objective, *case), first)
    assert torch.equal(loss_at(objective, *case, seed=8), first) == (name in NOISELESS)


def test_float32_images_take_float64_sigma(objective, case):
    model, images, labels, sigma = case
    loss = loss_at(objective, copy.deepcopy(model).float(), images.float(), labels, sigma)
    assert loss.dtype == torch.float32
    in_double = loss_at(objective, *case, dtype=torch.float32)  # at the noise that float32 draws
    torch.testing.assert_close(loss.double(), in_double, rtol=1e-3, atol=1e-3)


def test_a_gradient_reaches_every_parameter_that_wants_one(objective, case):
    model = case[0]
    model[1].bias.requires_grad_(False)
    loss_at(objective, *case).mean().backward()
    assert model[1].bias.grad is None
    assert not model[1].bias.requires_grad
    for parameter in (model[1].weight, model[3].weight, model[3].bias):
        assert parameter.requires_grad
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().max() > 0


def test_the_call_itself_leaves_parameters_and_their_gradients_alone(objective, case):
    model, images, labels, sigma = case
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = [p.detach().clone() for p in model.parameters()]
    inputs = [t.clone() for t in (images, labels, sigma)]
    loss_at(objective, *case)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert all((p.grad == 1).all() for p in model.parameters())
    assert all(torch.equal(t, b) for t, b in zip((images, labels, sigma), inputs, strict=True))
    assert not images.requires_grad


def test_only_the_update_pass_moves_running_statistics(objective, case, fixed_attack):
    _, images, labels, sigma = case
    normalised = nn.Sequential(nn.Flatten(), nn.Linear(18, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)).train()
    other = copy.deepcopy(normalised)
    loss_at(objective, other, images.float(), labels, sigma)  # a constant perturbation: only the update uses the model
    with pytest.MonkeyPatch.context() as patch:
        _run_attacks_too(patch)
        loss_at(objective, normalised, images.float(), labels, sigma)
    for key, value in normalised[2].state_dict().items():
        assert torch.equal(value, other[2].state_dict()[key]), key
    assert normalised[2].num_batches_tracked == 1
    assert all(module.training for module in normalised.modules())


def _run_attacks_too(patch):
    """Let each attack run for real on the model, and then return what `fixed_attack` returns."""
    for attacker in names("attacks"):
        attack = member("attacks", attacker)
        fixed, real = attack.__call__, REAL_ATTACKS[attacker]

        def call(self, model, *args, fixed=fixed, real=real, **kwargs):
            real(self, model, *args, **kwargs)
            return fixed(self, model, *args, **kwargs)

        patch.setattr(attack, "__call__", call)


REAL_ATTACKS = {attacker: member("attacks", attacker).__call__ for attacker in names("attacks")}


def test_is_a_frozen_dataclass(objective):
    assert dataclasses.is_dataclass(objective)
    assert type(objective).__dataclass_params__.frozen


def test_options_are_what_params_yaml_can_give(objective):
    for field in dataclasses.fields(objective):
        assert isinstance(getattr(objective, field.name), (bool, int, float, str)), field.name


def test_gaussian_without_noise_is_the_clean_cross_entropy(case):
    model, images, labels, sigma = case
    objective = member("objectives", "gaussian")()
    loss = loss_at(objective, model, images, labels, torch.zeros_like(sigma))
    torch.testing.assert_close(loss, F.cross_entropy(model(images), labels, reduction="none"), rtol=0, atol=0)
