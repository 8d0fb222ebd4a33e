"""What the memory's order costs: the bound against all orders of few images, and examples by hand."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certsmooth.errors import ConfigError
from certsmooth.science.audit.order import order_cost, worst_for_each
from certsmooth.science.certificates import ABSTAIN
from certsmooth.science.memory import memory_pass

RADII = (0.0, 0.5, 1.0)


def cost(points, predict, radius, labels, *, order=None, norm="l2", shuffles=3):
    order = np.arange(len(points)) if order is None else np.asarray(order)
    answers = (np.asarray(predict), np.asarray(radius, float), np.asarray(labels))
    return order_cost(np.asarray(points), *answers, order=order, radii=RADII, shuffles=shuffles, seed=0, norm=norm)


def worth(points, predict, radius, labels, order, norm):
    """What each image is worth under an order: its radius if it is right, else nothing; and whether it is right."""
    result = memory_pass(points, predict, radius, order=np.asarray(order), norm=norm)
    right = (result.predict == labels) & (result.predict != ABSTAIN)
    return np.where(right, result.radius, 0), right


def test_a_line_of_three_by_hand():
    # 0 and 1 are right, and the wrong answer at 1.5 reaches from 0.75 to 2.25: it holds 1 and touches no more of 0.
    points, predict, radius, labels = [[0.0], [1.0], [1.5]], [0, 0, 1], [0.5, 0.7, 0.75], [0, 0, 0]
    found = cost(points, predict, radius, labels)
    assert (found.images, found.conflicts) == (3, 1)
    assert found.without.accuracy == (2 / 3, 2 / 3, 0)
    assert found.without.acr == pytest.approx(1.2 / 3)
    # In the given order 1 comes before the wrong one, which is in its ball and repredicted: right, with 0.7 - 0.5.
    assert found.given.accuracy == (1, 2 / 3, 0)
    assert found.given.acr == pytest.approx(1.4 / 3)
    # The worst enters the wrong answer first: 1 is repredicted.
    assert found.worst_found.accuracy == found.bound.accuracy == (1 / 3, 1 / 3, 0)
    assert found.worst_found.acr == pytest.approx(0.5 / 3)
    assert found.bound.acr == pytest.approx(0.5 / 3, abs=1e-12)
    assert found.bound.acr <= found.worst_found.acr


def test_where_no_balls_of_different_classes_meet_the_order_costs_nothing():
    # The balls of 0 and 1 touch, those of 0 and 2 intersect but are of one class, and 3 abstains inside 0.
    points, predict, radius, labels = [[0.0], [1.0], [-0.5], [0.1]], [0, 1, 0, -1], [0.5, 0.5, 0.5, 0], [0, 1, 1, 1]
    found = cost(points, predict, radius, labels)
    assert found.conflicts == 0
    assert found.without.acr == 0.25
    assert found.without.accuracy == (0.5, 0.5, 0)
    for name in ("given", "mean", "least", "most", "worst_found", "bound"):
        assert getattr(found, name) == found.without


def test_a_right_answer_may_harm_another():
    # Whichever comes second is cut to what is left; each alone can be left with 0.2.
    points, radius = [[0.0], [1.0]], [0.8, 0.8]
    found = cost(points, [0, 1], radius, [0, 1])
    assert found.given.acr == pytest.approx(0.5)
    assert found.bound.acr == pytest.approx(0.2)
    assert found.worst_found.acr == pytest.approx(0.5)
    worst = worst_for_each(np.array(points), np.array([0, 1]), np.array(radius), np.array([0, 1]), norm="l2")
    assert worst.keeps.all()
    np.testing.assert_allclose(worst.harm, 0.6)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("seed", range(6))
def test_the_bound_is_what_each_image_gets_in_the_worst_of_all_orders(seed, norm):
    generator = np.random.default_rng(seed)
    points = generator.random((5, 2)) if seed % 2 else generator.integers(0, 256, (5, 2)).astype(np.uint8)
    predict, labels = generator.integers(-1, 2, 5), generator.integers(0, 2, 5)
    radius = np.where(predict == ABSTAIN, 0, generator.random(5) * 0.7)
    outcomes = [worth(points, predict, radius, labels, order, norm) for order in permutations(range(5))]
    worst = worst_for_each(points, predict, radius, labels, norm=norm)
    bound = np.where(worst.keeps & (predict == labels), worst.radius, 0)
    least = np.min([value for value, _ in outcomes], axis=0)
    assert (bound <= least).all()
    np.testing.assert_allclose(bound, least, atol=1e-12)
    np.testing.assert_array_equal(worst.keeps & (predict == labels), np.all([right for _, right in outcomes], axis=0))


@st.composite
def grids(draw):
    """Points on a coarse grid, so that they coincide, touch and tie."""
    count, dims = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2]))
    points = draw(st.lists(st.lists(st.integers(0, 3), min_size=dims, max_size=dims), min_size=count, max_size=count))
    answers = st.lists(st.integers(-1, 2), min_size=count, max_size=count)
    predict, labels = np.array(draw(answers)), np.abs(draw(answers))
    sizes = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    return np.array(points) * 0.25, predict, np.where(predict == ABSTAIN, 0, np.array(sizes) * 0.125), labels


@given(grids(), st.sampled_from(["l1", "l2"]))
@settings(max_examples=60, deadline=None)
def test_no_order_falls_below_the_bound(case, norm):
    points, predict, radius, labels = case
    found = cost(points, predict, radius, labels, norm=norm)
    assert found.bound.acr <= found.worst_found.acr <= found.given.acr
    assert found.least.acr <= found.mean.acr * (1 + 1e-12)
    assert found.mean.acr <= found.most.acr * (1 + 1e-12)
    for order in permutations(range(len(points))):
        value, right = worth(points, predict, radius, labels, order, norm)
        assert value.mean() >= found.bound.acr
        for at, accuracy in zip(RADII, found.bound.accuracy, strict=True):
            assert (right & (value >= at)).mean() >= accuracy


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_bound_counts_on_no_distance_that_rounding_enlarged(norm):
    """A ball that ends just beyond another image, nearer than the error of a sum, repredicts it."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        points = generator.random((2, 300)) * 10 ** generator.uniform(-2, 2, 300)
        differences = [abs(Fraction(a) - Fraction(b)) for a, b in zip(*points.tolist(), strict=True)]
        reach = float(sum(differences)) if norm == "l1" else math.sqrt(math.fsum(float(d * d) for d in differences))
        for radius in (reach, np.nextafter(reach, np.inf)):
            answers = (np.array([0, 1]), np.array([1.0, radius]))
            later = memory_pass(points, *answers, order=np.array([1, 0]), norm=norm)
            worst = worst_for_each(points, *answers, np.array([0, 1]), norm=norm)
            assert later.predict[0] == 0 or not worst.keeps[0]
            assert worst.radius[0] <= later.radius[0]
        assert later.predict[0] == 1


def test_many_points_are_the_same_in_blocks(monkeypatch):
    generator = np.random.default_rng(0)
    case = (generator.random((40, 3)), generator.integers(-1, 3, 40), generator.integers(0, 3, 40))
    radius = np.where(case[1] == ABSTAIN, 0, generator.random(40) * 0.3)
    whole = worst_for_each(case[0], case[1], radius, case[2], norm="l2")
    monkeypatch.setattr("certsmooth.science.audit.order._ROWS", 7)
    parts = worst_for_each(case[0], case[1], radius, case[2], norm="l2")
    np.testing.assert_array_equal(parts.keeps, whole.keeps)
    np.testing.assert_array_equal(parts.radius, whole.radius)
    np.testing.assert_allclose(parts.harm, whole.harm)


def test_bad_orders_are_refused():
    with pytest.raises(ConfigError, match="permutation"):
        cost([[0.0], [1.0]], [0, 1], [0.1, 0.1], [0, 1], order=[0, 0])
