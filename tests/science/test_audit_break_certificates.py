"""The attack on certificates: it breaks those that are known to be wrong, and none that is known to hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ncx2, norm
from torch import nn

from certsmooth._internal.registry import member
from certsmooth.artefacts.audits import Broken
from certsmooth.errors import CountsError, ModelError
from certsmooth.science.audit.answers import KINDS
from certsmooth.science.audit.break_certificates import (
    FRACTIONS,
    Balls,
    BreakPlan,
    SmoothedTarget,
    break_group,
    inside,
)
from certsmooth.science.certificates import ABSTAIN, Smoothing, cohen
from certsmooth.science.noise import NoiseStreams
from certsmooth.science.sampling.sampler import Sampler, SamplingPlan
from certsmooth.science.sigma.data_dependent import DataDependentSigma as DataDependent
from certsmooth.science.sigma.fixed import FixedSigma
from factories import half_space

ALPHA = 0.001
OF_ONE = [kind for kind in KINDS if "route" not in kind and kind != "expert"]


class UnitDisk(nn.Module):
    """Class 1 where ||x|| < 1, else class 0 (Sukenik et al. 2022, Appendix C.2); differentiable."""

    def forward(self, images):
        outside = 5 * (images.flatten(1).square().sum(1) - 1)
        return torch.stack([outside, -outside], 1)


DISK = UnitDisk()
FAR, ORIGIN = [50.0, 0.0], [0.0, 0.0]
OPTIMIZE = DataDependent(
    sigma=0.25, iterations=60, samples=8, step=0.03, upper=40.0, variant="class_held", class_samples=8
)


def plan(**changes):
    return BreakPlan(**{"n": 500, "seed": 1, "dataset": "toy"} | changes)


def certified(model, policy, points, *, n=1000):
    """Certify points as the paper does: sigma(x) by the policy, then CERTIFY."""
    points = torch.tensor(points)
    sampler = Sampler(model, num_classes=2, plan=SamplingPlan(100, n, 0, "toy/test"))
    names = list(range(len(points)))
    sigma = sampler.sigmas(policy, points, names)
    rows = list(sampler.count(points, sigma, names))
    counts = (np.stack([getattr(row, stage) for row in rows]) for stage in ("selection", "estimation"))
    smoothing = Smoothing(sigma.numpy(), points[0].numel(), None, np.zeros(len(points)))
    return sigma, cohen.CohenCertificate()(*counts, smoothing, alpha=ALPHA)


def make_balls(images, predict, radius, sigma, nearest=None):
    images = torch.as_tensor(images, dtype=torch.float32)
    values = [torch.as_tensor(np.broadcast_to(v, len(images)).copy()) for v in (predict, radius, sigma)]
    values = [values[0].to(torch.int64), *(v.to(torch.float64) for v in values[1:])]
    nearest = images if nearest is None else torch.as_tensor(nearest, dtype=torch.float32)
    return Balls(images, list(range(100, 100 + len(images))), *values, nearest)


def broken(found):
    answers = cohen.predict(found.counts, alpha=ALPHA)
    return (answers != ABSTAIN) & (answers != found.predict)


# --- the counter-example of Appendix C.2


def test_in_theory_sigma_grows_without_end_far_from_the_disk_and_shrinks_at_its_centre():
    sigma = np.linspace(0.2, 100, 2000)
    # f(x + sigma z) = 1 where ||x + sigma z|| < 1, a non-central chi-square with 2 degrees of freedom.
    far = sigma * norm.isf(ncx2.cdf(1 / sigma**2, 2, 50**2 / sigma**2))
    far[~np.isfinite(far)] = np.inf  # so near to 1 that its quantile overflows: far from the disk
    finite = np.isfinite(far)
    assert (np.diff(far[finite]) > 0).all()
    assert far[-1] > 300
    centre = np.linspace(0.15, 0.8, 200)  # class 1 up to 0.849
    assert (np.diff(centre * norm.isf(np.exp(-1 / (2 * centre**2)))) < 0).all()


def test_a_data_dependent_certificate_of_the_disk_is_broken():
    sigma, bound = certified(DISK, OPTIMIZE, [FAR, ORIGIN])
    assert sigma[0] == OPTIMIZE.upper
    assert sigma[1] < 0.8
    assert bound.predict.tolist() == [0, 1]
    assert bound.radius[0] > 60  # it "certifies" the centre of the disk, 50 away
    # Once with the centre among the images of the run, once without.
    balls = make_balls([FAR, FAR], 0, bound.radius[0], sigma[0], [ORIGIN, FAR])
    found = break_group(SmoothedTarget(DISK, 2, OPTIMIZE, (float(sigma[1]), 40.0)), balls, plan=plan())
    assert broken(found).all()
    assert ((found.distance > 49) & (found.distance < min(51.1, bound.radius[0]))).all()
    assert (found.sigma_there < 1).all()
    assert KINDS[found.kind[1]] != "nearest"
    assert (found.candidates == (len(OF_ONE) - 1) * len(FRACTIONS)).all()  # sigma(x) is the largest


@pytest.mark.parametrize("sigma", [0.25, 40.0])
def test_no_certificate_of_the_disk_with_a_fixed_sigma_is_broken(sigma):
    policy = FixedSigma(sigma)
    _, bound = certified(DISK, policy, [FAR, ORIGIN])
    balls = make_balls([FAR, ORIGIN], bound.predict, bound.radius, sigma, [ORIGIN, FAR])
    found = break_group(SmoothedTarget(DISK, 2, policy, (sigma, sigma)), balls, plan=plan())
    assert not broken(found).any()
    assert (found.candidates == 3 * len(FRACTIONS)).all()  # own, nearest, random


def test_a_wrong_certificate_with_a_fixed_sigma_is_broken():
    """Twice the radius that holds: the far side of the half-space is inside."""
    model, policy = half_space([3.0, 4.0], 0.0), FixedSigma(0.5)
    balls = make_balls([[0.6, 0.8]], 1, [2.0], 0.5)
    found = break_group(SmoothedTarget(model, 2, policy, (0.5, 0.5)), balls, plan=plan())
    assert broken(found).all()
    assert KINDS[found.kind[0]] == "own"
    # Straight across the border, to one unit beyond it.
    assert found.distance[0] == pytest.approx(2 * 0.999, rel=1e-6)
    probability = norm.cdf((1 - 2 * 0.999) / 0.5)
    assert binomtest(int(found.counts[0, 1]), 500, probability).pvalue > 1e-4


# --- candidates


@given(
    st.lists(st.integers(-(2**20), 2**20).map(lambda k: k / 1024), min_size=6, max_size=6),
    st.floats(-9, 3).map(lambda exponent: 10.0**exponent),
    st.sampled_from(FRACTIONS),
    st.sampled_from(["l1", "l2"]),
)
@settings(max_examples=100, deadline=None)
def test_what_leaves_a_ball_is_drawn_strictly_inside(values, radius, fraction, norm):
    points = torch.tensor(values).view(2, 3)
    balls = make_balls(points[:1], 0, [radius], 1.0)
    moved = inside(points[1:], balls, balls.radius * fraction, norm)
    assert moved.dtype == torch.float32
    exact = moved[0].to(torch.float64).numpy() - points[0].to(torch.float64).numpy()
    assert np.linalg.norm(exact, 1 if norm == "l1" else 2) < radius or not exact.any()
    there = points[1].to(torch.float64).numpy() - points[0].to(torch.float64).numpy()
    if np.linalg.norm(there, 1 if norm == "l1" else 2) < radius * fraction * (1 - 1e-6):
        np.testing.assert_array_equal(moved[0], points[1])


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_candidates_lie_inside_and_each_kind_has_its_aim(norm):
    model, radius = half_space([3.0, 4.0], 0.0), np.array([0.3, 0.4])
    balls = make_balls([[0.6, 0.8], [0.7, 0.7]], 1, radius, 0.5, [[-1.0, 0.0], [0.65, 0.7]])
    found = {
        (kind, float(name.removeprefix(f"{kind}/"))): points
        for kind, name, points in SmoothedTarget(model, 2, FixedSigma(0.25), (0.1, 0.9)).candidates(
            balls, plan(norm=norm)
        )
    }
    assert set(found) == {(kind, fraction) for kind in OF_ONE for fraction in FRACTIONS}
    images = balls.images.to(torch.float64)
    for (name, fraction), points in found.items():
        distance = torch.linalg.vector_norm(points.to(torch.float64) - images, ord=1 if norm == "l1" else 2, dim=1)
        assert (distance.numpy() < radius * fraction).all(), name
        if name in ("own", "start", "lowest", "highest"):  # as near to the other class as the ball allows
            np.testing.assert_allclose(distance, radius * fraction, rtol=2e-3)
            assert ((points - balls.images) @ torch.tensor([3.0, 4.0]) < 0).all()
        if name == "random":
            np.testing.assert_allclose(distance, radius * fraction, rtol=2e-3)
    # The nearest image is in the second ball, and is reached; of the first one only the direction is.
    assert torch.equal(found["nearest", 1.0][1], balls.nearest[1])
    step, whole = found["nearest", 1.0][0] - balls.images[0], balls.nearest[0] - balls.images[0]
    assert float(torch.cosine_similarity(step, whole, dim=0)) == pytest.approx(1, abs=1e-6)


def test_points_are_found_where_sigma_is_drawn_up_or_down():
    """sigma times a radius that grows with the margin: more margin, more to gain by a larger sigma."""
    model = half_space([3.0, 4.0], 0.0)
    balls = make_balls([[0.6, 0.8]], 1, [0.5], 0.5)
    found = {
        kind: float(points @ torch.tensor([3.0, 4.0]))
        for kind, name, points in SmoothedTarget(model, 2, FixedSigma(0.5), (0.1, 0.9)).candidates(balls, plan())
        if name == f"{kind}/1.0"
    }
    assert found["down"] < 5 < found["up"]


@pytest.mark.slow
def test_a_result_depends_on_its_image_alone(monkeypatch):
    model = half_space([3.0, 4.0], 0.0)
    policy = DataDependent(sigma=0.5, iterations=2, step=0.05, variant="class_held", class_samples=1)
    points = np.random.default_rng(0).random((3, 2)) + 0.5
    balls = make_balls(points, 1, np.linspace(0.5, 1, 3), np.linspace(0.4, 0.6, 3), points[::-1].copy())
    target, draws = SmoothedTarget(model, 2, policy, (0.4, 0.6)), plan(n=200)
    together = break_group(target, balls, plan=draws)
    monkeypatch.setattr("certsmooth.science.audit.break_certificates._CPU_BATCH_ELEMENTS", 1)
    for row in range(3):
        alone = break_group(target, balls.part(slice(row, row + 1)), plan=draws)
        for name in ("index", "predict", "radius", "kind", "distance", "sigma_there", "counts"):
            # A vector unit and the rest that it leaves may differ in the last bit of a float32 pixel.
            rtol = 2e-7 if name == "distance" else 1e-12
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[row], rtol=rtol)


def test_what_is_chosen_is_asked_again_with_noise_that_nothing_else_has_seen(monkeypatch):
    drawn = []

    class Spy(Sampler):
        def count(self, *args, **options):
            drawn.append(self.plan)
            return super().count(*args, **options)

    monkeypatch.setattr("certsmooth.science.audit.break_certificates.Sampler", Spy)
    balls = make_balls([[0.6, 0.8]], 1, [0.3], 0.5)
    target = SmoothedTarget(half_space([3.0, 4.0], 0.0), 2, FixedSigma(0.5), (0.5, 0.5))
    break_group(target, balls, plan=plan())
    assert [draws.n0 + draws.n for draws in drawn] == [200] * 6 + [500]
    assert len({draws.dataset for draws in drawn}) == 7
    assert drawn[-1] == plan().draws("predict", 500)

    places = [plan().draws(f"screen/{kind}/{f}", 200) for kind in OF_ONE for f in FRACTIONS]
    every = [*places, plan().draws("predict", 500), SamplingPlan(1, 1, 1, "toy/test")]
    stages = ("selection", "estimation", "sigma", "search", "random")
    names = {s.dataset for s in every} | {"toy/break", "toy"}
    keys = {NoiseStreams(member("noise", "gaussian")(), 1, n).key((stage, 7)) for n in names for stage in stages}
    assert len(keys) == (len(every) + 2) * len(stages)
    for n in (2, 99, 100, 101, 1000):
        draws = plan().draws("predict", n)
        assert draws.n0 >= 1
        assert draws.n0 + draws.n == n


def test_sigma_is_searched_for_the_points_of_all_candidates_in_full_groups(monkeypatch):
    """Six candidates of 7 points are within a group of 50, and the chosen points are another: not 7 searches, but 2."""
    searched, counted = [], []

    class Spy(Sampler):
        def sigmas(self, policy, images, identities, *, plans=None):
            searched.append(len(images))
            return super().sigmas(policy, images, identities, plans=plans)

        def count(self, images, sigma, identities):
            counted.append((self.plan, images, sigma))
            return super().count(images, sigma, identities)

    monkeypatch.setattr("certsmooth.science.audit.break_certificates.Sampler", Spy)
    policy = DataDependent(sigma=0.5, iterations=3, step=0.05, variant="algorithm_1")
    points = np.random.default_rng(0).random((7, 2)) + 0.5
    balls = make_balls(points, 1, np.linspace(0.5, 1, 7), 0.5, points[::-1].copy())
    model = half_space([3.0, 4.0], 0.0)
    break_group(SmoothedTarget(model, 2, policy, (0.5, 0.5)), balls, plan=plan(n=200))
    assert searched == [42, 7]
    for draws, images, sigma in counted:  # each as if it had been searched for by itself
        alone = Sampler(model, num_classes=2, plan=draws).sigmas(policy, images, balls.identities)
        assert torch.equal(sigma, alone)
    assert len(torch.cat([sigma for *_, sigma in counted]).unique()) == 49


def test_a_model_without_a_gradient_is_refused():
    class Hard(nn.Module):
        def forward(self, images):
            inner = images.flatten(1).square().sum(1) < 1
            return nn.functional.one_hot(inner.to(torch.int64), 2).to(torch.float32)

    balls = make_balls([FAR], 0, [60.0], 40.0)
    with pytest.raises(ModelError, match="not differentiable"):
        break_group(SmoothedTarget(Hard(), 2, FixedSigma(40.0), (40.0, 40.0)), balls, plan=plan())


# --- files


def test_files_hold_every_number(tmp_path):
    balls = make_balls([[0.6, 0.8], [1 / 3, 0.8]], 1, [0.3, 1 / 7], 0.5)
    target = SmoothedTarget(half_space([3.0, 4.0], 0.0), 2, FixedSigma(0.5), (0.5, 0.5))
    answers = break_group(target, balls, plan=plan())
    found = Broken(**vars(answers))
    parts = [(Broken.from_lists([]), {"seed": 4}), (Broken.from_lists([found.lists(), found.lists()]), {"seed": 5})]
    for name, some in (("both", parts), ("some", parts[1:]), ("none", parts[:1])):
        path = tmp_path / f"{name}.parquet"
        Broken.write(path, some)
        for number, (content, identity) in enumerate(some):
            read, *about = Broken.read(path, expect=identity)
            assert about == [identity, number]
            assert len(read) == len(content)
            for column in vars(content):
                kept, right = getattr(read, column), getattr(content, column)
                assert (kept.dtype, kept.tolist()) == (right.dtype, right.tolist())
    path = tmp_path / "some.parquet"
    with pytest.raises(CountsError, match="seed is 5; must be 6"):
        Broken.read(path, expect={"seed": 6})
