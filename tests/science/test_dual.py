"""Dual smoothing: what router and experts certify holds for the classifier that they are together."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import ncx2
from torch import nn

from certsmooth import (
    DataDependentSigma,
    DualSmoothedClassifier,
    L1Certificate,
    Memory,
    NearestNeighbourSigma,
    Recipe,
    SemiElasticCertificate,
    SmoothedClassifier,
    StopAtRadius,
    certify_counts,
    dual_certificates,
    train,
)
from certsmooth.errors import ConfigError, DataError
from certsmooth.science.certificates import ABSTAIN
from certsmooth.science.theory.bounds import clopper_pearson_lower
from factories import ROOT, half_space

POINTS = 41
"""Images are 0, ..., 40 on a line; the one that is certified is in the middle."""
MIDDLE = POINTS // 2


def radius_of(answers):
    """The distance from the middle to the nearest image with another answer, or to the end of the line."""
    distance = np.abs(np.arange(POINTS) - MIDDLE)
    other = answers != answers[MIDDLE]
    return float(distance[other].min()) if other.any() else float(MIDDLE + 1)


def steps(classes):
    """Classifiers of the line that are constant on a few intervals."""
    pieces = st.lists(st.tuples(st.integers(1, 15), st.integers(0, classes - 1)), min_size=1, max_size=8)
    return pieces.map(
        lambda each: np.resize(np.repeat([c for _, c in each], [n for n, _ in each]), POINTS).astype(np.int64)
    )


@st.composite
def compositions(draw):
    """A router, its experts, and what share of its radius each certificate says (0: it abstains)."""
    experts = draw(st.integers(2, 4))
    answers = [draw(steps(3)) for _ in range(experts)]
    shares = draw(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=experts + 1, max_size=experts + 1))
    return draw(steps(experts)), np.array(answers), np.array(shares)


@given(compositions())
def test_no_radius_is_larger_than_the_truth_and_none_is_smaller_than_the_papers(case):
    router, experts, shares = case
    said = np.array([radius_of(each) for each in (router, *experts)]) * shares
    route = np.where(shares[:1] > 0, router[MIDDLE], ABSTAIN)
    predict = np.where(shares[1:] > 0, experts[:, MIDDLE], ABSTAIN)[None]
    (found,), (radius,) = dual_certificates(route, said[:1], predict, said[None, 1:])
    together = experts[router, np.arange(POINTS)]
    if found == ABSTAIN:
        assert radius == 0
    else:
        assert found == together[MIDDLE]
        assert 0 < radius <= radius_of(together)
    if route[0] != ABSTAIN and predict[0, route[0]] != ABSTAIN:
        assert radius >= min(said[0], said[1 + route[0]])


def test_where_the_experts_agree_the_router_does_not_matter():
    route, route_radius = np.array([0, 1, ABSTAIN, 0]), np.array([0.1, 0.9, 0.0, 0.1])
    predict = np.array([[2, 2], [2, 2], [2, 2], [2, 1]])
    radius = np.array([[0.5, 0.3], [0.5, 0.3], [0.5, 0.3], [0.5, 0.3]])
    found, certified = dual_certificates(route, route_radius, predict, radius)
    assert found.tolist() == [2, 2, 2, 2]
    assert certified.tolist() == [0.3, 0.3, 0.3, 0.1]


def test_without_a_route_experts_that_differ_certify_nothing():
    found, radius = dual_certificates(np.array([ABSTAIN]), np.zeros(1), np.array([[2, 1]]), np.array([[0.5, 0.3]]))
    assert (found[0], radius[0]) == (ABSTAIN, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predict": np.array([1, 1])}, r"predict: shape \(2,\); must be \[N, K\]"),
        ({"route": np.array([0, 0])}, r"route: shape \(2,\); must be \(1,\)"),
        ({"radius": np.zeros((1, 3))}, r"radius: shape \(1, 3\); must be \(1, 2\)"),
        ({"route": np.array([2])}, r"route: 2; must be from 0 to 1, or -1"),
        ({"route_radius": np.array([-0.1])}, r"route_radius: -0.1; must be 0 or more"),
        ({"radius": np.array([[0.1, np.nan]])}, r"radius: nan; must be 0 or more"),
    ],
)
def test_certificates_that_do_not_fit_are_named(changes, message):
    given = {
        "route": np.array([0]),
        "route_radius": np.array([0.1]),
        "predict": np.array([[1, 1]]),
        "radius": np.array([[0.1, 0.1]]),
    }
    with pytest.raises(ConfigError, match=f"^{message}"):
        dual_certificates(**(given | changes))


TIMES = 100_000
N, ALPHA = 50, 0.02
"""Estimation samples, and the probability of error of the router and of the expert that it chooses; half of that of
each expert where all agree. With two experts, 3 ALPHA in all."""


def only_just_wrong(k, alpha):
    """The probability at which the bound for k of N is only just wrong: where errors are most frequent."""
    return float(clopper_pearson_lower(k, N, alpha=alpha)) - 1e-7


class Ball:
    """The base classifier that is 1 exactly within a distance of the origin, in several dimensions."""

    def __init__(self, size, dimension, sigma):
        self.size, self.dimension, self.sigma = size, dimension, sigma

    def probability(self, away):
        """Of class 1 under noise, at an image that far from the origin."""
        return float(ncx2.cdf((self.size / self.sigma) ** 2, self.dimension, (away / self.sigma) ** 2))

    @property
    def border(self):
        """Up to which distance from the origin the smoothed classifier is 1; 0 if it is nowhere."""
        return (
            0.0
            if self.probability(0.0) <= 0.5
            else brentq(lambda away: self.probability(away) - 0.5, 0.0, 3 * self.size)
        )


class Line(Ball):
    """The same of a half-space, where Cohen's radius is exact: 1 below ``size`` on a line."""

    def probability(self, away):
        return float(ndtr((self.size - away) / self.sigma))

    @property
    def border(self):
        return self.size


def simulated(smoothed, away, generator):
    """Certificates of many runs of one smoothed classifier at one image: class and radius, at two levels."""
    p = smoothed.probability(away)
    ones = {n: generator.binomial(n, p, TIMES) for n in (9, N)}
    selection, estimation = (np.stack([n - ones[n], ones[n]], axis=1) for n in (9, N))
    found = (certify_counts(selection, estimation, smoothed.sigma, alpha=alpha) for alpha in (ALPHA, ALPHA / 2))
    return [(each["predict"].to_numpy(), each["radius"].to_numpy()) for each in found]


def error_rate(router, experts, away, seed):
    """The share of certificates of the whole that are wrong."""
    generator = np.random.default_rng(seed)
    ((route, route_radius), _), *found = (simulated(each, away, generator) for each in (router, *experts))
    sure, unsure = (
        [np.stack(each, axis=1) for each in zip(*(levels[place] for levels in found), strict=True)] for place in (0, 1)
    )
    chosen = route[:, None] == np.arange(len(experts))
    predict, radius = dual_certificates(
        route, route_radius, *(np.where(chosen, *each) for each in zip(sure, unsure, strict=True))
    )
    borders = sorted(each.border for each in (router, *experts))

    def answer(at):
        return int(at < experts[int(at < router.border)].border)

    here = answer(away)
    edges = [abs(border - away) for border in borders if border and answer(border - 1e-9) != answer(border + 1e-9)]
    wrong = (predict != ABSTAIN) & ((predict != here) | (radius > min(edges, default=np.inf)))
    return wrong.mean()


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [2, 30])
@pytest.mark.parametrize("away", [0.2, 0.6, 0.9, 1.1, 1.4])
@pytest.mark.parametrize("sizes", [(1.0, 1.5, 2.0), (1.2, 1.0, 0.8), (0.7, 2.0, 1.0), (1.4, 0.6, 1.3)])
def test_coverage_with_regions_that_are_balls(sizes, away, dimension):
    scale = np.sqrt(dimension / 2)  # noise moves an image outwards by about so much
    router, *experts = (
        Ball(size * scale, dimension, sigma) for size, sigma in zip(sizes, (0.5, 0.25, 0.6), strict=True)
    )
    assert error_rate(router, experts, away * scale, seed=int(100 * away)) <= 3 * ALPHA


FAR = 9.0, 1.0
"""A border so far away that every sample is on this side; and the noise."""

LIMITS = {
    "router": lambda sigma: [(1.0, sigma), (-9.0, 1.0), FAR],
    "expert": lambda sigma: [FAR, (-9.0, 1.0), (1.0, sigma)],
    "agreement": lambda sigma: [(0.001, 1.0), (1.0, sigma), FAR],
}
"""What limits the radius at 0, which is 1: border and noise of the router and of both experts."""


@pytest.mark.slow
@pytest.mark.parametrize("k", [36, 45, 49, 50])
@pytest.mark.parametrize("limit", LIMITS)
def test_coverage_where_radii_are_only_just_wrong(limit, k):
    sigma = 1 / float(ndtri(only_just_wrong(k, ALPHA / 2 if limit == "agreement" else ALPHA)))
    router, *experts = (Line(size, 1, scale) for size, scale in LIMITS[limit](sigma))
    rate = error_rate(router, experts, 0.0, seed=k)
    assert 0.1 * ALPHA < rate <= 3 * ALPHA


FEW = {"n0": 50, "n": 1000, "seed": 0, "alpha": 0.01}


def smoothed(edge, sigma, **options):
    """On images of one pixel: 0 below an edge, 1 above it."""
    return SmoothedClassifier(half_space(torch.tensor([1.0]), edge), 2, sigma, **options)


def images(*values):
    return torch.tensor(values)[:, None]


def dual(route_edge=0.5, edges=(0.3, 0.8)):
    """Below the router's edge the first expert, above it the second."""
    return DualSmoothedClassifier(smoothed(route_edge, 0.1), [smoothed(edges[0], 0.1), smoothed(edges[1], 0.2)])


def test_certificates_end_before_the_nearest_change_of_router_and_expert():
    values = [0.05, 0.2, 0.35, 0.45, 0.55, 0.7, 0.95]
    found = dual().certify(images(*values), **FEW)
    borders = [0.3, 0.5, 0.8]  # 0, then 1, then the second expert's 0, then 1
    truth = [[0, 1, 0, 1][np.searchsorted(borders, value)] for value in values]
    certified = found[found["predict"] != ABSTAIN]
    assert len(certified) >= 5
    assert (certified["predict"] == np.array(truth)[certified.index]).all()
    nearest = np.abs(np.array(values)[:, None] - borders).min(axis=1)
    assert (certified["radius"] < nearest[certified.index]).all()
    assert set(found["guarantee"]) == {"global"}
    route = found["expert"].to_numpy()
    assert found["sigma"].to_numpy() == pytest.approx(
        np.where(route == ABSTAIN, np.nan, np.array([0.1, 0.2])[route]), nan_ok=True
    )


def test_other_experts_are_sampled_only_where_the_router_limits_the_radius():
    found = dual(route_edge=0.5, edges=(0.4, 0.4)).certify(images(0.3, 0.0, 0.49), **FEW)
    # 0.3 is nearer to the expert's border than to the router's; at 0.0 both show all they can; at 0.49 it is the router
    assert found["n"].tolist()[0] == 2000
    assert found["n"].tolist()[2] == 3000
    assert found["radius"][2] > found["radius_router"][2]


def test_a_certificate_is_that_of_its_parts_at_their_shares_of_alpha():
    x, whole = images(0.3, 0.42, 0.6), dual()
    found = whole.certify(x, router_share=0.5, others_share=0.2, **FEW)
    asked = {key: FEW[key] for key in ("n0", "n", "seed")}
    routed = whole.router.certify(x, alpha=0.01 * 0.5, **asked)
    route = routed["predict"].to_numpy()
    sure, unsure = (
        [expert.certify(x, alpha=alpha, **asked) for expert in whole.experts]
        for alpha in (0.01 * (1 - 0.5 - 0.2), 0.01 * 0.2 / 2)
    )
    predict, radius = (
        np.stack([np.where(route == k, sure[k][key], unsure[k][key]) for k in range(2)], axis=1)
        for key in ("predict", "radius")
    )
    predict, radius = dual_certificates(route, routed["radius"].to_numpy(), predict, radius)
    assert found["predict"].tolist() == predict.tolist()
    assert found["radius"].tolist() == radius.tolist()


def test_a_stopping_rule_ends_the_samples_of_all():
    x = images(0.05, 0.95)
    fixed, stopped = (dual().certify(x, **FEW | {"n": 20_000}, stop=stop) for stop in (None, StopAtRadius(0.05)))
    assert (stopped["predict"] == fixed["predict"]).all()
    assert (stopped["radius"] > 0.05).all()
    assert (stopped["n"] < fixed["n"] / 4).all()


def test_an_answer_is_that_of_the_experts_chosen():
    values = [0.1, 0.4, 0.6, 0.95]
    assert dual().predict(images(*values), n=1000, alpha=0.01, seed=0).tolist() == [0, 1, 0, 1]
    assert dual().predict(images(0.5), n=1000, alpha=0.01, seed=0).tolist() == [ABSTAIN]


def test_the_weakest_guarantee_is_that_of_the_whole():
    real = smoothed(0.3, 0.1, step=None)
    whole = DualSmoothedClassifier(smoothed(0.5, 0.1), [smoothed(0.3, 0.1), real])
    assert set(whole.certify(images(0.1), **FEW)["guarantee"]) == {"global (real arithmetic)"}


def test_an_expert_may_have_an_input_dependent_sigma_that_is_sound():
    near = NearestNeighbourSigma(sigma=0.1, rate=0.1, neighbours=1).fit(images(0.0, 1.0))
    varying = smoothed(0.3, near, certificate=SemiElasticCertificate())
    found = DualSmoothedClassifier(smoothed(0.5, 0.1), [varying, smoothed(0.8, 0.2)]).certify(images(0.1), **FEW)
    assert found["predict"].tolist() == [0]
    assert 0 < found["radius"][0] < 0.2


ADAPTIVE = DataDependentSigma(sigma=0.1, iterations=1)


@pytest.mark.parametrize(
    ("router", "experts", "message"),
    [
        (smoothed(0.5, 0.1), [smoothed(0.5, 0.1)], r"experts: 1; must be at least 2"),
        (smoothed(0.5, 0.1), [smoothed(0.5, 0.1)] * 3, r"router: num_classes 2; must be 3"),
        (
            smoothed(0.5, 0.1),
            [smoothed(0.5, 0.1), SmoothedClassifier(lambda x: x.expand(-1, 3), 3, 0.1)],
            r"experts\[1\]: num_classes 3; must be 2",
        ),
        (
            smoothed(0.5, 0.1),
            [smoothed(0.5, 0.1), smoothed(0.5, 0.1, certificate=L1Certificate())],
            r"experts\[1\]: norm l1; must be l2",
        ),
        (
            smoothed(0.5, 0.1, pixel_range=None),
            [smoothed(0.5, 0.1), smoothed(0.5, 0.1)],
            r"router: pixel_range None; must be \(0\.0, 1\.0\)",
        ),
        (smoothed(0.5, ADAPTIVE), [smoothed(0.5, 0.1)] * 2, r"router: guarantee 'none'; must be global"),
        (
            smoothed(0.5, 0.1),
            [smoothed(0.5, 0.1), smoothed(0.5, ADAPTIVE, memory=Memory())],
            r"experts\[1\]: guarantee 'memory'; must be global",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(router, experts, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        DualSmoothedClassifier(router, experts)


def test_bad_arguments_are_named():
    with pytest.raises(ConfigError, match=r"^router_share: 1\.0; must be"):
        dual().certify(images(0.1), router_share=1.0, **FEW)
    with pytest.raises(DataError, match=r"^images: "):
        dual().certify(images(2.0), **FEW)


def test_the_snippets_of_the_docs_run():
    recipe = Recipe(epochs=1, batch_size=2, learning_rate=0.1)
    names = {
        "model": nn.Sequential(nn.Flatten(), nn.Linear(1, 10)),
        "router": nn.Sequential(nn.Flatten(), nn.Linear(1, 2)),
        "images": images(0.1, 0.9),
        "radii": np.array([[0.2, 0.1], [0.3, 0.3]]),
        "stake": np.array([0.1, 0.0], np.float32),
        "recipe": recipe,
        "train": train,
    }
    text = (ROOT / "docs" / "dual.md").read_text(encoding="utf-8")
    made, trained = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(made, names)
    assert len(names["dual"].experts) == 2
    names["images"] = names["images"].numpy()
    before = names["router"][1].bias.clone()
    exec(trained, names)
    assert not torch.equal(names["router"][1].bias, before)
