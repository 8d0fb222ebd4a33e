"""IDRS Algorithm 2 against a plain version, closed forms, and the searches that it is made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from torch import nn

from certsmooth.errors import ConfigError, ModelError
from certsmooth.science.sigma.multi_start import MultiStartSigma
from factories import Interval, quantiles, random_draw


def run(policy, model, images, draw):
    return policy(model, images, torch.full((len(images),), policy.sigma0, dtype=torch.float64), draw)


def naive(policy, weight, bias, image, noises):
    """The algorithm for one image and a linear softmax model, one search after the other, in NumPy."""

    def radius(multiple, step):
        sigma = min(max(math.sqrt(multiple) * policy.sigma, policy.lower), policy.upper)
        z = (image + sigma * noises[step]) @ weight.T + bias
        e = np.exp(z - z.max(1, keepdims=True))
        return sigma * ndtri((e / e.sum(1, keepdims=True)).mean(0).max()), sigma

    ends = []
    for multiple, s in policy.searches():
        best, step = radius(multiple, 0), 1
        while 1 <= multiple <= policy.largest and step <= policy.steps:
            tried = radius(multiple + s, step)
            if tried[0] < best[0]:
                break
            multiple, best, step = multiple + s, tried, step + 1
        ends.append(best)
    return max(ends)[1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"starts": 1},
        {"starts": 7, "steps": 40, "largest": 9.0},
        {"steps": 0},
        {"upper": 0.9, "lower": 0.4},
        {"evaluation_samples": 31, "samples": 10},  # rounded up to 40
    ],
)
def test_equals_a_plain_version(options):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 5)).double()
    images = torch.rand(8, 2, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        model[1].weight *= torch.linspace(0.5, 8, 5).double()[:, None]
    policy = MultiStartSigma(**({"sigma": 0.5, "evaluation_samples": 40, "samples": 20} | options))
    draw = random_draw(policy.samples, images)
    found = run(policy, model, images, draw)
    weight, bias = (p.detach().numpy() for p in model[1].parameters())
    draws = math.ceil(policy.evaluation_samples / policy.samples)
    parts = [draw(number).flatten(2).numpy() for number in range((policy.steps + 1) * draws)]
    noises = [np.concatenate(parts[i : i + draws]) for i in range(0, len(parts), draws)]
    for i, image in enumerate(images.flatten(1).numpy()):
        expected = naive(policy, weight, bias, image, [noise[:, i] for noise in noises])
        assert found[i].item() == pytest.approx(expected, rel=1e-12)
    assert len(found.unique()) > 1 or options in ({"starts": 1}, {"steps": 0})


def radius(x, sigma):
    """Sigma Phi^-1(p_A) of the interval, by quadrature with SciPy."""
    noise = ndtri((np.arange(4001) + 0.5) / 4001)
    p = Interval()(torch.tensor(x + sigma * noise)[:, None]).softmax(1).mean(0).numpy()
    return sigma * ndtri(p.max())


def test_finds_the_best_of_its_local_maxima():
    """Sigma from 0.2 to 0.8: R at x = 0.1 rises, falls, and rises again when class 0 wins, without end."""
    images = torch.tensor([[0.1]], dtype=torch.float64)
    policy = MultiStartSigma(sigma=0.2, starts=16, steps=60, evaluation_samples=1001, samples=1001)
    found = run(policy, Interval(), images, lambda step: quantiles(1001, images)).item()
    grid = np.sqrt(np.linspace(1, 16, 301)) * 0.2
    best = max(radius(0.1, s) for s in grid)
    assert radius(0.1, found) == pytest.approx(best, rel=0.02)
    assert best > 1.1 * radius(0.1, 0.2)


def test_goes_to_the_largest_where_sigma_changes_no_probability():
    """R = sigma Phi^-1(p): every search with s > 0 goes up to the end, the first step out of [1, largest] included."""

    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([2.0, 0.0]).expand(len(x), 2)

    images = torch.zeros(3, 1, 2, 2)
    policy = MultiStartSigma(sigma=0.1, starts=5, steps=200, evaluation_samples=2, samples=2)
    found = run(policy, Constant(), images, random_draw(2, images))
    ends = [start + s * math.ceil((16 - start + 1e-12) / s) for start, s in policy.searches() if s > 0]
    torch.testing.assert_close(found, torch.full((3,), 0.1 * math.sqrt(max(ends)), dtype=torch.float64))


def test_searches_cover_the_intervals():
    pairs = MultiStartSigma(sigma=0.1, starts=64, largest=16.0).searches()
    assert ((pairs[:, 0] >= 1) & (pairs[:, 0] <= 16)).all()
    assert (np.abs(pairs[:, 1]) < 1).all()
    assert (pairs[:, 1] != 0).all()
    counts = np.histogram2d(*pairs.T, bins=4, range=((1, 16), (-1, 1)))[0]
    assert counts.min() >= 2
    assert np.array_equal(MultiStartSigma(sigma=0.1, starts=5).searches(), pairs[:5])


def test_sharp_classifiers_give_finite_sigma():
    """Logits of thousands: p_A is 1 to any precision."""

    class Sharp(nn.Module):
        def forward(self, x):
            return 1e4 * torch.stack([x[:, 0], -x[:, 0]], dim=1)

    images = torch.tensor([[30.0], [-0.01]])
    found = run(MultiStartSigma(sigma=0.5), Sharp(), images, random_draw(50, images))
    assert ((found >= 0.01) & (found <= 2.0)).all()


def test_stops_asking_when_every_search_has_ended():
    asked = []
    images = torch.tensor([[0.1]], dtype=torch.float64)

    def draw(step):
        asked.append(step)
        return random_draw(50, images)(step)

    policy = MultiStartSigma(sigma=0.2, starts=2, steps=1000, evaluation_samples=100)
    run(policy, Interval(), images, draw)
    assert asked == list(range(len(asked)))
    assert len(asked) < 500


def test_a_model_that_is_not_a_classifier():
    images = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ModelError, match="logits"):
        run(MultiStartSigma(sigma=0.5), nn.Identity(), images, random_draw(50, images))


def test_sigma_outside_its_bounds():
    with pytest.raises(ConfigError, match=r"sigma: 3.0; must be in \[lower, upper\]"):
        MultiStartSigma(sigma=3.0)
    with pytest.raises(ConfigError, match=r"lower: 0.5; must be below upper, which is 0.4"):
        MultiStartSigma(sigma=0.45, lower=0.5, upper=0.4)
