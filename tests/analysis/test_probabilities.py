"""The distribution of p_A: what it is of each image, its quantiles and their band, and where it is not known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from certsmooth.analysis.certified import certified_table
from certsmooth.analysis.high_dimension import with_probabilities
from certsmooth.analysis.metrics import CONFIDENCE
from certsmooth.analysis.probabilities import QUANTILES, band, distribution, label_probability, quantile
from certsmooth.analysis.runs import collect
from certsmooth.report.figures.curves import p_a_curves
from certsmooth.report.render import render
from factories import certified_run, column, rows

MEMORY = {"conflicts": 1, "capped": 1, "repredicted": 0, "order": "shuffled, seed 7"}
samples = st.lists(st.sampled_from([0.5, 0.6, 0.75, 0.9, 0.999]), min_size=2, max_size=30)


def outcome(*runs):
    ((found,),) = (method.outcomes for method in collect(runs, "test"))
    return found


def test_an_image_counts_with_its_bound_where_it_is_right_and_with_one_half_elsewhere():
    bounds = [0.9, 0.8, 0.7, 0.2]
    runs = [
        certified_run([1.0, -1.0, 0.0, 0.0], columns={"p_a_lower": bounds}, seed=0),
        certified_run([1.0, 1.0, -1.0, 0.0], columns={"p_a_lower": bounds}, seed=1),
    ]
    assert label_probability(outcome(*runs)).tolist() == [[0.9, 0.5, 0.7, 0.5], [0.9, 0.8, 0.5, 0.5]]


def test_it_is_not_known_where_the_certificates_do_not_say_it():
    run = certified_run([1.0, 0.5])
    run.frame.drop(columns="p_a_lower", inplace=True)
    assert label_probability(outcome(run)) is None
    assert label_probability(outcome(certified_run([1.0, 0.5], made={"memory": MEMORY}))) is not None
    changed = certified_run([1.0, 0.5], method="cohen_ds", made={"memory": MEMORY | {"repredicted": 1}})
    assert label_probability(outcome(changed)) is None
    result = certified_table(
        [certified_run([1.0, 0.5]), changed], name="t", title="T", radii=[0], baseline_method="cohen"
    )
    assert {each["method"] for each in rows(result.values, metric="p_a_quantile")} == {"Cohen"}
    assert "or a memory changed predictions: Cohen-DS at 0.5." in render(result)


@given(sample=samples, share=st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9, 1.0]))
def test_a_quantile_is_the_least_value_that_the_share_does_not_exceed(sample, share):
    found = quantile(np.array([sample]), share)
    at_most = [value for value in sorted(sample) if sum(each <= value for each in sample) / len(sample) >= share]
    assert found == at_most[0]
    assert distribution(np.array([sample]), np.array([found]))[0] >= share


def test_the_share_that_does_not_reach_p_is_that_which_is_not_certified_at_its_radius():
    """With one sigma in l2, radius = sigma Phi^-1(p_A): the distribution is one minus the certified accuracy."""
    rng = np.random.default_rng(3)
    p_a = rng.uniform(0.4, 1, 200)
    radius = np.where(p_a > 0.5, 0.25 * norm.ppf(p_a), 0)
    run = certified_run(np.where(rng.random(200) < 0.7, radius, -radius - 1e-9), columns={"p_a_lower": p_a}, sigma=0.25)
    found = outcome(run)
    at = np.array([0.55, 0.7, 0.9, 0.99])
    shares = distribution(label_probability(found), at)
    assert shares == pytest.approx([1 - found.accuracy(r) for r in 0.25 * norm.ppf(at + 1e-12)])


def test_p_a_of_others_follows_from_radius_and_sigma():
    frame = certified_run([0.5, 0.25, -0.0]).frame.drop(columns=["p_a_lower"])
    found = with_probabilities(frame, 0.25)["p_a_lower"]
    assert found.tolist() == pytest.approx([norm.cdf(2), norm.cdf(1), 0.5], abs=1e-3)


def test_the_band_by_hand():
    assert band(1, 500) == pytest.approx(math.sqrt(math.log(40) / 1000))
    assert band(3, 500) == pytest.approx(math.sqrt(math.log(120) / 1000))


def test_the_band_holds_as_often_as_it_says():
    """Uniform p on [1/2, 1], 200 images: in how many of 2000 samples the distribution leaves the band anywhere."""
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(2000):
        sample = np.sort(rng.uniform(0.5, 1, 200))
        truth, steps = 2 * sample - 1, np.arange(201) / 200
        wrong += max(np.max(steps[1:] - truth), np.max(truth - steps[:-1])) > band(1, 200)
    assert 0.02 < wrong / 2000 < 1 - CONFIDENCE + 0.015


@settings(deadline=None, max_examples=20)
@given(sample=samples)
def test_rows_have_every_quantile_within_its_interval(sample):
    run = certified_run([1.0] * len(sample), columns={"p_a_lower": sample})
    values = certified_table([run], name="t", title="T", radii=[0], baseline_method="cohen").values
    found = rows(values, metric="p_a_quantile")
    assert [each["quantile"] for each in found] == list(QUANTILES)
    width = band(1, len(sample))
    for each in found:
        assert each["value"] == sorted(sample)[math.ceil(round(each["quantile"] * len(sample), 9)) - 1]
        assert each["lower"] <= each["value"] <= each["upper"]
        assert each["lower"] == 0.5 or each["quantile"] > width
        assert each["upper"] == 1.0 or each["quantile"] + width <= 1


def test_a_constant_classifier_shows():
    """Right at a tenth of the images with the largest radius: its ACR is high, its median p_A is 1/2."""
    radius = np.where(np.arange(100) % 10 == 0, 3.0, -3.0)
    run = certified_run(radius, columns={"p_a_lower": 0.999})
    values = certified_table([run], name="t", title="T", radii=[0], baseline_method="cohen").values
    assert column(values, "value", metric="acr", selected_on="test") == [pytest.approx(0.3)]
    assert column(values, "value", metric="p_a_quantile") == [0.5, 0.5, 0.5, 0.5, 0.5]


def test_the_figure_has_a_panel_for_each_sigma_and_the_lowest_of_several_options():
    bounds = {"p_a_lower": [0.6, 0.7, 0.8, 0.9]}, {"p_a_lower": [0.55, 0.75, 0.8, 0.8]}
    runs = [certified_run([1.0] * 4, columns=each, grid={"k": k}) for k, each in enumerate(bounds)]
    runs.append(certified_run([1.0] * 4, sigma=1.0, columns=bounds[0], method="nn"))
    first, second = p_a_curves(runs, title="T").axes
    assert (first.get_title(), second.get_title()) == ("σ = 0.5", "σ = 1")
    (line,) = first.get_lines()
    lowest = dict(zip(np.round(line.get_xdata(), 3), line.get_ydata(), strict=True))
    assert [lowest[p] for p in (0.5, 0.58, 0.65, 0.72, 0.78, 0.85, 0.95)] == [0, 0, 25, 25, 50, 75, 100]
    assert [each.get_label() for each in second.get_lines()] == ["IDRS"]
    for axis, functions in ((first, 2), (second, 1)):  # the band holds for both options at once
        (shown,) = axis.collections[0].get_paths()
        assert shown.vertices[shown.vertices[:, 0] == 1][:, 1].min() == pytest.approx(100 * (1 - band(functions, 4)))
