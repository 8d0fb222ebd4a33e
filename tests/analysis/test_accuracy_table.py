"""A table of clean accuracies over training seeds: its numbers, its errors, and that its files say the same."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from certsmooth.analysis.accuracy import Column, accuracy_table, rows_by_column
from certsmooth.analysis.published import published_numbers
from certsmooth.analysis.runs import collect
from certsmooth.artefacts.certificates import read_published_certificates
from certsmooth.errors import ConfigError, CountsError
from certsmooth.report.figures.curves import accuracy_curves, seed_curves
from certsmooth.report.figures.panels import write_figure
from certsmooth.report.render import write_table
from factories import REFERENCE, certified_run, column, needs_reference, row, rows

LABEL = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
DIGITS = Column("digits", 0.12)


def make_run(predict, *, label=LABEL, radius=0.5, dataset="digits", **fields):
    """A run whose image i is predicted as ``predict[i]``, with the same radius everywhere."""
    predict = np.asarray(predict)
    made = {
        "dataset": dataset,
        "description": f"{dataset} of scikit-learn",
        "fingerprint": f"sha256:{len(dataset):064d}",
    }
    columns = {"sigma": 0.1 + 0.01 * np.arange(len(label))}
    radii = np.where(predict < 0, 0.0, radius)
    options = {"sigma": 0.12, "columns": columns, "made": made}
    return certified_run(radii, labels=label, predict=predict, **options | fields)


def build(runs_by_column, **options):
    defaults = {"name": "table2", "title": "Table 2", "baseline_method": "cohen"}
    return accuracy_table(runs_by_column, **defaults | options)


def at(result, label, place, metric):
    """The number of a row in a column."""
    return row(result.values, row=label, dataset=place.dataset, sigma=place.sigma, metric=metric)


def by_seed(result, metric):
    """A quantity of Cohen in the only column, for each seed."""
    return column(result.more["by_seed"], "value", row="Cohen", metric=metric)


# Class 0: 3 of 4 right; class 1: 3 of 6 right, 2 abstentions, 1 wrong.
FIRST = [0, 0, 0, 1, 1, 1, 1, -1, -1, 0]
# Class 0: 2 of 4 right, 1 abstention, 1 wrong; class 1: all 6 right.
SECOND = [0, 0, -1, 1, 1, 1, 1, 1, 1, 1]


def example():
    rates = {"rate": 0.01}
    return {
        DIGITS: [
            make_run(FIRST),
            make_run(SECOND, seed=1),
            make_run(SECOND, method="nn", grid=rates, radius=0.6),
            make_run(SECOND, method="nn", grid=rates, radius=0.6, seed=1),
        ]
    }


def test_quantities_by_hand():
    result = build(example())
    accuracy = at(result, "Cohen", DIGITS, "clean_accuracy")
    assert [accuracy[key] for key in ("seeds", "images", "classes", "guarantee")] == ["0 1", 10, 2, "global"]
    assert column(result.more["by_seed"], "seed", row="Cohen", metric="acr") == [0, 1]
    assert by_seed(result, "clean_accuracy") == pytest.approx((60, 80))
    assert accuracy["value"] == pytest.approx(70)
    assert accuracy["seed_sd"] == pytest.approx(math.sqrt(200))
    assert by_seed(result, "abstention_rate") == pytest.approx((20, 10))
    assert by_seed(result, "misclassification_rate") == pytest.approx((20, 10))
    # Half the distance between the accuracies of two classes: .75 and .5; .5 and 1.
    assert by_seed(result, "classwise_accuracy_std") == pytest.approx((12.5, 25))
    assert by_seed(result, "acr") == pytest.approx((0.3, 0.4))
    assert [accuracy[f"sigma_{key}"] for key in ("mean", "min", "max")] == pytest.approx((0.145, 0.1, 0.19))
    assert accuracy["difference"] is None


def test_differences_and_rows():
    result = build(example())
    assert list(dict.fromkeys(column(result.values, "row"))) == ["Cohen", "IDRS; rate 0.01"]
    assert result.about["baseline"] == "Cohen"
    accuracy = at(result, "IDRS; rate 0.01", DIGITS, "clean_accuracy")
    assert accuracy["difference"] == pytest.approx(10)
    # By seeds 20 and 0; by images (mean over seeds) +-50 where FIRST and SECOND differ: -1, +1 (3 times).
    by_image = [0, 0, -50, 0, 0, 0, 0, 50, 50, 50]
    expected = math.hypot(np.std([20, 0], ddof=1) / math.sqrt(2), np.std(by_image, ddof=1) / math.sqrt(10))
    assert accuracy["difference_error"] == pytest.approx(expected)


def test_one_seed_has_no_deviation_over_seeds():
    accuracy = at(build({DIGITS: [make_run(FIRST)]}), "Cohen", DIGITS, "clean_accuracy")
    assert accuracy["seed_sd"] is None
    assert accuracy["image_error"] == pytest.approx(100 * math.sqrt(0.6 * 0.4 / 9))


def repeated(predict, **fields):
    """Runs of training seeds 0, 1, ... and certification seeds 7, 8, ..., by their predictions."""
    return [
        make_run(row, seed=seed, certification_seed=7 + repeat, **fields)
        for seed, found in enumerate(predict)
        for repeat, row in enumerate(found)
    ]


def test_repeated_certification_by_hand():
    # Accuracies: 60 and 80 of the first training, 80 and 60 of the second.
    result = build({DIGITS: repeated([[FIRST, SECOND], [SECOND, FIRST]])})
    accuracy = at(result, "Cohen", DIGITS, "clean_accuracy")
    assert accuracy["value"] == pytest.approx(70)
    assert accuracy["certification_sd"] == pytest.approx(math.sqrt(200))
    assert accuracy["seed_sd"] == pytest.approx(0)  # both are 70 on average
    assert [accuracy[key] for key in ("seeds", "certification_seeds")] == ["0 1", "7 8"]
    seeds = rows(result.more["by_seed"], metric="clean_accuracy")
    found = [(each["seed"], each["certification_seed"], each["value"]) for each in seeds]
    assert found == [(0, 7, 60.0), (0, 8, 80.0), (1, 7, 80.0), (1, 8, 60.0)]


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.int64, (2, 3, 10), elements=st.integers(-1, 1)), st.randoms(use_true_random=False))
def test_repeated_certification_equals_plain_loops_and_is_never_the_best(predict, random):
    baseline = repeated([[FIRST] * 3, [SECOND] * 3])
    runs = repeated(predict, method="nn")
    random.shuffle(runs)
    number = at(build({DIGITS: [*baseline, *runs]}), "IDRS", DIGITS, "clean_accuracy")
    each = [[100 * sum(p == k for p, k in zip(row, LABEL, strict=True)) / 10 for row in found] for found in predict]
    means = [sum(found) / 3 for found in each]
    assert number["value"] == pytest.approx(sum(means) / 2)
    assert number["seed_sd"] == pytest.approx(np.std(means, ddof=1))
    variances = [sum((a - m) ** 2 for a in found) / 2 for found, m in zip(each, means, strict=True)]
    assert number["certification_sd"] == pytest.approx(math.sqrt(sum(variances) / 2))
    assert number["difference"] == pytest.approx(sum(means) / 2 - 70)
    # Of a mean over images of what each image gives on average.
    shares = [np.mean([[100 * (row[i] == LABEL[i]) for row in found] for found in predict]) for i in range(len(LABEL))]
    assert number["image_error"] == pytest.approx(np.std(shares, ddof=1) / math.sqrt(10))
    by_image = np.subtract(shares, [50 * ((FIRST[i] == k) + (SECOND[i] == k)) for i, k in enumerate(LABEL)])
    over_seeds = np.std(np.subtract(means, [60, 80]), ddof=1) / math.sqrt(2)
    assert number["difference_error"] == pytest.approx(math.hypot(over_seeds, np.std(by_image, ddof=1) / math.sqrt(10)))


def test_repeated_certification_is_shown_apart_from_training(tmp_path):
    runs = {DIGITS: repeated([[FIRST, SECOND], [SECOND, SECOND]])}
    text = write_table(build(runs), tmp_path)[0].read_text()
    assert "training seeds 0, 1, each certified with the seeds 7, 8." in text
    assert "## Spread over seeds" in text
    # 60 and 80, 80 and 80: sqrt((200 + 0) / 2); 70 and 80: sqrt(50).
    assert "| Clean accuracy (%) | Cohen | digits, σ = 0.12 | 75.000 | 10.000 | 7.071 |" in " ".join(text.split())
    figure = accuracy_curves(runs, title="Figure 19")
    one, both = figure.axes
    assert one.get_title() == "σ = 0.12: certification seeds"
    assert both.get_title() == "σ = 0.12: training seeds"
    thin = [[path.vertices[0, 1] for path in axis.collections[0].get_paths()] for axis in (one, both)]
    assert thin == [pytest.approx([60, 80]), pytest.approx([70, 80])]


def test_without_repeats_nothing_is_said_of_them(tmp_path):
    text = write_table(build(example()), tmp_path)[0].read_text()
    assert "certified with the seeds" not in text
    assert "Monte Carlo" not in text
    assert len(accuracy_curves(example(), title="Figure 4").axes) == 1


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.int64, (2, 12), elements=st.integers(-1, 2)))
def test_rates_sum_to_one_and_equal_plain_loops(predict):
    label = [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    runs = [make_run(row, label=label, seed=seed) for seed, row in enumerate(predict)]
    result = build({DIGITS: runs})
    rates = [by_seed(result, m) for m in ("clean_accuracy", "abstention_rate", "misclassification_rate")]
    assert np.sum(rates, axis=0) == pytest.approx([100, 100])
    for seed, answers in enumerate(predict):
        classes = [[p == k for p, known in zip(answers, label, strict=True) if known == k] for k in range(3)]
        accuracy = [100 * sum(hits) / len(hits) for hits in classes]
        mean = sum(accuracy) / 3
        spread = math.sqrt(sum((a - mean) ** 2 for a in accuracy) / 3)
        assert by_seed(result, "classwise_accuracy_std")[seed] == pytest.approx(spread)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["clean_accuracy", "classwise_accuracy_std"])
def test_standard_error_is_that_of_new_test_images(metric):
    # Test sets drawn anew from a population whose class accuracies are known.
    rng = np.random.default_rng(0)
    accuracies = np.array([0.95, 0.8, 0.6])

    def measure():
        label = rng.integers(0, 3, size=900)
        predict = np.where(rng.random(900) < accuracies[label], label, 3)
        return at(build({DIGITS: [make_run(predict, label=label)]}), "Cohen", DIGITS, metric)

    found = [measure() for _ in range(150)]
    spread = np.std([number["value"] for number in found], ddof=1)
    assert np.mean([number["image_error"] for number in found]) == pytest.approx(spread, rel=0.18)


@pytest.mark.slow
def test_chance_std_is_what_equal_classes_show():
    rng = np.random.default_rng(1)
    label = np.repeat(np.arange(5), 40)
    runs = [make_run(np.where(rng.random(200) < 0.9, label, 5), label=label) for _ in range(100)]
    numbers = [at(build({DIGITS: [run]}), "Cohen", DIGITS, "classwise_accuracy_std") for run in runs]
    found = np.mean([number["value"] ** 2 for number in numbers])
    assert np.mean([number["chance_std"] ** 2 for number in numbers]) == pytest.approx(found, rel=0.2)


def test_several_data_sets_and_absent_cells(tmp_path):
    toy = Column("cones-2", None)
    runs = example() | {toy: [make_run([0, 1], label=[0, 1], dataset="cones", seed=seed) for seed in (0, 1)]}
    result = build(runs)
    assert rows(result.values, row="IDRS; rate 0.01", dataset="cones-2") == []
    text = write_table(result, tmp_path)[0].read_text()
    assert "digits, σ = 0.12" in text
    assert "cones-2: 2 test images (0 to 20, every 20th) of 2 classes, training seeds 0, 1." in text
    assert text.count("## Provenance: ") == 2


def test_columns_without_the_baseline_have_no_difference():
    low, high = DIGITS, Column("digits", 0.25)
    runs = {low: [make_run(FIRST)], high: [make_run(SECOND, method="nn", sigma=0.25)]}
    assert at(build(runs), "IDRS", high, "clean_accuracy")["difference"] is None
    # The same run of the baseline may stand in both.
    runs[high].append(runs[low][0])
    assert at(build(runs), "IDRS", high, "clean_accuracy")["difference"] == pytest.approx(20)


@pytest.mark.parametrize(
    ("runs", "error", "message"),
    [
        ({}, ConfigError, "columns: there are none"),
        ({DIGITS: []}, ConfigError, "column digits, sigma 0.12: no runs on the test split"),
        ({DIGITS: [make_run(FIRST), make_run(FIRST)]}, ConfigError, "given twice"),
        (
            {DIGITS: [make_run(FIRST), make_run(FIRST, sigma=0.5)]},
            ConfigError,
            "column digits, sigma 0.12: Cohen has sigma 0.12 and 0.5; must be one",
        ),
        ({DIGITS: [make_run(FIRST, method="nn")]}, ConfigError, "baseline_method 'cohen' has no runs; .*nn"),
        (
            {DIGITS: [make_run(FIRST, grid={"a": 1}), make_run(FIRST, grid={"a": 2})]},
            ConfigError,
            r"'cohen' has 2 rows \(Cohen; a 1, Cohen; a 2\); must be one",
        ),
        (
            {DIGITS: [make_run(FIRST)], Column("digits", 0.25): [make_run(FIRST, dataset="mnist", sigma=0.25)]},
            CountsError,
            "dataset is mnist, but digits",
        ),
        (
            {DIGITS: [make_run(FIRST), make_run(FIRST, method="nn", seed=1)]},
            ConfigError,
            r"training seeds is \[1\], but \[0\]",
        ),
        (
            {DIGITS: [make_run(FIRST), make_run(FIRST, seed=1), make_run(FIRST, seed=1, certification_seed=8)]},
            ConfigError,
            r"seed 1, test: list of certification seeds is \[7, 8\], but \[7\]",
        ),
        (
            {DIGITS: [make_run(FIRST), make_run(FIRST, method="nn", certification_seed=8)]},
            ConfigError,
            r"list of certification seeds is \[8\], but \[7\]",
        ),
    ],
)
def test_errors(runs, error, message):
    with pytest.raises(error, match=message):
        build(runs)


def test_unknown_published_table():
    with pytest.raises(ConfigError, match="published table 'idrs 21' is unknown; did you mean"):
        build(example(), published=[("idrs", 21)])


def test_published_numbers_are_in_our_units():
    by_sigma = {(n["method"], n["sigma"]): n["value"] for n in published_numbers("idrs", 9)}
    assert by_sigma["r=0", "0.12"] == 0.677  # printed as a hundred times the standard deviation
    table8 = {(n["method"], n["sigma"]): n["value"] for n in published_numbers("idrs", 8)}
    assert table8["r=0.05", "0.5"] == 98.36
    assert {n["value"] for n in published_numbers("idrs", 1)} >= {0.946, 0.993}
    assert next(n["value"] for n in published_numbers("idrs", 12) if n["metric"] == "accuracy_std") == 0.036


def test_files_say_the_same(tmp_path):
    result = build(example(), published=[("idrs", 8), ("idrs", 2)])
    markdown, values, content = write_table(result, tmp_path, figure="figures/idrs/table2.svg")
    text = markdown.read_text()
    assert "| Cohen " in text
    assert "70.00 ± 14.14 (11.06)" in text
    assert "### IDRS Table 8" in text
    assert "r=0.05 (published)" in text
    assert "CIFAR-10, σ = 0.12" in text
    assert "![Certified accuracy against radius](figures/idrs/table2.svg)" in text
    stored = json.loads(content.read_text())
    lines = list(csv.DictReader(values.read_text().splitlines()))
    measured = [line for line in lines if line["kind"] == "measured"]
    assert [float(line["value"]) for line in lines] == [number["value"] for number in stored["values"]]
    assert [line["seeds"] for line in measured] == ["0 1"] * 10
    assert {line["baseline"] for line in measured} <= {line["row"] for line in measured}
    assert len([line for line in lines if line["kind"] == "published"]) == 15 + 24
    first = values.read_bytes(), content.read_bytes(), markdown.read_bytes()
    write_table(result, tmp_path, figure="figures/idrs/table2.svg")
    assert first == (values.read_bytes(), content.read_bytes(), markdown.read_bytes())


def test_curves_are_the_certified_accuracy_of_each_seed():
    (only,) = rows_by_column({DIGITS: [make_run(FIRST), make_run(SECOND, radius=0.9, seed=1)]})[DIGITS].values()
    radii = np.array([0, 0.5, 0.500001, 0.9, 1.0])
    curves = seed_curves(only.outcomes[0], radii)
    assert curves == pytest.approx(np.array([[[0.6, 0.6, 0, 0, 0]], [[0.8, 0.8, 0.8, 0.8, 0]]]))
    (method,) = collect([make_run(FIRST), make_run(SECOND, radius=0.9, seed=1)], "test")
    assert curves.mean(axis=(0, 1)) == pytest.approx([method.outcomes[0].accuracy(r) for r in radii])


def test_figure_has_a_panel_per_column_and_a_line_per_row(tmp_path):
    runs = example() | {Column("digits", 0.25): [make_run(FIRST, sigma=0.25), make_run(FIRST, sigma=0.25, seed=1)]}
    paths = write_figure(lambda: accuracy_curves(runs, title="Figure 4"), tmp_path, name="figure4")
    assert [path.name for path in paths] == ["figure4.svg", "figure4.png"]
    svg = paths[0].read_text()
    for shown in ("σ = 0.12", "σ = 0.25", "Cohen (global)", "IDRS; rate 0.01 (global)", "thin: each seed"):
        assert f"<!-- {shown}" in svg or shown in svg
    before = svg
    write_figure(lambda: accuracy_curves(runs, title="Figure 4"), tmp_path, name="figure4")
    assert paths[0].read_text() == before


@needs_reference
def test_idrs_table_4_from_published_certificates():
    # IDRS computed its Table 4 from certificates that Cohen et al. published.
    folder = REFERENCE / "certificates"
    runs = {}
    for sigma in ("0.12", "0.25", "0.50", "1.00"):
        frame = read_published_certificates(folder / f"cohen2019_cifar10_resnet110_train{sigma}_certify{sigma}.tsv")
        run = make_run(FIRST, dataset="cifar10", sigma=float(sigma))
        frame = frame.assign(sigma=float(sigma), guarantee="global")
        runs[Column("cifar10", float(sigma))] = [dataclasses.replace(run, frame=frame)]
    result = build(runs, published=[("idrs", 4)])
    theirs = rows(result.values, kind="published")
    assert len(theirs) == 12
    for number in theirs:
        ours = at(result, "Cohen", Column("cifar10", float(number["sigma"])), number["metric"])
        assert round(ours["value"], 1) == number["value"]
