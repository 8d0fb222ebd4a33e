"""Metrics against values computed by hand, independent naive code, and published per-image certificates."""

from __future__ import annotations

import csv
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from certsmooth.analysis.metrics import accuracy_interval, difference_interval, holm, mcnemar, mean_interval
from certsmooth.artefacts.certificates import read_published_certificates
from certsmooth.science.metrics import average_certified_radius, certified, certified_accuracy, certified_radii
from factories import REFERENCE, needs_reference

CORRECT = np.array([[True, True, False, True, False]])
RADIUS = np.array([[0.5, 0.25, 0.9, 0.0, 0.0]])


@st.composite
def certificates(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 12)))
    correct = draw(hnp.arrays(np.bool_, shape))
    radius = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.3])))
    return correct, radius


@pytest.mark.parametrize(
    ("at", "accuracy"), [(0.0, 0.6), (0.25, 0.4), (0.26, 0.2), (0.5, 0.2), (0.500001, 0.0), (0.9, 0.0)]
)
def test_certified_accuracy_by_hand(at, accuracy):
    assert certified_accuracy(CORRECT, RADIUS, at) == accuracy


def test_acr_by_hand():
    assert average_certified_radius(CORRECT, RADIUS) == pytest.approx((0.5 + 0.25 + 0.0) / 5)


@given(certificates(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.3, 2.0]))
def test_metrics_equal_plain_loops(arrays, at):
    correct, radius = arrays
    seeds, images = correct.shape
    hits = [[bool(correct[s, i]) and radius[s, i] >= at for s in range(seeds)] for i in range(images)]
    assert certified(correct, radius, at).tolist() == [sum(hit) / seeds for hit in hits]
    assert certified_accuracy(correct, radius, at) == sum(map(sum, hits)) / (seeds * images)
    radii = [sum(radius[s, i] for s in range(seeds) if correct[s, i]) / seeds for i in range(images)]
    assert certified_radii(correct, radius) == pytest.approx(radii)
    assert average_certified_radius(correct, radius) == pytest.approx(sum(radii) / images)


@given(certificates())
def test_acr_is_the_area_under_the_curve(arrays):
    correct, radius = arrays
    edges = np.unique(np.concatenate([[0.0], radius.ravel()]))
    area = sum((b - a) * certified_accuracy(correct, radius, b) for a, b in pairwise(edges))
    assert average_certified_radius(correct, radius) == pytest.approx(area)


def binomial_tail(n, k, p):
    """Exact P(X >= k) for rational p."""
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 16), st.data())
def test_interval_ends_are_where_the_tails_are_2_5_percent(n, data):
    k = data.draw(st.integers(0, n))
    lower, upper = accuracy_interval(k / n, n)
    assert lower <= k / n <= upper
    if k > 0:
        assert float(binomial_tail(n, k, Fraction(lower))) == pytest.approx(0.025, rel=1e-6)
    else:
        assert lower == 0.0
    if k < n:
        assert float(1 - binomial_tail(n, k + 1, Fraction(upper))) == pytest.approx(0.025, rel=1e-6)
    else:
        assert upper == 1.0


def test_interval_by_hand():
    # All of n succeed: the lower end solves p^n = 0.025.
    lower, upper = accuracy_interval(1.0, 10)
    assert (lower, upper) == (pytest.approx(0.025 ** (1 / 10)), 1.0)


def test_mean_interval_covers_about_95_percent_and_depends_on_the_generator_alone():
    rng = np.random.default_rng(3)
    samples = rng.exponential(size=(200, 80))
    ends = [mean_interval(values, rng=np.random.default_rng(0)) for values in samples]
    covered = sum(low <= 1.0 <= high for low, high in ends)
    # Binomial with 200 draws at 95 %, and the known shortfall of the percentile interval on skewed data.
    assert 176 <= covered <= 199
    assert ends[0] == mean_interval(samples[0], rng=np.random.default_rng(0))
    assert mean_interval(np.zeros(9), rng=np.random.default_rng(0)) == (0.0, 0.0)


def test_interval_of_a_paired_difference_by_hand():
    """Bonett and Price: with b, c of n images, (b + 1, c + 1) of n + 2, and Wald's interval of those."""
    difference = np.array([1.0, 1.0, 1.0, -1.0, *np.zeros(36)])
    p, q = 4 / 42, 2 / 42
    half = 1.959964 * ((p + q - (p - q) ** 2) / 42) ** 0.5
    assert difference_interval(difference) == pytest.approx((p - q - half, p - q + half), abs=1e-6)


def test_the_interval_of_a_paired_difference_covers():
    """At least nearly as often as it says, for two methods that each certify images the other does not."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        lower, upper = difference_interval(rng.choice([1.0, -1.0, 0.0], 60, p=[0.08, 0.03, 0.89]))
        inside += lower <= 0.05 <= upper
    assert inside / 2000 > 0.94


def test_mcnemar_against_a_binomial_by_hand():
    # 5 images for the first, 1 for the second, 3 for both: 2 P(X <= 1) = 2 (1 + 6) / 64 for X ~ B(6, 1/2).
    first = np.array([1.0, 1, 1, 1, 1, 0, 1, 1, 1, 0])
    second = np.array([0.0, 0, 0, 0, 0, 1, 1, 1, 1, 0])
    result = mcnemar(first, second)
    assert (result.first_only, result.second_only) == (5, 1)
    assert result.p_value == pytest.approx(14 / 64)


@given(hnp.arrays(np.int64, (2, 15), elements=st.integers(0, 3)))
def test_mcnemar_is_symmetric_and_equals_the_exact_sign_test(successes):
    first, second = successes / 3  # three seeds
    result, mirrored = mcnemar(first, second), mcnemar(second, first)
    b = sum(x > y for x, y in zip(first, second, strict=True))
    c = sum(x < y for x, y in zip(first, second, strict=True))
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
    assert (result.first_only, result.second_only) == (b, c) == (mirrored.second_only, mirrored.first_only)
    assert result.p_value == pytest.approx(min(1.0, 2 * tail)) == mirrored.p_value


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1, and never decreasing.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx((0.04, 0.03, 0.04))
    assert holm([0.5, 0.6]) == pytest.approx((1.0, 1.0))
    assert holm([]) == ()


def published(paper, table, method):
    with (REFERENCE / "published_tables.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if (r["paper"], r["table"]) == (paper, table)]
    return [r for r in rows if r["dataset"] == "cifar10" and r["method"] == method]


def authors(sigma):
    path = REFERENCE / "certificates" / f"cohen2019_cifar10_resnet110_train{sigma:.2f}_certify{sigma:.2f}.tsv"
    return read_published_certificates(path)


@needs_reference
def test_authors_certificates_give_adre_table_1():
    rows = published("adre", "1", "Basic")
    assert len(rows) == 52
    for row in rows:
        frame = authors(float(row["sigma"]))
        correct, radius = (frame[c].to_numpy()[None] for c in ("correct", "radius"))
        accuracy = certified_accuracy(correct.astype(bool), radius, float(row["radius"]))
        # The paper prints whole percents.
        assert round(100 * accuracy) == round(float(row["value"])), row


@needs_reference
def test_authors_certificates_give_idrs_table_4():
    rows = published("idrs", "4", "Cohen")
    assert len(rows) == 12
    for row in rows:
        frame = authors(float(row["sigma"]))
        correct, abstain = frame["correct"] == 1, frame["predict"] == -1
        found = {
            "clean_accuracy": certified_accuracy(correct.to_numpy()[None], frame["radius"].to_numpy()[None], 0.0),
            "abstention_rate": abstain.mean(),
            "misclassification_rate": (~correct & ~abstain).mean(),
        }
        assert found[row["metric"]] == pytest.approx(float(row["value"]), abs=1e-12), row
