"""Rows of files that others made, and rows about different images: what is paired, what is refused, what is said."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from certsmooth.analysis.accuracy import Column, accuracy_table
from certsmooth.analysis.certified import certified_table
from certsmooth.analysis.runs import AS_PUBLISHED, collect, image_choice, paired
from certsmooth.errors import CountsError
from certsmooth.report.render import render
from factories import certified_run, column, row, rows

RADII = (0.0, 0.5, 1.0)


def theirs(radius, *, idx, label="Theirs", **fields):
    """A file of others, about images with these indices."""
    run = certified_run(radius, method="smoothadv", label=label, columns={"idx": idx}, guarantee=AS_PUBLISHED, **fields)
    about = {"dataset": "digits", "about": "digits", "norm": "l2", "images": len(radius)}
    provenance = about | {"file": "theirs.tsv", "sha256": f"sha256:{'ab' * 32}"}
    return dataclasses.replace(run, kind="derived", seed=None, certification_seed=None, provenance=provenance)


def build(runs, **options):
    options = {"name": "t", "title": "T", "radii": RADII, "baseline_method": "cohen"} | options
    return certified_table(runs, **options)


def plain(run):
    """Return the certified radius of each image by its index; -1 where the prediction is wrong."""
    return {
        i: r if c else -1.0 for i, r, c in zip(*(run.frame[name] for name in ("idx", "radius", "correct")), strict=True)
    }


certificates = st.lists(st.sampled_from([-1.0, 0.0, 0.4, 0.5, 0.9, 1.0, 2.0]), min_size=2, max_size=12)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(ours=certificates, others=certificates, step=st.sampled_from([10, 20, 40, 60]))
def test_paired_tests_are_on_the_images_that_both_have(ours, others, step):
    first, second = certified_run(ours), theirs(others, idx=np.arange(len(others)) * step)
    found = rows(build([first, second]).more["tests"])
    mine, other = plain(first), plain(second)
    common = sorted(mine.keys() & other.keys())
    if len(common) < 2:
        assert found == []
        return
    for radius, test in zip(RADII, found, strict=True):
        wins = sum(other[i] >= radius > mine[i] for i in common)
        losses = sum(mine[i] >= radius > other[i] for i in common)
        assert (test["images"], test["seeds"]) == (len(common), 1)
        assert (test["method_only"], test["baseline_only"]) == (wins, losses)
        assert test["difference"] == pytest.approx(100 * (wins - losses) / len(common))
        exact = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        assert test["p_value"] == pytest.approx(exact)


def test_one_model_of_others_is_compared_with_our_first_seed():
    """A mean over seeds loses to a single model, and wins against it, on other images than one model does."""
    runs = [certified_run([1.0, 1.0, -1, -1], seed=0), certified_run([-1, 1.0, 1.0, -1], seed=3)]
    found = row(build([*runs, theirs([1.0, -1, -1, 1.0], idx=[0, 20, 40, 60])]).more["tests"], radius=0.5)
    assert (found["seeds"], found["method_only"], found["baseline_only"], found["difference"]) == (1, 1, 1, 0.0)
    ours, (other,) = (method.outcomes for method in collect([*runs, theirs([1.0, 1.0], idx=[0, 20])], "test"))
    mine, same = paired(ours[0], other)
    assert (mine.seeds, same.seeds, mine.idx.tolist()) == ((0,), (None,), [0, 20])


def test_a_row_of_others_is_never_called_ours():
    result = build([certified_run([1.0, 0.2, -1]), theirs([1.0, 0.2, 0.6, -1], idx=[0, 20, 40, 50])])
    other = rows(result.values, method="Theirs")
    assert {(each["kind"], each["guarantee"], each["seeds"]) for each in other} == {("derived", "as published", None)}
    assert {(each["images"], each["image_choice"]) for each in other} == {(4, "some of 0 to 50")}
    assert {each["kind"] for each in rows(result.values, method="Cohen")} == {"measured"}
    source = next(each for each in result.sources if each["method"] == "Theirs")
    assert source["provenance"]["sha256"] == f"sha256:{'ab' * 32}"
    text = render(result)
    for part in (
        "Not run here: Theirs.",
        "`as published`: not run here",
        "| Theirs   | FS      | FS        | as published | 4: some of 0 to 50",
        "- Theirs, sigma 0.5, made by others: `theirs.tsv` (sha256:abababababab), 4 images of digits.",
    ):
        assert part in text


def test_its_sigma_is_chosen_on_the_test_set_and_the_text_says_so():
    settings = [({"sigma": s, "split": split}) for s, split in product((0.25, 0.5), ("test", "validation"))]
    ours = [certified_run([1.0 - s["sigma"], 0.6], **s) for s in settings]
    ours += [dataclasses.replace(run, method="nn", label="IDRS") for run in ours]
    files = [theirs(np.full(2, sigma), idx=[0, 20], sigma=sigma) for sigma in (0.25, 0.5)]
    result = build([*ours, *files])
    assert rows(result.values, method="Theirs", selected_on="validation") == []
    assert column(result.values, "chosen_sigma", method="Theirs", selected_on="test", radius=0.5) == [0.5]
    assert set(column(result.more["tests"], "selected_on", method="Theirs")) == {"test"}
    text = render(result)
    assert "Without validation runs, and so below: Theirs. There are no validation images in files that others" in text
    assert "with the settings of both methods chosen **on the test set**" in text


def test_without_common_images_nothing_is_tested():
    result = build([certified_run([1.0, 0.2]), theirs([1.0, 0.2], idx=[10, 30])])
    assert rows(result.more["tests"]) == []
    assert "Without images in common with Cohen, and not tested: Theirs." in render(result)


def test_a_table_of_others_alone():
    result = build([theirs([1.0, 0.2], idx=[0, 1])], baseline_method="smoothadv")
    text = render(result)
    assert "on 2 test images (0 to 1) of digits. Not run here: Theirs." in text
    assert "training seed" not in text
    assert "Software" not in text


def test_labels_that_contradict_ours_are_refused():
    """As another data set, or another order of the same, has them."""
    ours = certified_run([1.0] * 4, labels=[0, 1, 2, 3])
    other = theirs([1.0] * 4, idx=[20, 40, 60, 80], labels=[1, 3, 2, 0])
    message = (
        r"smoothadv, sigma 0.5, theirs\.tsv: idx 40 has label 3, but 2 in cohen, sigma 0.5, seed 0, test; "
        r"must be the same: 2 of 3 images in both differ, as in another order or data set"
    )
    with pytest.raises(CountsError, match=message):
        build([ours, other])
    with pytest.raises(CountsError, match="idx 40 has label 3"):
        accuracy_table({Column("digits", 0.5): [ours, other]}, name="t", title="T", baseline_method="cohen")


def test_our_rows_may_be_about_different_images_but_not_the_runs_of_one():
    runs = [certified_run([1.0] * 3), certified_run([1.0] * 4, method="nn")]
    assert set(column(build(runs).more["tests"], "images")) == {3}
    runs.append(certified_run([1.0] * 4, sigma=0.25))
    with pytest.raises(CountsError, match="idx 60 is in only one of this run and cohen, sigma 0"):
        build(runs)


def test_differences_of_accuracies_are_on_the_common_images():
    seeds = [certified_run([1.0, -1, 1.0, 1.0], seed=seed) for seed in (0, 1)]
    other = theirs([-1, 0.5, 1.0], idx=[20, 40, 100])
    values = accuracy_table(
        {Column("digits", 0.5): [*seeds, other]}, name="t", title="T", baseline_method="cohen"
    ).values
    accuracy = row(values, row="Theirs", metric="clean_accuracy")
    assert (accuracy["value"], accuracy["images"]) == (pytest.approx(200 / 3), 3)
    # Both have images 20 and 40: Cohen is right at the second, and so are they.
    assert (accuracy["difference"], accuracy["difference_error"], accuracy["paired_images"]) == (0, 0, 2)
    assert row(values, row="Theirs", metric="acr")["difference"] == pytest.approx(-0.25)
    alone = theirs([1.0, 1.0], idx=[1, 2])
    values = accuracy_table(
        {Column("digits", 0.5): [*seeds, alone]}, name="t", title="T", baseline_method="cohen"
    ).values
    assert row(values, row="Theirs", metric="acr")["difference"] is None


@pytest.mark.parametrize(
    ("idx", "text"),
    [
        (range(10_000), "0 to 9999"),
        (range(500, 1000), "500 to 999"),
        (range(0, 10_000, 20), "0 to 9980, every 20th"),
        (range(1, 9, 2), "1 to 7, every 2nd"),
        (range(0, 700, 111), "0 to 666, every 111th"),
        (range(0, 90, 21), "0 to 84, every 21st"),
        ([7], "7 to 7"),
    ],
)
def test_the_choice_of_images_in_words(idx, text):
    assert image_choice(np.array(idx), {}) == image_choice(np.array(idx), {"stride": 20}) == text


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"stride": 1}, "the whole split"),
        ({"stride": 20}, "the whole split, every 20th"),
        ({"stride": 3, "first": 500, "last": 999}, "positions 500 to 999, every 3rd"),
        ({"stride": 1, "first": 9}, "positions 9 to the end"),
        ({}, "some of 2 to 9"),
    ],
)
def test_of_a_split_without_an_order_the_positions_are_told(chosen, text):
    assert image_choice(np.array([2, 3, 5, 9]), chosen) == text
