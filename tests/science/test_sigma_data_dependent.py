"""DDRS Algorithm 1 against closed forms, an independent version in NumPy, and the counter-example of IDRS."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from scipy.stats import norm
from torch import nn

from certsmooth.errors import ConfigError, ModelError
from certsmooth.science.sigma.data_dependent import DataDependentSigma, probability_gap, radius_gradient
from certsmooth.science.soft import quantile_gap
from factories import Interval, quantiles, random_draw


class Probit(nn.Module):
    """P(class 1 | x) = Phi(w x + b), x in one dimension; smoothed, Phi((w x + b) / sqrt(1 + sigma^2 w^2))."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x):
        score = self.weight * x[:, 0] + self.bias
        return torch.stack([torch.special.log_ndtr(-score), torch.special.log_ndtr(score)], dim=1)


class Ball(nn.Module):
    """Class 1 in the unit ball (IDRS, Appendix C.2), with a step at its surface that torch can differentiate."""

    def forward(self, x):
        inside = torch.sigmoid(1e4 * (1 - x.norm(dim=1)))
        return 100.0 * torch.stack([1 - inside, inside], dim=1)


def policy(**options):
    return DataDependentSigma(
        **({"sigma": 0.5, "iterations": 1, "class_samples": 1, "variant": "class_held"} | options)
    )


def start(images, sigma=0.5):
    return torch.full((len(images),), sigma, dtype=torch.float64)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_gradient_has_its_closed_form(weight):
    """R(sigma) = sigma m / sqrt(1 + sigma^2 w^2), m = |w x + b|, so dR/dsigma = m / (1 + sigma^2 w^2)^1.5."""
    images = torch.tensor([[0.7], [-1.2], [2.0]], dtype=torch.float64)
    sigma = torch.tensor([0.3, 0.8, 1.5], dtype=torch.float64)
    model = Probit(weight, 0.3)
    margin = weight * images[:, 0] + 0.3
    held = (margin > 0).long()
    found = radius_gradient(model, images, sigma, quantiles(40_001, images), lambda p: quantile_gap(p, held) / 2)
    exact = margin.abs() / (1 + (sigma * weight) ** 2) ** 1.5
    torch.testing.assert_close(found, exact, rtol=2e-4, atol=0)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_gradient_in_l1_has_its_closed_form(weight):
    """If m = |w x + b| and uniform noise, R = lambda (2 p - 1) has slope Phi(m + lambda w) + Phi(m - lambda w) - 1."""
    images = torch.tensor([[0.7], [-1.2], [2.0]], dtype=torch.float64)
    sigma = torch.tensor([0.3, 0.8, 1.5], dtype=torch.float64)
    margin = weight * images[:, 0] + 0.3
    held = (margin > 0).long()
    noise = quantiles(40_001, images, "l1")
    found = radius_gradient(Probit(weight, 0.3), images, sigma, noise, lambda p: probability_gap(p, held))
    phi = torch.special.ndtr
    exact = phi(margin.abs() + sigma * weight) + phi(margin.abs() - sigma * weight) - 1
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=0)


def radius(model, x, sigma, held, norm_of="l2"):
    """Return R by quadrature with SciPy, for images in one dimension."""
    levels = (np.arange(4001) + 0.5) / 4001
    noise = ndtri(levels) if norm_of == "l2" else 2 * levels - 1
    with torch.no_grad():
        p = model(torch.tensor(x + sigma * noise)[:, None]).softmax(1).mean(0).numpy()
    if norm_of == "l1":
        return sigma * (p[held] - p[1 - held])
    return sigma / 2 * (norm.ppf(p[held]) - norm.ppf(p[1 - held]))


def test_gradient_is_the_finite_difference():
    images = torch.tensor([[0.4]], dtype=torch.float64)
    ratio = lambda p: quantile_gap(p, torch.tensor([1])) / 2  # noqa: E731
    found = radius_gradient(Interval(), images, start(images, 0.6), quantiles(4001, images), ratio)
    h = 1e-5
    difference = (radius(Interval(), 0.4, 0.6 + h, 1) - radius(Interval(), 0.4, 0.6 - h, 1)) / (2 * h)
    assert found.item() == pytest.approx(difference, rel=1e-6)


@pytest.mark.parametrize("norm_of", ["l1", "l2"])
def test_ascent_finds_the_maximum(norm_of):
    images = torch.tensor([[0.1]], dtype=torch.float64)
    ascent = policy(sigma=0.2, iterations=300, samples=501, step=0.02, norm=norm_of)
    noise = quantiles(501, images, norm_of)
    found = ascent(Interval(), images, start(images, 0.2), lambda step: noise).item()
    grid = np.linspace(0.05, 1.5, 581)
    best = grid[np.argmax([radius(Interval(), 0.1, s, 1, norm_of) for s in grid])]
    assert found == pytest.approx(best, abs=0.01)
    assert radius(Interval(), 0.1, found, 1, norm_of) > radius(Interval(), 0.1, 0.2, 1, norm_of)


def naive(model_weight, model_bias, image, sigma, noises, options):
    """Algorithm 1 for one image and a linear softmax model, in NumPy, with the gradient derived by hand."""
    draws = math.ceil(options.class_samples / options.samples) if options.variant == "class_held" else 0

    def probabilities(noise, sigma):
        z = (image + sigma * noise) @ model_weight.T + model_bias
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        dz = noise @ model_weight.T
        return p.mean(0), (p * (dz - (p * dz).sum(1, keepdims=True))).mean(0)

    held = np.argmax(sum(probabilities(noise, sigma)[0] for noise in noises[:draws])) if draws else None
    for noise in noises[draws : draws + options.iterations]:
        p, dp = probabilities(noise, sigma)
        order = np.argsort(-p, kind="stable")
        a = order[0] if held is None else held
        b = next(c for c in order if c != a)
        if options.variant == "published_program":
            dp = np.where((p < 0.02) | (p > 0.98), 0.0, dp)
            p = np.clip(p, 0.02, 0.98)
        if options.norm == "l1":
            gradient = p[a] - p[b] + sigma * (dp[a] - dp[b])
        else:
            quantile = norm.ppf(p)
            slope = dp / norm.pdf(quantile)
            gradient = (quantile[a] - quantile[b]) / 2 + sigma / 2 * (slope[a] - slope[b])
        sigma = min(max(sigma + options.step * gradient, options.lower), options.upper)
    return sigma


KINDS = pytest.mark.parametrize(
    ("norm_of", "variant"),
    [
        ("l2", "class_held"),
        ("l2", "algorithm_1"),
        ("l2", "published_program"),
        ("l1", "class_held"),
        ("l1", "algorithm_1"),
    ],
)


@KINDS
@pytest.mark.parametrize("samples", [1, 3])
def test_equals_an_independent_version(norm_of, variant, samples):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 5)).double()
    images = torch.rand(6, 2, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        model[1].weight *= 4  # probabilities on both sides of 0.02 and 0.98
    lower = 0.45 if norm_of == "l2" else 0.495  # acts on some of the images
    options = DataDependentSigma(
        sigma=0.5,
        iterations=25,
        samples=samples,
        step=0.01,
        lower=lower,
        variant=variant,
        norm=norm_of,
        class_samples=7,
    )
    draw = random_draw(samples, images, norm_of)
    found = options(model, images, start(images), draw)
    weight, bias = (p.detach().numpy() for p in model[1].parameters())
    noises = [draw(step).flatten(2).numpy() for step in range(40)]
    for i, image in enumerate(images.flatten(1).numpy()):
        expected = naive(weight, bias, image, 0.5, [noise[:, i] for noise in noises], options)
        assert found[i].item() == pytest.approx(expected, abs=1e-6)
    assert found.std() > 1e-3  # the images differ, or this would show little


def test_fewer_steps_are_a_prefix_of_more():
    torch.manual_seed(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images = torch.rand(3, 1, 2, 2)
    asked = []

    def recorded(step):
        asked.append(step)
        return random_draw(1, images)(step)

    with_100 = policy(iterations=100)(model, images, start(images), recorded)
    # From there, 800 steps more with the draws that follow and the same held class: the end of K = 900.
    first = asked[-1] + 1
    rest = policy(iterations=800)
    shifted = lambda step: random_draw(1, images)(0 if step == 0 else first + step - 1)  # noqa: E731
    with_900 = policy(iterations=900)(model, images, start(images), random_draw(1, images))
    torch.testing.assert_close(rest(model, images, with_100, shifted), with_900, rtol=0, atol=0)


@KINDS
def test_several_numbers_of_steps_take_the_forward_passes_of_the_most(norm_of, variant):
    """K = 100, 300 and 900 of the paper, with a hundredth of the steps: 9 passes in the place of 13."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images, passes = torch.rand(3, 1, 2, 2), []
    model.register_forward_hook(lambda *_: passes.append(1))
    policies = [policy(iterations=k, variant=variant, norm=norm_of, class_samples=2) for k in (1, 3, 9)]
    draw = random_draw(1, images, norm_of)
    together = policies[0].together(policies, model, images, start(images), draw)
    held = 2 if variant == "class_held" else 0
    assert len(passes) == held + 9
    alone = torch.stack([each(model, images, start(images), draw) for each in policies])
    assert len(passes) == held + 9 + 3 * held + 13
    assert torch.equal(together, alone)
    assert len(alone[:, 0].unique()) == 3


def test_policies_that_differ_in_more_take_their_own_ways():
    torch.manual_seed(6)
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(3, 1, 2, 2)
    policies = [policy(iterations=3), policy(iterations=3, step=0.1), policy(iterations=2, variant="algorithm_1")]
    draw = random_draw(1, images)
    together = policies[0].together(policies, model, images, start(images), draw)
    assert torch.equal(together, torch.stack([each(model, images, start(images), draw) for each in policies]))
    assert len(together[:, 0].unique()) == 3


@pytest.mark.parametrize("variant", ["algorithm_1", "published_program"])
def test_only_where_the_class_is_held_it_cannot_flip(variant):
    """At x = 0 and sigma0 = 0.8 class 1 leads; a walk of large samples makes class 0 lead at larger sigma."""
    images = torch.zeros(1, 1, dtype=torch.float64)
    noise = quantiles(201, images)
    one_sided = noise[noise[:, 0, 0] > 1.5]  # samples that fall outside of the interval once sigma > 2/3
    options = {"sigma": 0.8, "iterations": 400, "samples": len(one_sided), "step": 0.01}

    def draw(step):
        return one_sided

    holding = policy(**options, class_samples=1)
    choosing = policy(**options, variant=variant)

    def first_whole(step):
        return noise[torch.linspace(0, 200, len(one_sided)).long()] if step == 0 else one_sided

    held = holding(Interval(), images, start(images, 0.8), first_whole).item()
    flipped = choosing(Interval(), images, start(images, 0.8), draw).item()

    def predicted(sigma):
        return Interval()((images + sigma * noise)[:, 0]).softmax(1).mean(0).argmax().item()

    assert predicted(0.8) == 1
    assert predicted(held) == 1
    assert held < 0.8
    assert flipped == choosing.upper
    assert predicted(flipped) == 0


def test_the_ball_drives_sigma_to_its_upper_bound():
    """IDRS, Appendix C.2: at (50, 0) R grows without end; so does it at 0 once class 0 leads."""
    images = torch.tensor([[50.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    options = policy(sigma=8.0, iterations=400, step=0.1, upper=100.0, class_samples=64)
    found = options(Ball(), images, start(images, 8.0), random_draw(1, images))
    assert found.tolist() == [100.0, 100.0]


@KINDS
def test_sigma_stays_in_its_bounds_at_huge_steps(norm_of, variant):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    images = torch.rand(8, 1, 2, 2, dtype=torch.float64)
    seen = set()
    for k in range(12):
        options = policy(iterations=k, step=50.0, lower=0.3, upper=0.9, variant=variant, norm=norm_of)
        sigma = options(model, images, start(images), random_draw(1, images, norm_of))
        assert ((sigma >= 0.3) & (sigma <= 0.9)).all()
        seen |= set(sigma.tolist())
    assert {0.3, 0.9} <= seen if variant != "published_program" else 0.9 in seen
    assert policy(iterations=0, lower=0.4)(model, images, start(images, 0.1), None).tolist() == [0.4] * 8


@pytest.mark.parametrize("logit", [1e-3, 40.0, 1e3, 1e30])
@KINDS
def test_gradients_are_finite_however_sure_the_model_is(logit, norm_of, variant):
    class Steep(nn.Module):
        def forward(self, x):
            return logit * torch.stack([x[:, 0], -x[:, 0], x[:, 0] / 2], dim=1)

    images = torch.tensor([[1.0], [-1.0], [0.0]])
    options = policy(iterations=20, variant=variant, norm=norm_of, step=1e-3, class_samples=8)
    sigma = options(Steep(), images, start(images), random_draw(1, images, norm_of))
    assert sigma.isfinite().all()


def test_the_quantile_is_exact_in_the_tails():
    """Phi^-1(1 - 1e-30) is +-11.46 by symmetry, though 1 - 1e-30 is 1 in double precision."""
    log_p = torch.tensor([[math.log(1e-30), math.log1p(-1e-30)]], dtype=torch.float64)
    gap = quantile_gap(log_p, torch.tensor([1])).item()
    assert gap == pytest.approx(-2 * ndtri(1e-30), rel=1e-12)
    assert quantile_gap(log_p, torch.tensor([0])).item() == pytest.approx(-gap, rel=1e-12)


def test_the_class_is_estimated_from_whole_draws():
    images = torch.zeros(2, 1)
    for samples, class_samples, draws in ((1, 64, 64), (8, 64, 8), (5, 64, 13), (100, 64, 1)):
        asked = []

        def draw(step, asked=asked, samples=samples):
            asked.append(step)
            return torch.ones(samples, 2, 1)

        options = policy(iterations=3, samples=samples, class_samples=class_samples)
        options(Interval(), images, start(images), draw)
        assert asked == list(range(draws + 3))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: torch.full((len(x), 3), math.nan), "not finite"),
        (lambda x: torch.full((len(x), 3), math.inf), "not finite"),
        (lambda x: x[:, 0], r"returned \[\d+\]"),
        (lambda x: x[:1], r"returned \[1, 1\]"),
        (lambda x: x, "k >= 2"),
        (lambda x: (x, x), "tuple"),
    ],
)
def test_refuses_what_is_not_logits(output, message):
    class Broken(nn.Module):
        def forward(self, x):
            return output(x)

    images = torch.rand(3, 1)
    with pytest.raises(ModelError, match=message):
        policy()(Broken(), images, start(images), random_draw(1, images))


def test_sigma_outside_of_the_bounds_is_refused():
    with pytest.raises(ConfigError, match=r"sigma: 3.0; must be in \[lower, upper\] = \[0.01, 2.0\]"):
        policy(sigma=3.0)
    with pytest.raises(ConfigError, match="did you mean 'algorithm_1'"):
        policy(variant="algorithm")


def test_the_program_has_no_l1():
    with pytest.raises(
        ConfigError, match="variant: 'published_program'; must be 'algorithm_1' or 'class_held' with norm 'l1'"
    ):
        policy(variant="published_program", norm="l1")
