"""Each attack against what is known: analytic optima, independent naive versions, foolbox."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from foolbox import PyTorchModel
from foolbox.attacks import DDNAttack
from scipy.special import expit
from torch import nn

from certsmooth.errors import ConfigError, ModelError
from certsmooth.science.attacks import base_pgd, ddn, pgd
from certsmooth.science.attacks._gradients import loss_gradient


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 4)).double()


@pytest.fixture
def case():
    """Images, labels and noise for `model`, in double precision."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(5, 3, 2, 2, generator=generator, dtype=torch.float64)
    noise = 0.3 * torch.randn(4, 5, 3, 2, 2, generator=generator, dtype=torch.float64)
    return images, torch.tensor([0, 1, 2, 3, 1]), noise


class Linear(nn.Module):
    """Class 1 where w x + b > 0, else class 0; logits (-z, z) / 2 at scale 1."""

    def __init__(self, weight, bias=0.0, scale=1.0):
        super().__init__()
        self.register_buffer("weight", weight)
        self.bias, self.scale = bias, scale

    def forward(self, images):
        z = self.scale * (images.flatten(1) @ self.weight + self.bias) / 2
        return torch.stack([-z, z], 1)


@pytest.fixture
def line():
    """Return a linear classifier in 20 dimensions, points on both sides of its boundary, and their classes."""
    generator = torch.Generator().manual_seed(2)
    linear = Linear(torch.randn(20, generator=generator, dtype=torch.float64), 0.3)
    points = torch.randn(8, 20, generator=generator, dtype=torch.float64)
    labels = linear(points).argmax(1)
    assert labels.unique().numel() == 2
    return linear, points, labels


def towards_boundary(linear, labels):
    """Return the unit vector along which a linear classifier's loss grows fastest, for each label."""
    sign = 1 - 2 * labels.double()
    return sign[:, None] * linear.weight / linear.weight.norm()


def norms(vectors):
    return vectors.flatten(1).square().sum(1).sqrt()


def distances(linear, points):
    return (points @ linear.weight + linear.bias).abs() / linear.weight.norm()


# The gradient, by each estimator that differentiates


def naive_loss(model, image, label, noise, estimator="plug_in"):
    """-log of the mean probability of one example, or the mean of -log, in numpy, from the weights."""
    _, first, _, last = model
    rows = (image + noise).reshape(len(noise), -1)
    hidden = np.tanh(rows @ first.weight.numpy(force=True).T + first.bias.numpy(force=True))
    logits = hidden @ last.weight.numpy(force=True).T + last.bias.numpy(force=True)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    of_label = probabilities[:, label]
    return -np.log(of_label.mean()) if estimator == "plug_in" else -np.log(of_label).mean()


@pytest.mark.parametrize("estimator", ["plug_in", "mean_loss"])
def test_the_gradient_is_that_of_the_naive_loss(model, case, estimator):
    images, labels, noise = case
    gradient, log_p = loss_gradient(model, images, labels, noise, loss=None, estimator=estimator)
    for i in range(len(images)):
        image, samples = images[i].numpy(), noise[:, i].numpy()
        assert -log_p[i, labels[i]].item() == pytest.approx(naive_loss(model, image, labels[i], samples), rel=1e-12)
        for pixel in np.ndindex(image.shape):
            up, down = image.copy(), image.copy()
            up[pixel] += 1e-5
            down[pixel] -= 1e-5
            higher, lower = (naive_loss(model, point, labels[i], samples, estimator) for point in (up, down))
            slope = higher - lower
            assert gradient[i][pixel].item() == pytest.approx(slope / 2e-5, abs=1e-8)


def test_plug_in_gradient_of_another_loss(model, case):
    images, labels, noise = case

    def margin(log_p, labels):
        """Log odds of the most probable other class: not the cross entropy, not linear in log G."""
        p = log_p.exp()
        others = p.scatter(1, labels[:, None], 0).amax(1)
        return others.log() - p.gather(1, labels[:, None]).squeeze(1)

    gradient, _ = loss_gradient(model, images, labels, noise, loss=margin, estimator="plug_in")
    for i in range(len(images)):
        image = images[i].clone().requires_grad_(True)
        p = torch.stack([model((image + delta)[None]).softmax(1)[0] for delta in noise[:, i]]).mean(0)
        wrong = torch.cat([p[: labels[i]], p[labels[i] + 1 :]]).max()
        (expected,) = torch.autograd.grad(wrong.log() - p[labels[i]], image)
        torch.testing.assert_close(gradient[i], expected, rtol=0, atol=1e-12)


# The gradient, gradient-free estimator


def test_gradient_free_is_the_mean_of_eq_7(model, case):
    images, labels, noise = case
    gradient, _ = loss_gradient(model, images, labels, noise, loss=None, estimator="gradient_free")
    for i, label in enumerate(labels):
        probabilities = [model((images[i] + delta)[None]).softmax(1)[0, label].item() for delta in noise[:, i]]
        slope_of_g = sum(p * delta for p, delta in zip(probabilities, noise[:, i], strict=True)) / len(noise)
        torch.testing.assert_close(gradient[i], -slope_of_g / np.mean(probabilities), rtol=0, atol=1e-12)


def test_gradient_free_is_unbiased():
    """At a logistic classifier: sigma^2 grad G, with grad G by quadrature, within 5 standard errors."""
    sigma, m = 0.5, 40_000
    weight = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    linear = Linear(weight, -0.4)
    image, label = torch.tensor([[0.3, 0.6, 0.2]], dtype=torch.float64), torch.tensor([1])
    noise = sigma * torch.randn(m, 1, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradient, log_p = loss_gradient(linear, image, label, noise, loss=None, estimator="gradient_free")
    estimate = -gradient[0] * log_p[0, 1].exp()

    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    z = (image[0] @ weight - 0.4).item() + sigma * weight.norm().item() * nodes
    slope = (weights * expit(z) * expit(-z)).sum() / weights.sum()
    error = (noise[:, 0] * linear(image + noise[:, 0]).softmax(1)[:, 1:]).std(0) / math.sqrt(m)
    assert ((estimate - sigma**2 * slope * weight).abs() <= 5 * error).all()
    assert (error < 0.1 * sigma**2 * slope * weight.abs()).all()  # the test can tell


@pytest.mark.parametrize("own_loss", [False, True])
def test_gradient_free_approaches_plug_in(model, case, own_loss):
    """Over 50 batches of 2000 samples, their mean difference is within 5 standard errors of 0."""
    images, labels, _ = case
    loss = (lambda log_p, _: (torch.arange(4.0) * log_p.exp() ** 2).sum(1)) if own_loss else None
    generator = torch.Generator().manual_seed(4)
    plug_in, gradient_free = torch.zeros(2, 50, 12, dtype=torch.float64)
    for batch in range(50):
        noise = 0.3 * torch.randn(2000, 1, 3, 2, 2, generator=generator, dtype=torch.float64)
        for estimates, estimator in ((plug_in, "plug_in"), (gradient_free, "gradient_free")):
            gradient, _ = loss_gradient(model, images[:1], labels[:1], noise, loss=loss, estimator=estimator)
            estimates[batch] = gradient.flatten()
    difference = gradient_free - 0.3**2 * plug_in
    error = difference.std(0) / math.sqrt(50)
    assert (difference.mean(0).abs() <= 5 * error).all()
    assert error.norm() < 0.2 * 0.3**2 * plug_in.mean(0).norm()  # the test can tell


def test_gradient_free_learns_nothing_without_noise(model, case):
    images, labels, noise = case
    gradient, _ = loss_gradient(model, images, labels, noise[:1] * 0, loss=None, estimator="gradient_free")
    assert not gradient.any()
    for attack_class in (pgd.PGD, ddn.DDN):
        attack = attack_class(epsilon=1.0, steps=3, estimator="gradient_free")
        wrong = model(images).argmin(1)
        assert torch.equal(attack(model, images, wrong, noise[:1] * 0), images)


class Hard(nn.Module):
    """The one-hot class of a linear classifier, as logits 0 and 50: nothing to differentiate."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, images):
        assert not torch.is_grad_enabled()
        return 50 * nn.functional.one_hot(self.linear(images).argmax(1), 2).double()


def test_gradient_free_attacks_a_hard_classifier(line):
    """Section 3.1: it needs no derivative of the base classifier; the optimum is that of the linear classifier."""
    linear, points, labels = line
    noise = torch.randn(5000, len(points), 20, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    attack = pgd.PGD(epsilon=0.5, steps=1, estimator="gradient_free", clamp=False)
    moved = attack(Hard(linear), points, labels, noise) - points
    assert ((moved * towards_boundary(linear, labels)).sum(1) > 0.9 * 0.5).all()


@pytest.mark.parametrize("parameters", [False, True])
def test_plug_in_refuses_what_is_not_differentiable(case, parameters):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(12, 4).double().requires_grad_(parameters)

        def forward(self, images):
            return self.linear(images.detach().flatten(1))

    for attack in (pgd.PGD, ddn.DDN, base_pgd.BasePGD):
        with pytest.raises(ModelError, match="not differentiable in the images"):
            attack(epsilon=1.0, steps=1)(Detached(), *case)


def test_a_gradient_that_is_not_finite(case):
    class Root(nn.Module):
        def forward(self, images):
            z = (images.flatten(1) - images.flatten(1).detach()).abs().sqrt()  # slope infinite, value 0
            return torch.stack([z.sum(1), -z.sum(1)], 1)

    images, labels, noise = case
    for attack in (pgd.PGD, ddn.DDN, base_pgd.BasePGD):
        with pytest.raises(ModelError, match=r"gradient .* not finite"):
            attack(epsilon=1.0, steps=1)(Root(), images, labels % 2, noise)


# PGD


ATTACKS_OF_THE_BASE = [pgd.PGD, base_pgd.BasePGD]


@pytest.mark.parametrize("attack", ATTACKS_OF_THE_BASE)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_pgd_reaches_the_optimum_of_a_linear_classifier(line, attack, steps):
    linear, points, labels = line
    result = attack(epsilon=0.7, steps=steps, clamp=False)(linear, points, labels, torch.zeros(1, *points.shape))
    torch.testing.assert_close(result, points + 0.7 * towards_boundary(linear, labels), rtol=0, atol=1e-12)


def test_pgd_reaches_the_optimum_of_a_smoothed_linear_classifier(line):
    """G depends on w x alone, so its gradient is along w whatever the noise."""
    linear, points, labels = line
    noise = torch.randn(3, *points.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    result = pgd.PGD(epsilon=0.7, steps=4, clamp=False)(linear, points, labels, noise)
    torch.testing.assert_close(result, points + 0.7 * towards_boundary(linear, labels), rtol=0, atol=1e-12)


@pytest.mark.parametrize("attack", ATTACKS_OF_THE_BASE)
def test_a_step_has_the_given_size(line, attack):
    linear, points, labels = line
    result = attack(epsilon=5.0, steps=3, step_size=0.2, clamp=False)(
        linear, points, labels, torch.zeros(1, *points.shape)
    )
    torch.testing.assert_close(result, points + 0.6 * towards_boundary(linear, labels), rtol=0, atol=1e-12)


def naive_pgd(model, image, label, noise, epsilon, steps):
    """One example, one step after the other, with its own arithmetic."""
    point = image.clone()
    for _ in range(steps):
        point.requires_grad_(True)
        p = sum(model((point + delta)[None]).softmax(1)[0, label] for delta in noise) / len(noise)
        (gradient,) = torch.autograd.grad(-p.log(), point)
        point = point.detach() + 2 * epsilon / steps * gradient / gradient.square().sum().sqrt()
        delta = point.clip(0, 1) - image
        length = delta.square().sum().sqrt()
        point = image + (delta if length <= epsilon else epsilon * delta / length)
    return point


@pytest.mark.parametrize(("epsilon", "steps"), [(0.1, 1), (0.5, 4), (2.0, 10)])
def test_pgd_equals_the_naive_version(model, case, epsilon, steps):
    images, labels, noise = case
    result = pgd.PGD(epsilon=epsilon, steps=steps)(model, images, labels, noise)
    examples = zip(images, labels, noise.transpose(0, 1), strict=True)
    expected = [naive_pgd(model, *example, epsilon, steps) for example in examples]
    torch.testing.assert_close(result, torch.stack(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("clamp", "epsilon"), [(False, 0.5), (False, 3.0), (True, 0.1)])
def test_pgd_without_noise_is_foolbox(model, case, clamp, epsilon):
    """Where no pixel meets a bound; there the two clamp in another order."""
    images, labels, noise = case
    images = 0.4 + 0.2 * images
    for steps in (1, 3, 20):
        ours = pgd.PGD(epsilon=epsilon, steps=steps, clamp=clamp)(model, images, labels, noise[:1] * 0)
        theirs = base_pgd.BasePGD(epsilon=epsilon, steps=steps, clamp=clamp)(model, images, labels, noise)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_pgd_raises_the_loss(model, case):
    images, labels, noise = case

    def losses(points):
        return -model((points + noise).flatten(0, 1)).softmax(1).view(4, 5, 4).mean(0)[torch.arange(5), labels].log()

    before = losses(images)
    little = losses(pgd.PGD(epsilon=0.02, steps=4)(model, images, labels, noise))
    much = losses(pgd.PGD(epsilon=0.5, steps=10)(model, images, labels, noise))
    assert (little > before).all()
    assert (much > little).all()


def test_pgd_follows_another_loss(line):
    """Its negative leads away from the boundary."""
    linear, points, labels = line

    def safer(log_p, labels):
        return log_p.gather(1, labels[:, None]).squeeze(1)

    noise = torch.zeros(1, *points.shape)
    result = pgd.PGD(epsilon=0.7, steps=2, clamp=False)(linear, points, labels, noise, loss=safer)
    torch.testing.assert_close(result, points - 0.7 * towards_boundary(linear, labels), rtol=0, atol=1e-12)


@pytest.mark.parametrize("margin", [30, 80])
def test_pgd_goes_on_where_float32_squares_underflow(margin):
    """1 - p is e^-80: the gradient's square is 0 in float32, its direction is not lost."""
    weight = torch.ones(4)
    linear = Linear(weight, bias=float(margin))
    images, labels = torch.full((1, 4), 0.5), torch.tensor([1])
    result = pgd.PGD(epsilon=0.2, steps=2)(linear, images, labels, torch.zeros(1, 1, 4))
    torch.testing.assert_close(result, images - 0.1)


def test_a_gradient_of_zero_moves_nothing(line):
    """In float64 1 - p is 0 from a margin of about 745 on."""
    linear, points, labels = line
    linear.scale = 1e6
    noise = torch.zeros(1, *points.shape)
    for attack in (pgd.PGD, ddn.DDN, base_pgd.BasePGD):
        assert torch.equal(attack(epsilon=1e-3, steps=3, clamp=False)(linear, points, labels, noise), points)


# The attack on the base classifier


def test_base_pgd_does_not_use_the_noise(model, case):
    images, labels, noise = case
    attack = base_pgd.BasePGD(epsilon=0.5, steps=3)
    assert torch.equal(attack(model, images, labels, noise), attack(model, images, labels, noise[:1] * 0))


def test_base_pgd_refuses_a_loss(model, case):
    with pytest.raises(ConfigError, match="loss: given; must be None"):
        base_pgd.BasePGD(epsilon=0.5, steps=3)(model, *case, loss=lambda log_p, labels: log_p[:, 0])


# DDN


def test_ddn_finds_the_distance_to_a_linear_boundary(line):
    """The direction is exact at once; of two norms next to each other, one is beyond the boundary."""
    linear, points, labels = line
    attack = ddn.DDN(epsilon=50.0, steps=400, gamma=0.01, levels=None, clamp=False)
    result = attack(linear, points, labels, torch.zeros(1, *points.shape))
    assert (linear(result).argmax(1) != labels).all()
    ratio = norms(result - points) / distances(linear, points)
    assert (ratio > 1).all()
    assert (ratio < 1.01 / 0.99).all()


@pytest.mark.parametrize("noisy", [False, True])
def test_ddn_on_levels_comes_as_near_as_they_let_it(noisy):
    generator = torch.Generator().manual_seed(7)
    linear = Linear(torch.randn(20, generator=generator, dtype=torch.float64))
    linear.bias = -0.5 * linear.weight.sum()
    images = torch.randint(100, 156, (8, 20), generator=generator).double() / 255
    noise = 0.1 * noisy * torch.randn(3, 8, 20, generator=generator, dtype=torch.float64)
    labels = smoothed(linear, images, noise)
    result = ddn.DDN(epsilon=5.0, steps=200)(linear, images, labels, noise)
    assert (smoothed(linear, result, noise) != labels).all()
    torch.testing.assert_close(result * 255, (result * 255).round(), rtol=0, atol=1e-9)
    if not noisy:
        rounding = math.sqrt(20) / 255
        assert (norms(result - images) < distances(linear, images) * 1.06 + rounding).all()


def smoothed(model, images, noise):
    logits = model((images + noise).flatten(0, 1))
    return logits.softmax(1).view(*noise.shape[:2], -1).mean(0).argmax(1)


def test_ddn_shortens_to_epsilon_what_it_finds_beyond(line):
    linear, points, labels = line
    epsilon = distances(linear, points).min().item() * 0.9
    attack = ddn.DDN(epsilon=epsilon, steps=400, levels=None, clamp=False)
    result = attack(linear, points, labels, torch.zeros(1, *points.shape))
    torch.testing.assert_close(result, points + epsilon * towards_boundary(linear, labels), rtol=0, atol=1e-12)


def test_ddn_returns_the_image_if_it_finds_nothing(line):
    linear, points, labels = line
    within = distances(linear, points).min().item() * 0.1
    attack = ddn.DDN(epsilon=50.0, initial_norm=within, steps=5, levels=None, clamp=False)
    assert torch.equal(attack(linear, points, labels, torch.zeros(1, *points.shape)), points)


def test_ddn_returns_what_is_misclassified_as_it_is(model, case):
    images, _, noise = case
    labels = smoothed(model, images, noise)
    labels[1] = (labels[1] + 1) % 4
    result = ddn.DDN(epsilon=1.0, steps=40)(model, images, labels, noise)
    assert torch.equal(result[1], images[1])
    assert (norms(result - images)[[0, 2, 3, 4]] > 0).all()


class Recorder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.model(images)


def test_ddn_returns_the_nearest_adversarial_point_it_tried(model, case):
    images, _, noise = case
    labels = model(images).argmax(1)
    recorder = Recorder(model)
    result = ddn.DDN(epsilon=100.0, steps=12)(recorder, images, labels, noise[:1] * 0)
    assert len(recorder.seen) == 12  # the point that the last step leads to is not tried
    assert torch.equal(recorder.seen[0], images)
    for i, label in enumerate(labels):
        tried = [points[i] for points in recorder.seen]
        adversarial = [point for point in tried if model(point[None]).argmax() != label]
        expected = min(adversarial, key=lambda point: (point - images[i]).norm()) if adversarial else tried[0]
        torch.testing.assert_close(result[i], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("initial_norm", "distance", "expected"),
    [
        (0.4, 9.0, [0, 0.44, 0.484, 0.5324, 0.58564]),
        (1.0, 0.95, [0, 1.1, 0.99, 0.891, 0.9801]),
    ],
)
def test_ddn_norms_follow_gamma_and_not_epsilon(initial_norm, distance, expected):
    recorder = Recorder(Linear(torch.tensor([0.6, 0.8], dtype=torch.float64), distance))
    attack = ddn.DDN(epsilon=0.3, steps=5, initial_norm=initial_norm, gamma=0.1, levels=None, clamp=False)
    attack(recorder, torch.zeros(1, 2, dtype=torch.float64), torch.tensor([1]), torch.zeros(1, 1, 2))
    assert [norms(tried).item() for tried in recorder.seen] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("steps", [2, 10, 60])
def test_ddn_is_foolbox_at_one_sample_of_zeros(model, case, steps):
    """Without levels and bound; its norms are float32."""
    images, _, noise = case
    labels = model(images).argmax(1)
    theirs = DDNAttack(steps=steps).run(PyTorchModel(model.eval(), bounds=(0, 1), device="cpu"), images, labels)
    ours = ddn.DDN(epsilon=100.0, steps=steps, levels=None)(model, images, labels, noise[:1] * 0)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert steps == 2 or not torch.equal(ours, images)
