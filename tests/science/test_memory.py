"""The memory pass against its definition in plain Python, in exact arithmetic, and against what it promises."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certsmooth.errors import ConfigError
from certsmooth.science import memory
from certsmooth.science.certificates import ABSTAIN
from certsmooth.science.memory import Case, Memory, memory_pass, shuffled_order
from certsmooth.science.theory import distances

POWERS = {"l1": 1, "l2": 2}
"""p of each norm: what is rational is the p-th power of a distance."""

both_norms = pytest.mark.parametrize("norm", POWERS)


def distance(x, y, norm):
    return math.dist(x, y) if norm == "l2" else math.fsum(abs(a - b) for a, b in zip(x, y, strict=True))


def naive(points, predict, radius, order, norm):
    """The definition, on floats: (predict, radius, case, partner) by position, and the number of conflicts."""
    predict, radius, count = list(predict), list(radius), len(points)
    given_answers = list(zip(predict, radius, strict=True))
    case, partner, seen = [Case.NONE] * count, [-1] * count, []
    for t in order:
        if predict[t] == ABSTAIN:
            continue
        others = [(distance(points[t], points[i], norm), i) for i in seen if predict[i] != predict[t]]
        inside = [(min(radius[t], radius[i] - d), i) for d, i in others if d < radius[i] or d == 0]
        meeting = [(d - radius[i], i) for d, i in others if d < radius[t] + radius[i]]
        if inside:
            radius[t] = max(room for room, _ in inside)
            partner[t] = next(i for room, i in inside if room == radius[t])
            predict[t], case[t] = predict[partner[t]], Case.REPREDICTED
        elif meeting:
            radius[t] = min(room for room, _ in meeting)
            partner[t], case[t] = next(i for room, i in meeting if room == radius[t]), Case.CAPPED
        seen.append(t)
    return predict, radius, case, partner, naive_conflicts(points, given_answers, norm)


def naive_conflicts(points, answers, norm):
    total = 0
    for j, (class_j, radius_j) in enumerate(answers):
        for i, (class_i, radius_i) in enumerate(answers[:j]):
            if ABSTAIN not in (class_i, class_j) and class_i != class_j:
                power = distance_power(points[i], points[j], norm)
                total += power == 0 or power < (Fraction(radius_i) + Fraction(radius_j)) ** POWERS[norm]
    return total


def distance_power(x, y, norm):
    return sum((abs(Fraction(a) - Fraction(b)) ** POWERS[norm] for a, b in zip(x, y, strict=True)), Fraction(0))


def check_each_step_exactly(points, predict, radius, order, result, norm, tolerance=1e-12):
    """Check each answer against the definition, given the answers before it, in rational and 50-digit arithmetic."""
    points = [[Fraction(v) for v in p] for p in points]
    if not points:
        return
    seen, p = [], POWERS[norm]
    for t in order:
        if predict[t] == ABSTAIN:
            assert (result.predict[t], result.radius[t], result.case[t]) == (ABSTAIN, radius[t], Case.NONE)
            assert result.partner[t] == -1
            continue
        powers = {i: distance_power(points[t], points[i], norm) for i in seen if result.predict[i] != predict[t]}
        kept = {i: Fraction(float(result.radius[i])) for i in powers}
        inside = {i for i, q in powers.items() if q == 0 or q < kept[i] ** p}
        meeting = {i for i, q in powers.items() if q < (kept[i] + Fraction(float(radius[t]))) ** p}
        with mp.workdps(50):
            outside = {i: mp.root(mpf(powers[i]), p) - mpf(kept[i]) for i in powers}
            if inside:
                want, case = min(mp.mpf(float(radius[t])), max(-outside[i] for i in inside)), Case.REPREDICTED
                best = [i for i in inside if min(-outside[i], mp.mpf(float(radius[t]))) >= want - tolerance]
            elif meeting:
                want, case = min(outside[i] for i in meeting), Case.CAPPED
                best = [i for i in meeting if outside[i] <= want + tolerance]
            else:
                want, case, best = mp.mpf(float(radius[t])), Case.NONE, [-1]
            assert result.case[t] == case
            assert result.partner[t] in best
            assert result.predict[t] == (result.predict[best[0]] if inside else predict[t])
            assert want - tolerance <= result.radius[t] <= want
            assert result.radius[t] >= 0
        seen.append(t)


def mpf(x):
    return mp.mpf(x.numerator) / mp.mpf(x.denominator)


def check_disjoint(points, result, norm):
    """Check in rational arithmetic that no two answers of different classes contradict each other."""
    answers = [(i, c) for i, c in enumerate(result.predict.tolist()) if c != ABSTAIN]
    for j, class_j in answers:
        for i, class_i in answers:
            if i < j and class_i != class_j:
                power = distance_power(points[i], points[j], norm)
                reach = Fraction(float(result.radius[i])) + Fraction(float(result.radius[j]))
                assert power > 0
                assert power >= reach ** POWERS[norm]


def answers(generator, count, *, largest, classes=3):
    predict = generator.integers(-1, classes, count)
    radius = np.where(predict == ABSTAIN, 0, generator.random(count) * largest)
    radius[generator.random(count) < 0.1] = 0
    return predict, radius


@st.composite
def grids(draw):
    """Points on a coarse grid, so that they coincide, touch and tie: (points, predict, radius, order)."""
    dims, count = draw(st.sampled_from([1, 2, 5])), draw(st.integers(0, 12))
    kind = draw(st.sampled_from([np.float64, np.float32, np.uint8]))
    step = 51 if kind == np.uint8 else 0.25
    cells = st.lists(st.integers(0, 5), min_size=dims, max_size=dims)
    points = np.array([draw(cells) for _ in range(count)], np.float64).reshape(count, dims) * step
    predict = np.array([draw(st.integers(-1, 2)) for _ in range(count)], np.int64)
    quarters = np.array([draw(st.integers(0, 5)) for _ in range(count)])
    unit = 0.2 if kind == np.uint8 else 0.25
    radius = np.where(predict == ABSTAIN, 0.0, quarters * unit)
    order = np.array(draw(st.permutations(range(count))), np.int64)
    return points.astype(kind), predict, radius, order


def as_real(points):
    """The coordinates that points stand for, as exact numbers."""
    scale = Fraction(255) if points.dtype == np.uint8 else Fraction(1)
    return [[Fraction(v) / scale for v in p.ravel().tolist()] for p in points]


@pytest.mark.slow
@both_norms
@settings(max_examples=250, deadline=None)
@given(case=grids())
def test_each_answer_is_the_defined_one_also_at_ties(norm, case):
    points, predict, radius, order = case
    result = memory_pass(points, predict, radius, order=order, norm=norm)
    check_each_step_exactly(as_real(points), predict, radius, order.tolist(), result, norm)
    check_disjoint(as_real(points), result, norm)
    given_answers = list(zip(predict.tolist(), radius.tolist(), strict=True))
    assert result.conflicts == naive_conflicts(as_real(points), given_answers, norm)
    assert (result.radius <= radius).all()


@both_norms
@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dims=st.sampled_from([2, 5, 30]),
    count=st.integers(1, 40),
    largest=st.sampled_from([0.01, 0.1, 0.5, 3.0]),
    kind=st.sampled_from([np.float64, np.float32, np.uint8]),
)
def test_equal_to_the_definition_in_plain_python(norm, seed, dims, count, largest, kind):
    generator = np.random.default_rng(seed)
    # Where distances add up, on a line and in l1 often, nested balls touch from within, so that caps tie.
    points = generator.random((count, dims if norm == "l2" else 30))
    points = (points * 255).astype(np.uint8) if kind == np.uint8 else points.astype(kind)
    # Ties are for the test above: floats decide them only up to rounding.
    points = np.unique(points, axis=0)
    predict, radius = answers(generator, len(points), largest=largest if norm == "l2" else 4 * largest)
    order = generator.permutation(len(points))
    result = memory_pass(points, predict, radius, order=order, norm=norm)
    real = points / 255 if kind == np.uint8 else points.astype(np.float64)
    want = naive(real.tolist(), predict.tolist(), radius.tolist(), order.tolist(), norm)
    np.testing.assert_array_equal(result.predict, want[0])
    np.testing.assert_allclose(result.radius, want[1], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(result.case, want[2])
    np.testing.assert_array_equal(result.partner, want[3])
    assert result.conflicts == want[4]


@both_norms
@settings(max_examples=100, deadline=None)
@given(case=grids())
def test_the_first_to_arrive_and_the_abstaining_are_left_alone(norm, case):
    points, predict, radius, order = case
    result = memory_pass(points, predict, radius, order=order, norm=norm)
    abstains = predict == ABSTAIN
    first = [t for t in order if not abstains[t]][:1]
    for left in (abstains, first):
        np.testing.assert_array_equal(result.predict[left], predict[left])
        np.testing.assert_array_equal(result.radius[left], radius[left])
        np.testing.assert_array_equal(result.case[left], Case.NONE)
        np.testing.assert_array_equal(result.partner[left], -1)
    order_without = np.argsort(np.argsort(order)[~abstains])
    without = memory_pass(points[~abstains], predict[~abstains], radius[~abstains], order=order_without, norm=norm)
    np.testing.assert_array_equal(without.predict, result.predict[~abstains])
    np.testing.assert_array_equal(without.radius, result.radius[~abstains])
    assert without.conflicts == result.conflicts


@both_norms
@settings(max_examples=100, deadline=None)
@given(case=grids(), seed=st.integers(0, 1000))
def test_the_order_matters_only_if_there_are_conflicts(norm, case, seed):
    points, predict, radius, order = case
    result = memory_pass(points, predict, radius, order=order, norm=norm)
    other = memory_pass(points, predict, radius, order=shuffled_order(len(points), seed=seed), norm=norm)
    assert other.conflicts == result.conflicts
    changed = (result.predict != predict).any() or (result.radius != radius).any()
    assert changed == (result.conflicts > 0)
    if not result.conflicts:
        np.testing.assert_array_equal(other.predict, predict)
        np.testing.assert_array_equal(other.radius, radius)


@both_norms
@settings(max_examples=100, deadline=None)
@given(case=grids())
def test_a_second_pass_changes_nothing(norm, case):
    points, predict, radius, order = case
    once = memory_pass(points, predict, radius, order=order, norm=norm)
    twice = memory_pass(points, once.predict, once.radius, order=order, norm=norm)
    np.testing.assert_array_equal(twice.predict, once.predict)
    np.testing.assert_array_equal(twice.radius, once.radius)
    assert twice.conflicts == 0


def in_order(points, predict, radius, norm="l2"):
    points = np.asarray(points, np.float64).reshape(len(points), -1)
    order = np.arange(len(points))
    return memory_pass(points, np.array(predict), np.array(radius, np.float64), order=order, norm=norm)


@pytest.mark.parametrize(("norm", "conflicts", "radius"), [("l1", 0, 0.9), ("l2", 1, math.sqrt(2) - 0.9)])
def test_the_norm_says_how_far_points_are_apart(norm, conflicts, radius):
    result = in_order([[0, 0], [1, 1]], [7, 8], [0.9, 0.9], norm)
    assert result.conflicts == conflicts
    assert result.radius[1] == pytest.approx(radius, rel=1e-14)


def test_figure_2_left_the_same_prediction_stays():
    result = in_order([0, 1], [7, 7], [1, 2])
    np.testing.assert_array_equal(result.predict, [7, 7])
    np.testing.assert_array_equal(result.radius, [1, 2])
    np.testing.assert_array_equal(result.case, [Case.NONE, Case.NONE])
    assert result.conflicts == 0


def test_figure_2_middle_inside_another_ball_the_prediction_changes():
    result = in_order([0, 1], [7, 8], [4, 5])
    np.testing.assert_array_equal(result.predict, [7, 7])
    np.testing.assert_allclose(result.radius, [4, 3], rtol=1e-15)
    np.testing.assert_array_equal(result.case, [Case.NONE, Case.REPREDICTED])
    np.testing.assert_array_equal(result.partner, [-1, 0])
    assert result.conflicts == 1


def test_figure_2_right_outside_another_ball_the_radius_shrinks():
    result = in_order([0, 5], [7, 8], [4, 3])
    np.testing.assert_array_equal(result.predict, [7, 8])
    np.testing.assert_allclose(result.radius, [4, 1], rtol=1e-14)
    assert result.radius[1] <= 1
    np.testing.assert_array_equal(result.case, [Case.NONE, Case.CAPPED])
    np.testing.assert_array_equal(result.partner, [-1, 0])


def test_the_ball_that_leaves_the_largest_radius_is_the_partner():
    result = in_order([0, 1, 10, 0.5], [7, 7, 7, 8], [2, 3, 4, 5])
    np.testing.assert_array_equal(result.predict, [7, 7, 7, 7])
    assert result.radius[3] == pytest.approx(2.5, rel=1e-15)
    assert result.partner[3] == 1


def test_a_changed_prediction_meets_answers_of_its_former_class():
    # The second becomes a 7, so that the third, an 8 like the second was, collides with it.
    result = in_order([0, 3, 3.5], [7, 8, 8], [4, 4, 4])
    np.testing.assert_array_equal(result.case, [Case.NONE, Case.REPREDICTED, Case.REPREDICTED])
    result = in_order([0, 3, 4.5], [7, 8, 8], [4, 4, 4])
    np.testing.assert_array_equal(result.predict, [7, 7, 8])
    np.testing.assert_allclose(result.radius, [4, 1, 0.5], rtol=1e-14)
    np.testing.assert_array_equal(result.partner, [-1, 0, 0])
    # Far from the first, near the second: a 9 inside the first's ball makes the same point for a third class.
    result = in_order([0, 3.5, 5], [7, 9, 9], [4, 1, 1])
    np.testing.assert_array_equal(result.predict, [7, 7, 9])
    assert result.radius[1] == pytest.approx(0.5, rel=1e-14)


@pytest.mark.parametrize("second", [0.0, 2.0])
def test_the_same_point_gets_the_same_answer_for_ever(second):
    result = in_order([[1, 2], [1, 2], [1, 2]], [7, 8, 9], [0, second, second])
    np.testing.assert_array_equal(result.predict, [7, 7, 7])
    np.testing.assert_array_equal(result.radius, [0, 0, 0])
    np.testing.assert_array_equal(result.partner, [-1, 0, 0])
    assert result.conflicts == 3
    result = in_order([[1, 2], [1, 2]], [7, 8], [3, second])
    np.testing.assert_array_equal(result.predict, [7, 7])
    np.testing.assert_array_equal(result.radius, [3, second])


def test_an_answer_without_radius_is_not_contradicted_by_a_later_ball():
    result = in_order([0, 3], [7, 8], [0, 5])
    np.testing.assert_array_equal(result.predict, [7, 8])
    np.testing.assert_allclose(result.radius, [0, 3], rtol=1e-15)
    assert result.radius[1] <= 3
    result = in_order([0, 3], [7, 8], [5, 0])
    np.testing.assert_array_equal(result.predict, [7, 7])
    np.testing.assert_array_equal(result.radius, [5, 0])


def test_touching_balls_do_not_meet_and_the_boundary_is_outside():
    result = in_order([0, 3, -1], [7, 8, 9], [1, 2, 0.5])
    assert result.conflicts == 1
    np.testing.assert_array_equal(result.case, [Case.NONE, Case.NONE, Case.CAPPED])
    np.testing.assert_array_equal(result.predict, [7, 8, 9])
    np.testing.assert_array_equal(result.radius, [1, 2, 0])


def test_exact_where_floating_point_cannot_decide():
    # sqrt(2) lies between two floats: a ball of the one below just excludes the point, of the one above includes it.
    below = math.sqrt(2) if Fraction(math.sqrt(2)) ** 2 < 2 else math.nextafter(math.sqrt(2), 0)
    outside = in_order([[0, 0], [1, 1]], [7, 8], [below, 1])
    inside = in_order([[0, 0], [1, 1]], [7, 8], [math.nextafter(below, 2), 1])
    np.testing.assert_array_equal(outside.predict, [7, 8])
    np.testing.assert_array_equal(inside.predict, [7, 7])
    assert 0 <= inside.radius[1] < 1e-15
    touching = in_order([[0, 0], [1, 1]], [7, 8], [below / 2, below / 2])
    meeting = in_order([[0, 0], [1, 1]], [7, 8], [below / 2, math.nextafter(below, 2) / 2 + 1e-16])
    np.testing.assert_array_equal(touching.case, [Case.NONE, Case.NONE])
    np.testing.assert_array_equal(meeting.case, [Case.NONE, Case.CAPPED])


@pytest.mark.parametrize("small", [[2.0**-60], [0.9 * 2.0**-53] * 127])
def test_exact_in_l1_where_floating_point_cannot_decide(small):
    # The distance lies between two floats; added to 1 one by one, the small differences are lost.
    points = [[0.0] * (1 + len(small)), [1.0, *small]]
    exact = distance_power(*points, "l1")
    below = float(exact) if Fraction(float(exact)) <= exact else math.nextafter(float(exact), 0)
    above = math.nextafter(below, 2)
    assert below < exact < above
    outside = in_order(points, [7, 8], [below, 0], "l1")
    inside = in_order(points, [7, 8], [above, 1], "l1")
    np.testing.assert_array_equal(outside.predict, [7, 8])
    np.testing.assert_array_equal(inside.predict, [7, 7])
    touching = in_order(points, [7, 8], [0.5, below - 0.5], "l1")
    meeting = in_order(points, [7, 8], [0.5, above - 0.5], "l1")
    np.testing.assert_array_equal(touching.case, [Case.NONE, Case.NONE])
    np.testing.assert_array_equal(meeting.case, [Case.NONE, Case.CAPPED])
    within = in_order(points, [7, 8], [1.5, 1], "l1")
    assert [within.radius[1], meeting.radius[1]] == pytest.approx([0.5, 0.5], rel=1e-12)
    assert Fraction(1.5) - Fraction(within.radius[1]) >= exact
    assert Fraction(0.5) + Fraction(meeting.radius[1]) <= exact


@both_norms
@pytest.mark.parametrize(
    ("scale", "offset", "tolerance"),
    [(1, 1e7, 1e-12), (1e-3, 1e6, 1e-12), (1e-150, 0, 1e-157), (1e-200, 0, 1e-153), (1e-300, 1, 0), (1e140, 0, 1e128)],
)
def test_tiny_huge_and_remote_points(norm, scale, offset, tolerance):
    # Far from the origin the norms cancel; squares of tiny differences underflow.
    generator = np.random.default_rng(0)
    points = offset + generator.integers(0, 6, (25, 2)) * scale
    predict, radius = answers(generator, 25, largest=2 * scale)
    order = generator.permutation(25)
    result = memory_pass(points, predict, radius, order=order, norm=norm)
    check_disjoint(as_real(points), result, norm)
    check_each_step_exactly(as_real(points), predict, radius, order.tolist(), result, norm, tolerance)
    given_answers = list(zip(predict.tolist(), radius.tolist(), strict=True))
    assert result.conflicts == naive_conflicts(as_real(points), given_answers, norm)


@both_norms
def test_the_largest_ball_inside_another_is_rounded_down(norm):
    generator = np.random.default_rng(4)
    points = np.concatenate([np.zeros((1, 3)), generator.normal(size=(300, 3)) * 10.0 ** generator.uniform(-4, -1)])
    result = in_order(points, [0] + [1] * 300, [0.7] + [1] * 300, norm)
    assert (result.case[1:] == Case.REPREDICTED).all()
    for point, radius in zip(points[1:].tolist(), result.radius[1:].tolist(), strict=True):
        power = distance_power([0, 0, 0], point, norm)
        assert power <= (Fraction(0.7) - Fraction(radius)) ** POWERS[norm] <= power * (1 + Fraction(1, 10**9))


@both_norms
def test_pixels_exactly_at_the_edge_of_a_ball(norm):
    corner = np.zeros((1, 3), np.uint8)
    for pixels in np.random.default_rng(6).integers(0, 256, (150, 3)).astype(np.uint8):
        points = np.concatenate([corner, pixels[None]])
        power, p = distance_power(*as_real(points), norm), POWERS[norm]
        reach = float(power) ** (1 / p)
        while Fraction(reach) ** p > power:
            reach = math.nextafter(reach, 0)
        while Fraction(math.nextafter(reach, 4)) ** p <= power:
            reach = math.nextafter(reach, 4)
        # ``reach`` is the largest float that is not above the distance.
        for radius, case in ((reach, Case.NONE), (math.nextafter(reach, 4), Case.REPREDICTED)):
            result = memory_pass(points, np.array([0, 1]), np.array([radius, 0.0]), order=np.arange(2), norm=norm)
            assert result.case[1] == case
            assert result.conflicts == (case != Case.NONE)


@both_norms
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_many_tiles_give_what_one_gives(monkeypatch, norm, kind):
    generator = np.random.default_rng(5)
    points = (generator.random((300, 3, 2, 2)) * 255).astype(kind)
    largest = {"l1": 4, "l2": 1.5}[norm]
    predict, radius = answers(generator, 300, largest=largest if kind == np.uint8 else 255 * largest)
    order = shuffled_order(300, seed=1)
    whole = memory_pass(points, predict, radius, order=order, norm=norm)
    for module in (memory, distances):
        monkeypatch.setattr(module, "TILE", 700)
    parts = memory_pass(points, predict, radius, order=order, norm=norm)
    assert set(whole.case) == {Case.NONE, Case.REPREDICTED, Case.CAPPED}
    for name in ("predict", "radius", "case", "partner", "conflicts"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@both_norms
def test_working_memory_is_bounded_when_all_balls_meet(monkeypatch, norm):
    for module in (memory, distances):
        monkeypatch.setattr(module, "TILE", 2**14)
    generator = np.random.default_rng(2)
    points, count = generator.random((1500, 40)).astype(np.float32), 1500
    predict, order = generator.integers(0, 3, count), np.arange(count)
    tracemalloc.start()
    memory_pass(points, predict, np.full(count, 50.0), order=order, norm=norm)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < count**2  # bytes: an eighth of one matrix of distances


def test_the_arguments_stay_as_they_were():
    generator = np.random.default_rng(1)
    points = generator.random((20, 2))
    predict, radius = answers(generator, 20, largest=1)
    order = shuffled_order(20, seed=0)
    for array in (points, predict, radius, order):
        array.setflags(write=False)
    result = memory_pass(points, predict, radius, order=order)
    assert result.conflicts > 0
    assert (result.predict.dtype, result.radius.dtype) == (np.int64, np.float64)
    assert (result.case.dtype, result.partner.dtype) == (np.int8, np.int64)


def test_nothing_gives_nothing():
    empty = memory_pass(np.zeros((0, 3, 4)), np.zeros(0, np.int64), np.zeros(0), order=np.zeros(0, np.int64))
    assert (len(empty.predict), empty.conflicts) == (0, 0)


@both_norms
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 30), max_size=3))
def test_a_memory_fed_in_batches_answers_like_one_pass(norm, seed, cuts):
    generator = np.random.default_rng(seed)
    points = generator.integers(0, 9, (30, 2)).astype(np.float32)
    predict, radius = answers(generator, 30, largest=2)
    whole = memory_pass(points, predict, radius, order=np.arange(30), norm=norm)
    growing = Memory(norm=norm)
    parts = [
        growing.enter(points[a:b], predict[a:b], radius[a:b])
        for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), 30], strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate([p for p, _ in parts]), whole.predict)
    np.testing.assert_array_equal(np.concatenate([r for _, r in parts]), whole.radius)
    assert len(growing) == (predict != ABSTAIN).sum()


@pytest.mark.slow
@both_norms
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_memory_recalls_what_it_has_promised(norm, seed):
    generator = np.random.default_rng(seed)
    points = generator.integers(0, 9, (20, 2)) / 4
    predict, radius = answers(generator, 20, largest=1)
    remembering = Memory(norm=norm)
    final, reach = remembering.enter(points, predict, radius)
    asked = np.concatenate([points, generator.integers(0, 17, (30, 2)) / 8])
    offered = generator.integers(-1, 3, 50)
    found = remembering.recall(asked, offered)
    for x, before, after in zip(asked, offered.tolist(), found.tolist(), strict=True):
        powers = [distance_power(x.tolist(), p.tolist(), norm) for p in points]
        holding = {
            c
            for q, c, r in zip(powers, final.tolist(), reach.tolist(), strict=True)
            if c != ABSTAIN and (q == 0 or q < Fraction(r) ** POWERS[norm])
        }
        assert len(holding) <= 1
        assert after == (holding.pop() if holding else before)
    np.testing.assert_array_equal(remembering.recall(asked, offered), found)


def test_an_empty_memory_recalls_nothing():
    np.testing.assert_array_equal(Memory().recall(np.zeros((2, 3)), np.array([4, -1])), [4, -1])


def test_a_memory_refuses_other_points():
    remembering = Memory()
    remembering.enter(np.zeros((1, 3)), np.array([0]), np.array([0.5]))
    for points in (np.zeros((1, 4)), np.zeros((1, 3), np.float32)):
        with pytest.raises(ConfigError, match=r"points: .* as remembered"):
            remembering.enter(points, np.array([0]), np.array([0.5]))


def test_a_shuffled_order_is_a_fixed_permutation():
    np.testing.assert_array_equal(shuffled_order(8, seed=0), [3, 2, 1, 6, 0, 7, 4, 5])
    np.testing.assert_array_equal(np.sort(shuffled_order(1000, seed=3)), np.arange(1000))
    assert (shuffled_order(1000, seed=3) != shuffled_order(1000, seed=4)).any()


GOOD = {
    "points": np.zeros((2, 3)),
    "predict": np.array([0, -1]),
    "radius": np.array([1.0, 0.0]),
    "order": np.array([1, 0]),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("points", np.zeros((2, 3), np.int64)),
        ("points", np.zeros(2)),
        ("points", np.zeros((2, 0))),
        ("points", np.array([[0, np.nan, 0], [0, 0, 0]])),
        ("points", np.array([[0, np.inf, 0], [0, 0, 0]])),
        ("points", np.array([[0, 1e308, 0], [0, 0, 0]])),
        ("predict", np.array([0.0, -1.0])),
        ("predict", np.array([0, -2])),
        ("predict", np.array([0])),
        ("radius", np.array([1, 0])),
        ("radius", np.array([-1.0, 0.0])),
        ("radius", np.array([np.nan, 0.0])),
        ("radius", np.array([np.inf, 0.0])),
        ("radius", np.array([1.0, 1.0])),
        ("radius", np.array([1.0])),
        ("order", np.array([0, 0])),
        ("order", np.array([0, 2])),
        ("order", np.array([0])),
        ("order", np.array([0.0, 1.0])),
    ],
)
@both_norms
def test_a_bad_argument_is_named(norm, name, value):
    arguments = GOOD | {name: value}
    order = arguments.pop("order")
    with pytest.raises(ConfigError, match=f"^{name}: "):
        memory_pass(**arguments, order=order, norm=norm)


def test_coordinates_whose_squares_are_infinite_are_refused_in_l2_only():
    points, predict, radius = np.array([[1e200], [0]]), np.array([7, 8]), np.array([1e200, 1e199])
    with pytest.raises(ConfigError, match=r"^points: "):
        memory_pass(points, predict, radius, order=np.arange(2))
    assert memory_pass(points, predict, radius, order=np.arange(2), norm="l1").radius.tolist() == [1e200, 0]


def test_another_norm_is_refused():
    arguments = {name: value for name, value in GOOD.items() if name != "order"}
    with pytest.raises(ConfigError, match=r"norm: unknown 'linf'; .*valid: l1, l2"):
        memory_pass(**arguments, order=GOOD["order"], norm="linf")
    with pytest.raises(ConfigError, match="norm: unknown 'l3'"):
        Memory(norm="l3")
    assert (Memory().norm, Memory(norm="l1").norm) == ("l2", "l1")
