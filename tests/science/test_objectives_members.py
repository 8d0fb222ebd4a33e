"""What each training objective reduces to, where it is extreme, and which options it refuses."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from certsmooth._internal.registry import member, names
from certsmooth.errors import ConfigError, ModelError
from certsmooth.science.attacks.pgd import PGD
from certsmooth.science.objectives import (
    Batch,
    adre,
    cat_rs,
    consistency,
    expected_radius,
    gaussian,
    macer,
    smoothadv,
    smoothmix,
    stability,
    standard,
)

DTYPES = [torch.float32, torch.float64]
ATTACK = {"epsilon": 0.5, "steps": 3, "warmup_epochs": 0}


@pytest.fixture(params=DTYPES, ids=str)
def case(request):
    """Model, images, labels and sigma; the model is of the dtype, sigma is float64."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)).to(request.param)
    images = torch.rand(7, 3, 8, 8, dtype=request.param)
    labels = torch.tensor([0, 3, 1, 2, 4, 4, 0])
    sigma = torch.linspace(0.1, 1, 7, dtype=torch.float64)
    return model, images, labels, sigma


class Constant(nn.Module):
    """Logits that do not depend on the image: one row for each image of the batch, the same at each noise sample."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x):
        return self.logits.repeat(len(x) // len(self.logits), 1) + 0 * x.flatten(1).sum(1, keepdim=True)


def loss_of(objective, model, images, labels, sigma, *, epoch=0, seed=5):
    generator = torch.Generator().manual_seed(seed)

    def draw(samples):
        return torch.randn(samples, *images.shape, generator=generator, dtype=images.dtype)

    return objective(model, Batch(images, labels, sigma, draw, epoch))


def constant_case(rows, dtype):
    """Return model, images, labels 0 and sigma 0.5 for rows of logits."""
    logits = torch.tensor(rows, dtype=dtype)
    b = len(logits)
    images, labels = torch.rand(b, 1, 2, 2, dtype=dtype), torch.zeros(b, dtype=torch.long)
    return Constant(logits), images, labels, torch.full((b,), 0.5, dtype=torch.float64)


def gradients(objective, case):
    model = copy.deepcopy(case[0])
    loss_of(objective, model, *case[1:]).mean().backward()
    return [p.grad for p in model.parameters()]


# Reductions to Gaussian augmentation.


@pytest.mark.parametrize(
    "objective",
    [
        smoothadv.SmoothAdv(epsilon=0.0, samples=1),
        smoothadv.SmoothAdv(epsilon=0, samples=1, attacker="ddn"),
        smoothadv.SmoothAdv(epsilon=0.0, samples=1, target="base"),
        adre.ADRE(weight=0.0, samples=1),
        adre.ADRE(weight=0, samples=1, single_loss_sample=True),
        expected_radius.ExpectedRadius(weight=0, samples=1),
        stability.Stability(weight=0.0),
        consistency.Consistency(samples=1, weight=0, entropy_weight=0),
    ],
    ids=str,
)
def test_is_exactly_the_gaussian_objective(objective, case):
    expected = loss_of(gaussian.GaussianAugmentation(), *case)
    assert torch.equal(loss_of(objective, *case), expected)
    for found, wanted in zip(gradients(objective, case), gradients(gaussian.GaussianAugmentation(), case), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    "objective",
    [
        smoothadv.SmoothAdv(epsilon=0, samples=4),
        adre.ADRE(weight=0, samples=4),
        consistency.Consistency(samples=4, weight=0, entropy_weight=0),
        smoothmix.SmoothMix(samples=4, weight=0),
    ],
)
def test_many_samples_are_the_mean_of_gaussian_losses(objective, case):
    model, images, labels, sigma = case
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((4, *images.shape), generator=generator, dtype=images.dtype)
    noise = noise * sigma.to(images.dtype).view(-1, 1, 1, 1)
    expected = torch.stack([F.cross_entropy(model(images + d), labels, reduction="none") for d in noise]).mean(0)
    torch.testing.assert_close(loss_of(objective, *case), expected, rtol=0, atol=1e-6)


def test_standard_is_the_clean_cross_entropy(case):
    model, images, labels, _ = case
    assert torch.equal(loss_of(standard.Standard(), *case), F.cross_entropy(model(images), labels, reduction="none"))


@pytest.mark.parametrize("weight", [0.0, 12.0])
def test_macer_without_noise_is_cross_entropy_and_no_radius(case, weight):
    model, images, labels, sigma = case
    loss = loss_of(macer.MACER(samples=3, weight=weight), model, images, labels, torch.zeros_like(sigma))
    torch.testing.assert_close(loss, F.cross_entropy(model(images), labels, reduction="none"), rtol=0, atol=1e-6)


def test_macer_of_weight_zero_is_the_log_of_the_mean_softmax(case):
    model, images, labels, sigma = case
    noise = torch.randn((3, *images.shape), generator=torch.Generator().manual_seed(5), dtype=images.dtype)
    noise = noise * sigma.to(images.dtype).view(-1, 1, 1, 1)
    p = torch.stack([model(images + d).softmax(1) for d in noise]).mean(0)
    loss = loss_of(macer.MACER(samples=3, weight=0), *case)
    torch.testing.assert_close(loss, -p[torch.arange(7), labels].log(), rtol=0, atol=1e-6)


# SmoothAdv and ADRE: the attack.


@pytest.mark.parametrize(
    ("warmup_epochs", "epoch", "radius"),
    [(10, 0, 0.05), (10, 4, 0.25), (10, 9, 0.5), (10, 500, 0.5), (1, 0, 0.5), (0, 0, 0.5)],
)
@pytest.mark.parametrize("make", [smoothadv.SmoothAdv, lambda **options: adre.ADRE(weight=0.1, **options)])
def test_the_radius_grows_linearly_over_the_warmup(monkeypatch, case, make, warmup_epochs, epoch, radius):
    seen = []
    real = PGD.__call__

    def call(self, *args, **kwargs):
        adversarial = real(self, *args, **kwargs)
        seen.append((self.epsilon, (adversarial - args[1]).flatten(1).norm(dim=1).max().item()))
        return adversarial

    monkeypatch.setattr(PGD, "__call__", call)
    loss_of(make(epsilon=0.5, warmup_epochs=warmup_epochs), *case, epoch=epoch)
    assert seen == [(pytest.approx(radius), pytest.approx(radius, rel=1e-5))]


def test_attack_and_update_have_the_same_noise(monkeypatch, case):
    model, images, labels, _ = case
    seen = []

    def call(self, model, images, labels, noise, *, loss=None):
        seen.append(noise)
        return images

    monkeypatch.setattr(PGD, "__call__", call)
    loss = loss_of(smoothadv.SmoothAdv(samples=3, **ATTACK), *case)
    expected = torch.stack([F.cross_entropy(model(images + d), labels, reduction="none") for d in seen[0]]).mean(0)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    loss_of(adre.ADRE(weight=0.1, samples=3, **ATTACK), *case)
    assert torch.equal(seen[1], seen[0])
    loss_of(smoothadv.SmoothAdv(samples=3, target="base", **ATTACK), *case)
    assert torch.equal(seen[2], torch.zeros_like(images)[None])


@pytest.mark.parametrize(
    "objective",
    [
        smoothadv.SmoothAdv(samples=2, **ATTACK),
        adre.ADRE(weight=0.3, samples=2, **ATTACK),
        smoothmix.SmoothMix(samples=2),
        cat_rs.CATRS(samples=2),
    ],
)
def test_nothing_is_differentiated_through_the_attack(monkeypatch, case, objective):
    found = []
    real = PGD.__call__

    def call(self, *args, **kwargs):
        found.append(real(self, *args, **kwargs))
        return found[-1]

    monkeypatch.setattr(PGD, "__call__", call)
    free = gradients(objective, case)
    constant = found[0].detach().clone()
    monkeypatch.setattr(PGD, "__call__", lambda self, *args, **kwargs: constant)
    for a, b in zip(free, gradients(objective, case), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(constant, case[1])


def test_the_attack_runs_in_evaluation_mode_and_the_update_in_training_mode(case):
    _, images, labels, sigma = case
    modes = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).to(images.dtype).train()
    model.register_forward_hook(lambda module, _, __: modes.append(module.training))
    loss_of(smoothadv.SmoothAdv(samples=2, **ATTACK), model, images, labels, sigma)
    assert modes == [False, False, False, True]


def test_adre_attacks_its_own_objective(monkeypatch, case):
    losses = []

    def call(self, model, images, labels, noise, *, loss=None):
        losses.append(loss)
        return images

    monkeypatch.setattr(PGD, "__call__", call)
    loss_of(adre.ADRE(weight=0.3, **ATTACK), *case)
    p = torch.tensor([[0.5, 0.1, 0.4], [0.1, 0.2, 0.7]], dtype=torch.float64)
    value = losses[0](p.log(), torch.tensor([0, 2]))
    expected = [-math.log(0.5) + 0.3 * math.log(0.4), -math.log(0.7) + 0.3 * math.log(0.2)]
    assert value.tolist() == pytest.approx(expected, abs=1e-12)


# Extreme logits.

LARGEST = 1e30
EXTREME = [
    [1e3, -1e3, 0.0],
    [-1e3, 1e3, 0.0],
    [1e3, 1e3, 1e3],
    [0.0, 0.0, 0.0],
    [-1e3, -1e3, 1e3],
    [1e3, 1e3 - 0.1, -1e3],
    [30.0, 0.0, 0.0],
    [LARGEST, -LARGEST, 0.0],
    [-LARGEST, LARGEST, 0.0],
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "objective",
    [
        macer.MACER(samples=2),
        macer.MACER(samples=3, gamma=1e3, beta=1.0),
        adre.ADRE(weight=0.3),
        adre.ADRE(weight=2.0, single_loss_sample=True),
        expected_radius.ExpectedRadius(weight=2.0),
        stability.Stability(weight=2.0),
        smoothadv.SmoothAdv(epsilon=0),
        consistency.Consistency(),
        smoothmix.SmoothMix(),
        cat_rs.CATRS(),
    ],
    ids=str,
)
def test_extreme_logits_have_finite_loss_and_gradient(objective, dtype):
    model, *rest = constant_case(EXTREME, dtype)
    loss = loss_of(objective, model, *rest)
    assert loss.dtype == dtype
    assert loss.isfinite().all()
    loss.sum().backward()
    assert model.logits.grad.isfinite().all()


@pytest.mark.parametrize(
    "objective",
    [
        macer.MACER(),
        adre.ADRE(weight=0.1),
        expected_radius.ExpectedRadius(weight=0.1),
        consistency.Consistency(),
        smoothmix.SmoothMix(),
        cat_rs.CATRS(),
    ],
)
def test_logits_that_are_not_finite_are_refused(objective):
    with pytest.raises(ModelError, match="not finite"):
        loss_of(objective, *constant_case([[0.0, math.nan, 1.0]], torch.float64))


@pytest.mark.parametrize("margin", [1.0, 50.0, 1e3, 1e6])
def test_adre_falls_without_end_by_its_weight_per_unit_of_margin(margin):
    model, *rest = constant_case([[margin, 0.0]], torch.float64)
    loss = loss_of(adre.ADRE(weight=0.3), model, *rest)
    expected = math.log1p(math.exp(-margin)) - 0.3 * (margin + math.log1p(math.exp(-margin)))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    p = 1 / (1 + math.exp(-margin))
    assert model.logits.grad[0, 0].item() == pytest.approx(-(1 - p) - 0.3 * p, rel=1e-9)
    assert model.logits.grad.abs().max() <= 1.3


def test_the_expected_radius_by_hand():
    """p = 0.8, 0.2: the gap is 2 Phi^-1(0.8) = 1.683242467, whichever of the two is the label."""
    z = math.log(4)
    loss = loss_of(expected_radius.ExpectedRadius(weight=0.5), *constant_case([[z, 0.0], [0.0, z]], torch.float64))
    assert loss.tolist() == pytest.approx([-math.log(each) - 0.5 * 1.6832424671 for each in (0.8, 0.2)], abs=1e-8)


@pytest.mark.parametrize(("weight", "grows"), [(0.3, False), (0.39, False), (0.41, True), (3.0, True)])
def test_the_expected_radius_holds_a_wrong_example_where_its_weight_is_large(weight, grows):
    """Near margin 0 of two classes a wrong example gets worse for weights above phi(0) = 0.399, by ADRE never."""
    for objective in (expected_radius.ExpectedRadius(weight=weight), adre.ADRE(weight=weight)):
        model, *rest = constant_case([[0.0, 0.001]], torch.float64)  # the label is the first
        loss_of(objective, model, *rest).backward()
        assert (model.logits.grad[0, 1] < 0) == (grows and objective.member_name() == "expected_radius")


def test_a_wrong_example_rests_at_the_margin_where_both_terms_are_in_balance():
    margins = torch.linspace(0, 100, 20001, dtype=torch.float64)
    rows = torch.stack([torch.zeros_like(margins), margins], 1).tolist()
    loss = loss_of(expected_radius.ExpectedRadius(weight=5.0, samples=1), *constant_case(rows, torch.float64))
    assert margins[loss.argmin()] == pytest.approx(2 * 5**2, rel=0.1)


def test_macer_hinge_by_hand():
    """Two equal samples with p = 0.8, 0.2: the gap is 2 Phi^-1(0.8) = 1.683242467; wrong class: no second term."""
    z = math.log(4)
    case = constant_case([[z, 0.0], [0.0, z]], torch.float64)
    near = loss_of(macer.MACER(samples=2, beta=1, gamma=2, weight=12), *case)
    assert near.tolist() == pytest.approx([-math.log(0.8) + 12 * 0.25 * (2 - 1.6832424671), -math.log(0.2)], abs=1e-8)
    far = loss_of(macer.MACER(samples=2, beta=1, gamma=1.6, weight=12), *case)
    assert far.tolist() == pytest.approx([-math.log(0.8), -math.log(0.2)], abs=1e-12)


def test_macer_beta_is_only_in_the_robustness_term():
    """beta = 0.5 and logits 2 log 4 give p = 0.8 in the second term, and 16 / 17 in the first."""
    case = constant_case([[2 * math.log(4), 0.0]], torch.float64)
    loss = loss_of(macer.MACER(samples=2, beta=0.5, gamma=2, weight=12), *case)
    assert loss.item() == pytest.approx(-math.log(16 / 17) + 12 * 0.25 * (2 - 1.6832424671), abs=1e-8)


def test_stability_is_by_hand():
    """Logits that ignore the image: H(F(x), F(x + delta)) is the entropy of F(x)."""
    case = constant_case([[math.log(4), 0.0]], torch.float64)
    entropy = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)
    assert loss_of(stability.Stability(weight=2), *case).item() == pytest.approx(-math.log(0.8) + 2 * entropy)


# Consistency, SmoothMix, CAT-RS.


@pytest.mark.parametrize("law", names("noise"))
def test_uniform_numbers_are_uniform_whatever_the_law_of_the_noise(law):
    """By Kolmogorov and Smirnov; neighbours are not correlated, and every draw is new."""
    generator, images = torch.Generator().manual_seed(3), torch.rand(5000, 2)

    def draw(samples):
        noise = torch.empty(samples, *images.shape)
        member("noise", law)().from_generator(generator, noise)
        return noise

    batch = Batch(images, torch.zeros(5000, dtype=torch.long), torch.ones(5000), draw, 0)
    first = batch.uniforms(3)
    assert first.shape == (3, 5000)
    assert 0 < first.min() < first.max() < 1
    for each in first:
        expected = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
        assert (each.sort().values - expected).abs().max() < 1.95 / math.sqrt(5000)  # 1 in 1,000 by chance
    pairs = torch.corrcoef(torch.cat([first, batch.uniforms(1)]))
    assert (pairs - torch.eye(4)).abs().max() < 4 / math.sqrt(5000)


def test_consistency_by_hand():
    """Logits that ignore the noise disagree nowhere: cross entropy, and the entropy of the prediction."""
    case = constant_case([[math.log(4), 0.0]], torch.float64)
    entropy = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)
    found = loss_of(consistency.Consistency(weight=10, entropy_weight=0.5), *case)
    assert found.item() == pytest.approx(-math.log(0.8) + 0.5 * entropy)


def test_consistency_with_equal_weights_is_the_cross_entropy_with_the_mean_prediction(case):
    model, images, labels, sigma = case
    noise = torch.randn((3, *images.shape), generator=torch.Generator().manual_seed(5), dtype=images.dtype)
    noise = noise * sigma.to(images.dtype).view(-1, 1, 1, 1)
    log_f = torch.stack([model(images + d).log_softmax(1) for d in noise])
    expected = (-log_f[:, torch.arange(7), labels] - 2 * (log_f.exp().mean(0) * log_f).sum(2)).mean(0)
    found = loss_of(consistency.Consistency(samples=3, weight=2, entropy_weight=2), *case)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.1), (4, 0.5), (9, 1.0), (500, 1.0)])
def test_smoothmix_by_hand(epoch, share):
    """Logits that ignore the image: (1 - kappa) F + kappa / 2 against F; a wrong example is not mixed."""
    model, images, labels, sigma = constant_case([[math.log(4), 0.0], [0.0, math.log(4)]], torch.float64)

    def draw(samples):
        return torch.ones(samples, *images.shape, dtype=images.dtype)  # every sign is +: kappa is 1/2 less 2^-26

    batch = Batch(images, labels, sigma, draw, epoch)
    far = 0.65 * math.log(0.65 / 0.8) + 0.35 * math.log(0.35 / 0.2)
    found = smoothmix.SmoothMix(weight=3, samples=2)(model, batch)
    assert found.tolist() == pytest.approx([-math.log(0.8) + 3 * share * far, -math.log(0.2)], abs=1e-6)


def test_smoothmix_trains_at_most_half_way_to_an_adversary_that_no_ball_holds(monkeypatch):
    """A linear model: each step goes on in the same direction, so the adversary is all of T steps away."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    images = torch.full((3, 1, 2, 2), 0.5, dtype=torch.float64)
    inputs, real = [], PGD.__call__
    model.register_forward_hook(lambda module, args, _: inputs.append(args[0]) if module.training else None)
    found = []

    def call(self, *args, **kwargs):
        found.append(real(self, *args, **kwargs))
        return found[-1]

    monkeypatch.setattr(PGD, "__call__", call)
    objective = smoothmix.SmoothMix(samples=2, steps=5, step_size=2.0, clamp=False)
    loss_of(objective, model, images, torch.tensor([0, 1, 1]), torch.full((3,), 0.5, dtype=torch.float64))
    way = (found[0] - images).flatten(1)
    assert way.norm(dim=1).tolist() == pytest.approx([10.0] * 3)
    plain, mixed = inputs[-1].flatten(1).view(2, 2, 3, 4)
    share = ((mixed - plain) * way).sum(2, keepdim=True) / 10**2
    assert ((share > 0) & (share < 0.5)).all()
    torch.testing.assert_close(mixed - plain, share * way)


def test_smoothmix_after_one_step_starts_there(monkeypatch, case):
    model, images, _, sigma = case
    calls, real = [], PGD.__call__

    def call(self, *args, **kwargs):
        calls.append((self.steps, self.epsilon, real(self, *args, **kwargs)))
        return calls[-1][2]

    monkeypatch.setattr(PGD, "__call__", call)
    seen = []
    model.register_forward_hook(lambda module, args, _: seen.append(args[0]) if module.training else None)
    loss_of(smoothmix.SmoothMix(samples=1, steps=3, step_size=0.5, one_step=True), *case, epoch=1)
    assert [each[:2] for each in calls] == [(1, pytest.approx(0.1)), (3, 1.5)]  # warm-up: 2 epochs of 10
    noise = torch.randn((1, *images.shape), generator=torch.Generator().manual_seed(5), dtype=images.dtype)
    noise = noise[0] * sigma.to(images.dtype).view(-1, 1, 1, 1)
    torch.testing.assert_close(seen[-1][:7], calls[0][2] + noise)


def test_cat_rs_by_hand():
    """Logits that ignore the noise: all samples of a right example and no worst one; one of four of a wrong example."""
    case = constant_case([[math.log(4), 0.0], [0.0, math.log(4)]], torch.float64)
    found = loss_of(cat_rs.CATRS(samples=4, weight=7.0), *case)
    assert found.tolist() == pytest.approx([-math.log(0.8), -math.log(0.2) / 4], abs=1e-12)


class AtSign(nn.Module):
    """Class 0 with probability 0.8 where the first pixel is positive, else class 1."""

    def forward(self, x):
        margin = math.log(4) * x.flatten(1)[:, 0].sign() + 0 * x.flatten(1).sum(1)
        return torch.stack([margin, torch.zeros_like(margin)], 1)


def test_cat_rs_draws_how_many_samples_count_from_the_binomial_law():
    """Of r right samples of 3, K is from Bin(3, r / 3), and the max(K, 1) smallest losses count."""
    b = 20000
    images = torch.zeros(b, 1, 2, 2, dtype=torch.float64)
    labels, sigma = torch.zeros(b, dtype=torch.long), torch.full((b,), 0.5, dtype=torch.float64)
    losses = loss_of(cat_rs.CATRS(samples=3, weight=0.0), AtSign(), images, labels, sigma)
    right, wrong = -math.log(0.8), -math.log(0.2)
    sums: dict[float, float] = {}
    for r in range(4):
        for k in range(4):
            count = max(k, 1)
            total = (min(count, r) * right + max(count - r, 0) * wrong) / 3
            probability = math.comb(3, r) / 8 * math.comb(3, k) * (r / 3) ** k * (1 - r / 3) ** (3 - k)
            sums[round(total, 9)] = sums.get(round(total, 9), 0.0) + probability
    shares = {total: ((losses - total).abs() < 1e-8).double().mean().item() for total in sums}
    assert sum(shares.values()) == pytest.approx(1)
    for total, probability in sums.items():
        assert shares[total] == pytest.approx(probability, abs=4 * math.sqrt(0.25 / b))


def test_the_worst_noise_of_cat_rs_looks_like_the_noise_and_disagrees_more(case):
    model, images, _, sigma = case
    noise = torch.randn((3, *images.shape), generator=torch.Generator().manual_seed(5), dtype=images.dtype)
    noise = noise * sigma.to(images.dtype).view(-1, 1, 1, 1)
    seen = []
    model.register_forward_hook(lambda module, args, _: seen.append(args[0]) if module.training else None)
    loss_of(cat_rs.CATRS(samples=3), *case)
    at_noise, at_worst = seen[-1].view(2, 3, *images.shape)
    torch.testing.assert_close(at_noise, images + noise)
    worst = at_worst - images
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(statistic(worst.flatten(2), 2), statistic(noise.flatten(2), 2), rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        log_f = [torch.stack([model(each).log_softmax(1) for each in points]) for points in (at_noise, at_worst)]
    g = log_f[0].exp().mean(0)
    near, far = (-(g * each).sum(2) for each in log_f)
    assert (far > near).all()


# Bad options.


@pytest.mark.parametrize("make", [smoothadv.SmoothAdv, lambda **options: adre.ADRE(weight=0.1, **options)])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attacker": "pdg"}, "attacker: unknown 'pdg'; did you mean 'pgd'"),
        ({"epsilon": -0.1}, "epsilon: -0.1"),
        ({"epsilon": math.nan}, "epsilon: nan"),
        ({"epsilon": "1"}, "epsilon: '1'"),
        ({"steps": 0}, "steps: 0"),
        ({"steps": 1.5}, "steps: 1.5"),
        ({"samples": 0}, "samples: 0"),
        ({"warmup_epochs": -1}, "warmup_epochs: -1"),
        ({"clamp": 1}, "clamp: 1"),
    ],
)
def test_bad_options_of_an_attack_are_named(make, options, message):
    with pytest.raises(ConfigError, match=message):
        make(**{"epsilon": 0.5, **options})


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (smoothadv.SmoothAdv, {"epsilon": 1, "target": "basis"}, "target: unknown 'basis'"),
        (smoothadv.SmoothAdv, {"epsilon": 1, "estimator": "plugin"}, "estimator: unknown 'plugin'"),
        (smoothadv.SmoothAdv, {"epsilon": 1, "target": "base", "estimator": "gradient_free"}, "estimator: .*'base'"),
        (macer.MACER, {"samples": 1}, "samples: 1; must be a whole number, at least 2"),
        (macer.MACER, {"weight": -1.0}, "weight: -1.0"),
        (macer.MACER, {"weight": math.nan}, "weight: nan"),
        (macer.MACER, {"gamma": 0}, "gamma: 0"),
        (macer.MACER, {"gamma": math.inf}, "gamma: inf"),
        (macer.MACER, {"beta": 0.0}, "beta: 0.0"),
        (adre.ADRE, {"weight": math.nan}, "weight: nan"),
        (adre.ADRE, {"weight": -0.1}, "weight: -0.1"),
        (adre.ADRE, {"weight": 0.1, "single_loss_sample": "yes"}, "single_loss_sample: 'yes'"),
        (expected_radius.ExpectedRadius, {"weight": -0.1}, "weight: -0.1"),
        (expected_radius.ExpectedRadius, {"weight": 0.1, "samples": 0}, "samples: 0"),
        (stability.Stability, {"weight": -0.5}, "weight: -0.5"),
        (stability.Stability, {"weight": math.nan}, "weight: nan"),
        (consistency.Consistency, {"entropy_weight": -0.5}, "entropy_weight: -0.5"),
        (smoothmix.SmoothMix, {"step_size": 0}, "step_size: 0"),
        (smoothmix.SmoothMix, {"one_step": 1}, "one_step: 1; must be true or false"),
        (cat_rs.CATRS, {"samples": 1}, "samples: 1; must be a whole number, at least 2"),
        (cat_rs.CATRS, {"epsilon": -1.0}, "epsilon: -1.0"),
    ],
)
def test_bad_options_are_named(make, options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_an_attack_without_an_option_that_training_needs_is_named():
    with pytest.raises(ConfigError, match="attacker: 'base_pgd' has no option 'estimator'"):
        smoothadv.SmoothAdv(epsilon=0.5, attacker="base_pgd")


def test_smoothed_labels_of_gaussian_augmentation():
    model, images, labels, sigma = constant_case([[2.0, 0.0, -1.0]], torch.float64)
    batch = Batch(images, labels, sigma, lambda m: torch.zeros(m, *images.shape, dtype=images.dtype), 0, 0.3)
    log_p = model.logits.log_softmax(1)[0]
    expected = -(0.7 * log_p[0] + 0.1 * log_p.sum())
    assert gaussian.GaussianAugmentation()(model, batch).item() == pytest.approx(expected.item(), rel=1e-12)
