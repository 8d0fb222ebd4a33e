"""The memory that a smoothed classifier is given: what it promised stays true for what comes later."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certsmooth import CertsmoothError, Memory


@st.composite
def sessions(draw):
    """Images of 3 pixels with classes and radii such that many balls meet; and where to cut them into calls."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    images = draw(st.integers(1, 40))
    predict = generator.integers(-1, 3, images)
    radius = np.where(predict < 0, 0.0, generator.random(images) * 0.5)
    cuts = sorted(draw(st.lists(st.integers(0, images), max_size=4)))
    return generator.random((images, 3)).astype(np.float32), predict, radius, [0, *cuts, images]


def enter(memory, points, predict, radius, cuts):
    answers = [memory.enter(points[a:b], predict[a:b], radius[a:b]) for a, b in itertools.pairwise(cuts)]
    return tuple(np.concatenate(part) for part in zip(*answers, strict=True))


def distances(a, b):
    return np.linalg.norm(a.astype(np.float64)[:, None] - b.astype(np.float64), axis=2)


@settings(max_examples=80, deadline=None)
@given(sessions())
def test_calls_are_one_session(session):
    points, predict, radius, cuts = session
    together = enter(Memory(), points, predict, radius, [0, len(points)])
    for found, expected in zip(enter(Memory(), points, predict, radius, cuts), together, strict=True):
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=80, deadline=None)
@given(sessions())
def test_balls_of_different_classes_are_disjoint(session):
    points, predict, radius, cuts = session
    classes, radii = enter(Memory(), points, predict, radius, cuts)
    assert (radii <= radius).all()
    assert ((classes == -1) == (predict == -1)).all()
    kept = np.flatnonzero(classes >= 0)
    apart = distances(points[kept], points[kept]) - radii[kept] - radii[kept][:, None]
    assert (apart[classes[kept] != classes[kept][:, None]] >= -1e-12).all()


@settings(max_examples=80, deadline=None)
@given(sessions(), st.integers(0, 2**32))
def test_recall_gives_the_class_of_the_ball_and_remembers_nothing(session, seed):
    points, predict, radius, cuts = session
    memory = Memory()
    classes, radii = enter(memory, points, predict, radius, cuts)
    generator = np.random.default_rng(seed)
    near = points + generator.normal(size=points.shape).astype(np.float32) * radii[:, None].astype(np.float32) / 3
    asked = np.concatenate([points, near, near])
    offered = generator.integers(-1, 3, len(asked))
    found = memory.recall(asked, offered)
    inside = (distances(asked, points) < radii - 1e-9) & (classes >= 0)
    outside = ((distances(asked, points) > radii + 1e-9) | (classes < 0)).all(axis=1)
    held = inside.any(axis=1)
    assert (found[held] == classes[inside[held].argmax(axis=1)]).all()
    assert (found[outside] == offered[outside]).all()
    np.testing.assert_array_equal(memory.recall(asked, offered), found)


def test_later_answers_give_way_to_earlier_ones():
    memory = Memory()
    first = memory.enter(np.float32([[0, 0]]), np.array([1]), np.array([0.5]))
    assert (first[0].tolist(), first[1].tolist()) == ([1], [0.5])
    predict, radius = memory.enter(
        np.float32([[0.25, 0], [0, 0.75], [0.25, 0], [5, 5]]), np.array([2, 2, -1, 2]), np.array([1.0, 1.0, 0, 0.125])
    )
    assert predict.tolist() == [1, 2, -1, 2]
    assert radius == pytest.approx([0.25, 0.25, 0, 0.125])


def test_points_of_another_dimension_are_refused():
    memory = Memory()
    memory.enter(np.zeros((1, 3), np.float32), np.array([0]), np.array([0.5]))
    with pytest.raises(CertsmoothError, match=r"4 .*3"):
        memory.enter(np.zeros((1, 4), np.float32), np.array([0]), np.array([0.5]))
    with pytest.raises(CertsmoothError, match=r"4 .*3"):
        memory.recall(np.zeros((1, 4), np.float32), np.array([0]))
