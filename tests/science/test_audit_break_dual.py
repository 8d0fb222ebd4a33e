"""The attack on dual certificates: what holds is not broken, what does not hold is, whichever part of it errs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from certsmooth.science.audit.answers import KINDS
from certsmooth.science.audit.break_certificates import Balls, BreakPlan, SmoothedTarget, break_group
from certsmooth.science.audit.break_dual import DualTarget
from certsmooth.science.certificates import ABSTAIN, cohen
from certsmooth.science.sigma.fixed import FixedSigma
from factories import half_space

ALPHA, ROUTER_ALPHA, SIGMA = 0.001, 0.0001, 0.5
PLAN = BreakPlan(n=500, seed=1, dataset="toy")


def half_plane(weight, bias, sigma=SIGMA):
    """A smoothed half-plane: class 1 where weight * x + bias > 0, at distance |weight * x + bias| / |weight|."""
    return SmoothedTarget(half_space(weight, -bias), 2, FixedSigma(sigma), (sigma, sigma))


def dual(router, *experts):
    return DualTarget(router, experts, ROUTER_ALPHA)


def attack(target, images, radius, *, predict=1):
    images = torch.tensor(images)
    n = len(images)
    balls = Balls(
        images,
        list(range(100, 100 + n)),
        torch.full((n,), predict),
        torch.full((n,), radius, dtype=torch.float64),
        torch.full((n,), SIGMA, dtype=torch.float64),
        images.flip(0),
    )
    found = break_group(target, balls, plan=PLAN)
    answers = cohen.predict(found.counts, alpha=ALPHA - ROUTER_ALPHA)
    return found, (answers != ABSTAIN) & (answers != found.predict)


YES, NO = half_plane([0.0, 1.0], 50.0), half_plane([0.0, 1.0], -50.0)
"""Experts of one class for all that is near."""

ACROSS = half_plane([1.0, 0.0], 0.0)
"""A router: the second expert where the first coordinate is positive."""


def test_the_border_of_the_router_is_found_if_the_other_expert_errs_there():
    found, broken = attack(dual(ACROSS, NO, YES), [[0.5, 0.0], [0.5, 3.0]], 1.5)
    assert broken.all()
    assert all("route" in KINDS[kind] for kind in found.kind)
    assert (found.distance > 0.5).all()  # beyond the router's border
    assert (found.distance < 1.5).all()


def test_the_router_is_climbed_against_its_own_choice():
    """The first expert is chosen, and its class is 1: the border is where the router's class 1 begins, not ends."""
    found, broken = attack(dual(ACROSS, YES, NO), [[-0.5, 0.0]], 1.5)
    assert broken.all()
    assert "route" in KINDS[found.kind[0]]


def test_the_border_of_the_router_is_no_border_if_the_experts_agree():
    assert not attack(dual(ACROSS, YES, YES), [[0.5, 0.0], [-0.5, 3.0]], 1.5)[1].any()


def test_the_border_of_an_expert_is_found():
    expert = half_plane([0.0, 1.0], 0.0)
    found, broken = attack(dual(ACROSS, NO, expert), [[9.0, 0.5]], 1.5)
    assert broken.all()
    assert KINDS[found.kind[0]] == "expert"
    assert found.distance[0] == pytest.approx(1.5 * 0.999, rel=1e-6)
    # The expert errs only where the router still chooses it.
    assert not attack(dual(ACROSS, NO, expert), [[9.0, 9.0]], 1.5)[1].any()


def test_a_way_that_needs_both_is_found():
    """The other expert errs only in the lower half, and the router's own border lies straight to the left."""
    router, other = half_plane([1.0, 0.0], 0.0), half_plane([0.0, 1.0], 0.0)
    found, broken = attack(dual(router, other, YES), [[0.9, 0.9]], 2.1)
    assert broken.all()
    assert KINDS[found.kind[0]] == "route and expert"


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_what_holds_is_not_broken(share):
    """Within the smaller of the router's radius and the chosen expert's, which are exact for half-planes."""
    expert = half_plane([0.0, 1.0], 0.0)
    images = [[0.6, 0.9], [1.0, 0.5], [-2.0, 0.5]]
    assert not attack(dual(ACROSS, YES, expert), images, 0.5 * share)[1].any()


def test_the_expert_that_the_router_chooses_is_asked():
    target = dual(ACROSS, NO, YES)
    points = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
    plan = PLAN.draws("predict", 500)
    (asked,) = target.ask([points[:2]], [0, 1], [plan])
    assert asked.counts.tolist() == [[0, 500], [500, 0]]
    sure = target.predict(points, [0, 1, 2], plan)
    assert sure.counts.tolist() == [[0, 500], [500, 0], [0, 0]]  # at the border the router abstains
    assert np.isfinite(sure.sigma).all()
    assert (sure.batch_size > 0).all()


def test_sigma_there_is_that_of_the_expert():
    target = dual(ACROSS, half_plane([0.0, 1.0], 50.0, 0.25), half_plane([0.0, 1.0], 50.0, 1.0))
    (asked,) = target.ask([torch.tensor([[3.0, 0.0], [-3.0, 0.0]])], [0, 1], [PLAN.draws("predict", 200)])
    assert asked.sigma.tolist() == [1.0, 0.25]
    expert = half_plane([0.0, 1.0], 0.5, 1.0)
    (asked,) = dual(ACROSS, expert, expert).ask([torch.tensor([[3.0, 0.0]])], [0], [PLAN.draws("predict", 9000)])
    assert asked.counts[0, 1] / 9000 == pytest.approx(norm.cdf(0.5), abs=0.03)


def test_each_candidate_draws_noise_of_its_own():
    target = dual(ACROSS, NO, YES)
    images = torch.zeros(1, 2)
    one = torch.ones(1, dtype=torch.float64)
    tried = list(target.candidates(Balls(images, [7], torch.ones(1).long(), one, one * SIGMA, images), PLAN))
    assert len({each.name for each in tried}) == len(tried) == 14
    assert {each.kind for each in tried} == {"route", "expert", "route and expert", "nearest", "random"}
