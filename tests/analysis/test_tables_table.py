"""A table: what is chosen where, what is compared, and that its three files say the same."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from certsmooth.analysis.certified import certified_table
from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.analysis.probabilities import METRIC, QUANTILES
from certsmooth.analysis.published import published_rows
from certsmooth.artefacts.certificates import read_published_certificates
from certsmooth.artefacts.provenance import made_by
from certsmooth.errors import ConfigError, CountsError
from certsmooth.report.render import write_table
from factories import DIGEST, REFERENCE, certified_run, column, needs_reference, row, rows

pytestmark = pytest.mark.slow  # most of them draw the table's figure
RADII = (0, 0.5, 1.0, 9.0)
FINGERPRINT = {"test": DIGEST, "validation": "sha256:" + "cd" * 32}


def make_run(radius, *, split="test", memory=None, **fields):
    """A run whose image i is correct with ``radius[i]``, or wrong where that is negative."""
    made = {"fingerprint": FINGERPRINT[split], "git_commit": "0123456789abcdef-dirty", "memory": memory}
    return certified_run(radius, split=split, guarantee="memory" if memory else "global", made=made, **fields)


def build(runs, **options):
    return certified_table(
        runs, **{"name": "table1", "title": "Table 1", "radii": RADII, "baseline_method": "cohen"} | options
    )


MEMORY = {"conflicts": 2, "capped": 1, "repredicted": 0, "order": "shuffled, seed 7"}


def example():
    """Two sigmas of Cohen that differ between the parts, and a DS method with a memory and two options."""
    return [
        # Test: sigma 0.25 certifies 3 of 4 at 0.5; sigma 0.5 certifies 2 of 4. Validation prefers 0.5.
        make_run([0.6, 0.5, 0.5, -1], sigma=0.25),
        make_run([1.5, 1.0, 0.4, -1], sigma=0.5),
        make_run([0.6, 0.1, 0.1, 0.1], sigma=0.25, split="validation"),
        make_run([1.5, 1.2, 1.1, -1], sigma=0.5, split="validation"),
        *(
            make_run(
                radius,
                method="cohen_ds",
                sigma=0.5,
                grid={"iterations": k},
                split=split,
                memory=MEMORY,
                columns={"radius_before_memory": np.add(np.abs(radius), (0.3, 0, 0, 0))} if split == "test" else None,
            )
            for split in ("test", "validation")
            for k, radius in ((100, [1.0, 0.7, 0.7, 0.7]), (900, [2.0, 0.6, -0.5, 0.6]))
        ),
    ]


def test_choice_on_test_and_on_validation_by_hand():
    values = build(example()).values
    cohen = {"selected_on": "test", "method": "Cohen"}
    assert column(values, "value", **cohen)[:4] == [75.0, 75.0, 50.0, 0.0]
    # A tie at 0 goes to the higher ACR: (1.5 + 1 + 0.4) / 4 against 1.6 / 4.
    assert column(values, "chosen_sigma", **cohen) == [0.5, 0.25, 0.5, 0.5, 0.5]
    assert row(values, **cohen, metric="acr")["value"] == pytest.approx(2.9 / 4)
    honest = {"selected_on": "validation", "method": "Cohen"}
    assert column(values, "chosen_sigma", **honest) == [0.25, 0.5, 0.5, 0.5, 0.5]
    assert column(values, "value", **honest)[:4] == [75.0, 50.0, 50.0, 0.0]
    chosen = column(values, "chosen_grid", selected_on="test", method="Cohen-DS")
    assert chosen == [f"iterations={k}" for k in (100, 100, 900, 900, 900)]
    guarantees = {(each["method"], each["guarantee"]) for each in rows(values)}
    assert guarantees == {("Cohen", "global"), ("Cohen-DS", "memory")}
    assert column(values, "sigma", selected_on="none", metric="acr") == ["0.25", "0.5", "0.5", "0.5"]


def test_intervals_are_those_of_the_images():
    found = row(build(example()).values, selected_on="test", method="Cohen", radius=0.5)
    lower, upper = accuracy_interval(0.75, 4)
    assert (found["lower"], found["upper"]) == (100 * lower, 100 * upper)


def test_paired_tests_use_the_validation_choice_first():
    tests = build(example()).more["tests"]
    assert [(t["selected_on"], t["radius"]) for t in rows(tests)] == [
        (split, r) for split in ("validation", "test") for r in RADII
    ]
    at_half = row(tests, selected_on="validation", radius=0.5)
    # Cohen at sigma 0.5 certifies images 0, 1; Cohen-DS with 100 iterations certifies all four.
    assert (at_half["method_only"], at_half["baseline_only"], at_half["difference"]) == (2, 0, 50.0)
    assert at_half["p_value"] == pytest.approx(2 * 0.25)
    assert at_half["p_holm"] == 1.0


def test_several_seeds_are_averaged():
    runs = [make_run(r, seed=s) for s, r in enumerate([[1.0, 1.0, -1, 0.2], [1.0, -1, -1, 0.6]])]
    runs.append(make_run([1.0, 1.0, 1.0, 1.0], seed=0, method="cohen_ds"))
    with pytest.raises(ConfigError, match=r"cohen_ds.*training seeds is \[0\], but \[0, 1\] for cohen"):
        build(runs)
    runs.append(make_run([1.0, -1, 1.0, 1.0], seed=1, method="cohen_ds"))
    result = build(runs)
    cohen = rows(result.values, selected_on="test", method="Cohen")
    assert {each["seeds"] for each in cohen} == {"0 1"}
    assert [each["value"] for each in cohen[:3]] == [62.5, 50.0, 37.5]
    assert cohen[-1]["value"] == pytest.approx((2.2 + 1.6) / 8)
    lower, upper = accuracy_interval(0.625, 4)
    assert (cohen[0]["lower"], cohen[0]["upper"]) == (100 * lower, 100 * upper)
    # Per image at 0.5: Cohen 1, 1/2, 0, 1/2; Cohen-DS 1, 1/2, 1, 1.
    test = row(result.more["tests"], radius=0.5)
    assert (test["method_only"], test["baseline_only"]) == (2, 0)


def test_images_are_paired_by_idx_whatever_their_order():
    runs = example()
    shuffled = [
        dataclasses.replace(r, frame=r.frame.sample(frac=1, random_state=i).reset_index(drop=True))
        for i, r in enumerate(runs)
    ]
    assert build(shuffled).content() == build(runs).content()


def test_memory_effect_by_hand():
    first, second = rows(build(example()).more["memory"])
    assert [first[key] for key in ("conflicts", "capped", "repredicted", "changed")] == [2, 1, 0, 1]
    assert first["largest_loss"] == pytest.approx(0.3)
    assert (first["acr_before"], first["acr"]) == (pytest.approx(3.4 / 4), pytest.approx(3.1 / 4))
    assert second["grid"] == "iterations=900"
    repredicted = [make_run([1.0, 1.0], memory=MEMORY | {"repredicted": 1})]
    assert row(build(repredicted).more["memory"])["acr_before"] is None


def test_mixed_guarantees_are_all_shown(tmp_path):
    runs = [make_run([1.0, 1.0], sigma=0.25, columns={"guarantee": ["none", "global"]}), make_run([1.0, 0.1])]
    result = build(runs)
    assert set(column(result.values, "guarantee", selected_on="test")) == {"global, none"}
    text = write_table(result, tmp_path)[0].read_text()
    assert "| global, none |" in text
    assert "- `none`: not proved" in text
    assert "- `memory`" not in text


def cells(text, heading):
    """The body rows of the first table under a heading, as lists of cells."""
    section = text.split(heading, 1)[1].split("\n## ", 1)[0]
    table = next(block for block in section.split("\n\n") if block.startswith("|")).strip().split("\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def key_of(each):
    return tuple(each[name] for name in ("method", "radius", "chosen_sigma", "chosen_grid"))


def test_the_three_files_say_the_same(tmp_path):
    result = build(example(), published=("ddrs", 1, "cifar10"))
    markdown, table, record = write_table(result, tmp_path, figure="table1.svg")
    assert [p.name for p in (markdown, table, record)] == ["table1.md", "table1.csv", "table1.json"]
    content = result.content() | dataclasses.asdict(made_by()) | {"images": {}}
    stored = json.loads(record.read_text())
    assert stored == json.loads(json.dumps(content))
    with table.open() as file:
        lines = list(csv.DictReader(file))
    numbers = 2 * 5 + 2 * 5 + 4 * 5 + 4 * len(QUANTILES) + len(published_rows("ddrs", 1, "cifar10"))
    assert len(stored["values"]) == len(lines) == numbers
    for line, number in zip(lines, stored["values"], strict=True):
        assert line == {key: "" if value is None else str(value) for key, value in number.items()}
    text = markdown.read_text()
    assert "![Certified accuracy against radius](table1.svg)" in text
    fair = {key_of(each) for each in rows(result.values, selected_on="validation")}
    for heading, selected_on, skip in (
        ("## Certified accuracy", "validation", 4),
        ("## Chosen on the test set", "test", 4),
        ("## Appendix: each setting", "none", 3),
    ):
        section = [r for r in rows(result.values, selected_on=selected_on) if r["metric"] != METRIC]
        if selected_on == "test":  # Cohen-DS has the same choice at every radius
            assert all(key_of(each) in fair for each in section if each["method"] == "Cohen-DS")
            assert "the numbers above: Cohen-DS." in text
            section = [each for each in section if each["method"] == "Cohen"]
        found = cells(text, heading)
        assert len(found) * 5 == len(section)
        for number, shown in enumerate(section):
            line, place = found[number // 5], number % 5
            assert line[0] == shown["method"]
            if selected_on == "test" and key_of(shown) in fair:
                assert line[skip + place] == "="  # it stands in the table before
                continue
            numbers = [float(x) for x in re.findall(r"[\d.]+", line[skip + place])]
            assert numbers == pytest.approx([shown["value"], shown["lower"], shown["upper"]], abs=0.05001)


def test_paired_tests_in_the_text_are_the_honest_ones(tmp_path):
    result = build(example())
    text = write_table(result, tmp_path)[0].read_text()
    assert "settings chosen on the validation split" in text
    assert "the guarantees differ" in text
    found = cells(text, "## Paired tests against Cohen")
    honest = rows(result.more["tests"], selected_on="validation")
    assert [[line[0], line[1], int(line[2]), int(line[4]), int(line[5])] for line in found] == [
        [t["method"], f"{t['radius']:g}", t["images"], t["method_only"], t["baseline_only"]]
        for t in honest
        if t["p_value"] < 1
    ]
    # The difference at 0.5 is 50 points with the validation choice, 25 with the choice on the test set.
    assert found[0][3] == "+50.0"
    assert "p = 1, with differences of -25.0 to +25.0 points: Cohen-DS (0, 1, 9); in brackets the radii." in text


def test_csv_starts_with_the_columns_of_the_published_file(tmp_path):
    header = (Path(sys.modules["certsmooth.analysis"].__file__).parent / "published.csv").read_text().split("\n")[0]
    ours = write_table(build(example()), tmp_path)[1].read_text().split("\n")[0]
    assert ours.startswith(header.removesuffix(",printed") + ",lower,upper,kind,guarantee,selected_on,")


def test_equal_runs_give_equal_files(tmp_path):
    (tmp_path / "again").mkdir()
    first, second = (write_table(build(example()), folder) for folder in (tmp_path, tmp_path / "again"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_published_rows_stay_apart_and_another_data_set_is_said(tmp_path):
    result = build(example(), published=("ddrs", 1, "cifar10"))
    text = write_table(result, tmp_path)[0].read_text()
    assert "**Another data set:** these rows are of CIFAR-10, ours are of digits." in text
    before, after = text.split("## Published (DDRS Table 1, CIFAR-10)")
    assert "(published)" not in before
    body = cells("## Published" + after, "## Published")
    # All radii of the paper, whatever ours are.
    values = ["79.9", "58.3", "40.1", "29.2", "20.2", "13.1", "7.3", "3.3", "0.0", "0.0", "0.0", "0.591"]
    assert body[0] == ["Cohen (published)", "FS", "FS", "best", *values]
    assert all(line[0].endswith("(published)") for line in body)
    theirs = rows(result.values, selected_on="published")
    assert {each["kind"] for each in theirs} == {"published"}
    assert all(each["lower"] is None and each["paper"] == "ddrs" for each in theirs)


def test_without_validation_runs_the_text_says_so(tmp_path):
    result = build([r for r in example() if r.split == "test"])
    assert rows(result.values, selected_on="validation") == []
    assert set(column(result.more["tests"], "selected_on")) == {"test"}
    text = write_table(result, tmp_path)[0].read_text()
    assert "Without validation runs, and so below: Cohen, Cohen-DS." in text
    assert "chosen **on the test set**, for want of validation runs" in text


def test_a_method_without_validation_runs_is_named(tmp_path):
    result = build([r for r in example() if r.split == "test" or r.method == "cohen_ds"])
    assert set(column(result.values, "method", selected_on="validation")) == {"Cohen-DS"}
    text = write_table(result, tmp_path)[0].read_text()
    assert "Without validation runs, and so below: Cohen." in text
    assert set(column(result.more["tests"], "selected_on")) == {"test"}


def test_one_method_with_one_setting(tmp_path):
    result = build([make_run([0.0, -1.0, 0.0])], radii=(0, 1))
    assert column(result.values, "value", selected_on="test") == [pytest.approx(200 / 3), 0.0, 0.0]
    text = write_table(result, tmp_path)[0].read_text()
    assert "Each method has one setting: nothing was chosen." in text
    assert "There is no other method to compare." in text
    assert "Appendix: memory" not in text


def test_provenance_is_complete(tmp_path):
    markdown, _, record = write_table(build(example()), tmp_path)
    text = markdown.read_text()
    line = next(line for line in text.split("\n") if line.startswith("- Test split: "))
    for part in (
        *(
            "digits of scikit-learn",
            "sha256:abababababab;",
            "4 images",
            "n0 = 100",
            "n = 1,000",
            "alpha = 0.001",
            "noisy images rounded to multiples of 1/255",
        ),
        *("sampling seed 7", "training seed 0", "float32 on cpu", "4 runs, 50 s in all"),
    ):
        assert part in line
    assert "python 3.11.2, torch 2.8.0; commit 0123456789ab-dirty" in text
    sources = json.loads(record.read_text())["sources"]
    assert [s["provenance"]["fingerprint"] for s in sources if s["split"] == "test"] == [FINGERPRINT["test"]] * 4


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda runs: [], {}, "no runs on the test split"),
        (lambda runs: runs, {"baseline_method": "cohn"}, "did you mean 'cohen'"),
        (
            lambda runs: runs,
            {"published": ("ddrs", 9, "cifar10")},
            "published table 'ddrs 9 cifar10' is unknown",
        ),
        (lambda runs: [*runs, runs[0]], {}, "cohen, sigma 0.25, seed 0, test: given twice"),
        (lambda runs: runs[:-1], {}, "sigma 0.5; iterations 900, seed 0: certified on the test split only"),
        (lambda runs: runs[1:], {}, "cohen, sigma 0.25, seed 0: certified on the validation split only"),
        (
            lambda runs: [dataclasses.replace(runs[0], label="C"), *runs[1:]],
            {},
            "label, train and certify is",
        ),
    ],
)
def test_bad_input(change, options, message):
    with pytest.raises(ConfigError) as raised:
        build(change(example()), **options)
    assert message in str(raised.value)


def test_two_methods_need_two_labels():
    runs = [make_run([1.0, 1.0]), make_run([1.0, 1.0], method="cohen_ds", label="Cohen")]
    with pytest.raises(ConfigError, match="cohen_ds: label 'Cohen' is also that of cohen"):
        build(runs)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            make_run([1.0] * 5, sigma=0.25),
            "idx 80 is in only one of this run and cohen, sigma 0.5, seed 0, test",
        ),
        (make_run([1.0] * 4, sigma=0.25, columns={"idx": [0, 20, 20, 60]}), "idx 20 occurs twice"),
        (
            make_run([1.0] * 4, sigma=0.25, columns={"label": [1, 1, 3, 1]}),
            "idx 40 has label 3, but 1 in cohen",
        ),
        (make_run([1.0] * 4, sigma=0.25, columns={"label": -1}), "4 images without a label"),
        (make_run([1.0], sigma=0.25), "1 image; an interval needs at least 2"),
    ],
)
def test_runs_about_other_images_are_refused(run, message):
    with pytest.raises(CountsError, match=message):
        build([make_run([1.0] * 4), run])


@pytest.mark.parametrize("key", ["dataset", "fingerprint"])
def test_runs_of_other_data_are_refused(key):
    run = make_run([1.0] * 4, sigma=0.25)
    other = dataclasses.replace(run, provenance=run.provenance | {key: "other"})
    with pytest.raises(CountsError, match=rf"{key} is other, but .* for cohen, sigma 0\.5.*; must be the same"):
        build([make_run([1.0] * 4), other])
    del other.provenance[key]
    with pytest.raises(CountsError, match=f"provenance lacks {key}"):
        build([make_run([1.0] * 4), other])


def test_an_entry_about_the_papers_data_set_is_not_called_another_one(tmp_path):
    result = build(example(), published=("adre", 1, "cifar10"), data="cifar10")
    text = write_table(result, tmp_path)[0].read_text()
    assert "The data set is ours" in text
    assert "Another data set" not in text


def test_a_published_standard_accuracy_stands_at_radius_0_and_an_absent_acr_has_no_column(tmp_path):
    text = write_table(build(example(), published=("smoothadv", 3, "cifar10"), norm="linf"), tmp_path)[0].read_text()
    body = cells(text, "## Published")
    assert body[0] == ["SmoothAdv (published)", "", "", "", "10,000: 0 to 9999", "86.2", "68.2"]
    assert "r / sqrt(d)" in text


def _table(record):
    return record["paper"], int(record["table"]), record["dataset"]


def test_every_published_certified_accuracy_is_read():
    with (Path(sys.modules["certsmooth.analysis"].__file__).parent / "published.csv").open() as file:
        records = list(csv.DictReader(file))
    tables = {_table(r) for r in records if r["metric"] in ("certified_accuracy", "acr")}
    shown = ("certified_accuracy", "clean_accuracy", "acr")  # clean accuracy stands at radius 0
    records = [r for r in records if r["metric"] in shown and _table(r) in tables]
    found = sum(len(published_rows(*table)) for table in tables)
    assert found == len(records) > 500
    cohen = [each for each in published_rows("ddrs", 1, "cifar10") if each["method"] == "Cohen"]
    assert {each["unit"] for each in cohen} == {"percent", "l2 radius"}
    imagenet = {(each["method"], each["radius"]): each["value"] for each in published_rows("ddrs", 1, "imagenet")}
    assert (imagenet["Cohen-DS2", 0.5], imagenet["Cohen-DS2", None]) == (58.4, 1.319)


@needs_reference
def test_published_file_is_the_reference_and_what_that_lacks():
    with (Path(sys.modules["certsmooth.analysis"].__file__).parent / "published.csv").open() as file:
        ours = list(csv.DictReader(file))
    with (REFERENCE / "published_tables.csv").open() as file:
        theirs = list(csv.DictReader(file))
    columns = list(theirs[0])
    assert list(ours[0]) == [*columns, "printed"]  # the text of the cell
    ours = [{name: each[name] for name in columns} for each in ours]
    assert [each for each in ours if each in theirs] == theirs
    lacking = [tuple(each[name] for name in ADDED) for each in ours if each not in theirs]
    increased, constant = "r=0.01 sigma_tr increased", "r=0"
    assert lacking == [
        ("smoothadv", "3", "cifar10", "Carmon et al.", "", "certified_accuracy_error", "0.5", "percent"),
        ("smoothadv", "3", "cifar10", "Carmon et al.", "", "clean_accuracy_error", "0.3", "percent"),
        *(
            ("idrs", "2", dataset, method, sigma, "accuracy_std", value, "fraction")
            for dataset, method, values in (
                ("cifar10", increased, ("0.002", "0.013", "0.008")),
                ("cifar10", constant, ("0.006", "0.004", "0.018")),
                ("mnist", increased, ("0.0003", "0.0006", "0.0003")),
                ("mnist", constant, ("0.0004", "0.0004", "0.0005")),
            )
            for sigma, value in zip(("0.12", "0.25", "0.5"), values, strict=True)
        ),
        ("idrs", "6", "cifar10", "r=0.015", "0.12", "clean_accuracy", "0.826", "fraction"),
    ]


ADDED = ("paper", "table", "dataset", "method", "sigma", "metric", "value", "unit")


@needs_reference
def test_authors_certificates_through_the_whole_table():
    runs = []
    for sigma in (0.12, 0.25, 0.5, 1.0):
        path = REFERENCE / "certificates" / f"cohen2019_cifar10_resnet110_train{sigma:.2f}_certify{sigma:.2f}.tsv"
        run = make_run([1.0], sigma=sigma)
        frame = read_published_certificates(path).assign(guarantee="global")
        runs.append(dataclasses.replace(run, frame=frame))
    radii = [0.25 * k for k in range(13)]
    result = build(runs, radii=radii, published=("adre", 1, "cifar10"))
    ours = {
        (float(each["sigma"]), each["radius"]): each["value"]
        for each in rows(result.values, selected_on="none", metric="certified_accuracy")
    }
    theirs = {
        (float(each["sigma"]), each["radius"]): each["value"]
        for each in rows(result.values, selected_on="published", method="Basic")
    }
    assert len(ours) == 4 * len(radii)
    assert {key: round(value) for key, value in ours.items()} == {key: round(theirs[key]) for key in ours}
    best = [max(value for (_, radius), value in ours.items() if radius == r) for r in radii]
    assert column(result.values, "value", selected_on="test", metric="certified_accuracy") == best


@pytest.mark.slow
def test_modules_start_without_heavy_imports():
    steps = ", ".join(f"certsmooth.experiment.steps.{name}" for name in ("certify", "ledger", "route", "table"))
    code = (
        f"import sys, {steps};"
        "print([m for m in ('torch', 'scipy.stats', 'statsmodels', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
