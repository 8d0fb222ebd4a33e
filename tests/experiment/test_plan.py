import json
import re
import shutil
from collections import Counter
from dataclasses import asdict
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certsmooth.artefacts.counts import CountsPart, write_counts
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import write_logs
from certsmooth.experiment import plan
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params, read_params
from certsmooth.experiment.plan import makespan
from certsmooth.experiment.resolve import Experiment
from certsmooth.science.sampling.counts import GROUP, Counts, shard_of
from factories import (
    BENCHMARKS,
    RESULTS,
    benchmark,
    leave_output,
    log,
    record_images,
    shipped_content,
    write_benchmark,
    write_params,
)
from workflow_project import call, copy_project, cut_down, edit, planned, planned_in

pytestmark = pytest.mark.slow  # it resolves the whole configuration each time
IMAGES = {"training": 80, "validation": 20, "test": 120}


class Project:
    """A folder with one table of one method on points in the plane: two sigmas, n0 + n = 1,000, 3 shards."""

    def __init__(self):
        content = shipped_content()
        content["dataset"] = "cones"
        content["datasets"]["cones"] |= {"sigmas": [0.25, 0.5]}
        content["datasets"]["cones"]["certification"] = {"n0": 100, "n": 900, "alpha": 0.001, "stride": 1, "shards": 3}
        content["datasets"]["cones"]["recipe"] |= {"epochs": 6, "adaptive_from_epoch": 2, "batch_size": 10}
        content["tables"] = {"table1": {"kind": "certified", "title": "One", "methods": ["cohen"], "baseline": "cohen"}}
        content |= {"toy": None, "pictures": None, "high_dimension": None}
        self.content = content
        self.edit(lambda _: None)
        record_images(self.experiment.data("cones"), **IMAGES)

    def edit(self, change):
        change(self.content)
        write_params(Path(), self.content)
        self.experiment = Experiment(parse_params(self.content))

    def jobs(self, rule):
        return [job for job in plan.jobs(self.experiment) if job.rule == rule]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project()


@pytest.fixture
def printed(capsys):
    def run(*options):
        assert main(["plan", *options]) == 0
        return capsys.readouterr().out

    return run


def certification(**changes):
    return lambda content: content["datasets"]["cones"]["certification"].update(changes)


def recipe(**changes):
    return lambda content: content["datasets"]["cones"]["recipe"].update(changes)


def rows(text, section, rule):
    """The rows of a rule in the table of a section: their cells after the rule."""
    lines = [line for line in text.split(f"\n## {section}\n")[1].split("\n## ")[0].splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row[1:] for row in found if row[0] == rule]


def of_jobs(text, rule):
    """The row of a rule in the table of all jobs: jobs, made, hours that they took, left, left with hours."""
    (row,) = rows(text, "Jobs", rule)
    return row


def hours(text, rule):
    """The hours of what is left of a rule, in one row; None if there is none."""
    found = rows(text, "Hours of what is left", rule)
    return float(found[0][3]) if found else None


@pytest.mark.workflow
def test_jobs_are_those_of_snakemake_and_its_benchmark_gives_the_hours_of_their_kind(tmp_path, monkeypatch, capsys):
    copy_project(tmp_path)
    edit(tmp_path, cut_down)
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(read_params(tmp_path / "params.yaml"))
    found = list(plan.jobs(experiment))
    text = call(tmp_path, "snakemake", "--dry-run")
    everything = planned_in(text)
    benchmarks = re.findall(r"^    benchmark: (.+)$", text, re.MULTILINE)
    assert sorted(benchmarks) == sorted(
        str(BENCHMARKS / job.output.with_suffix(".jsonl")) for job in found if job.parts
    )
    assert {rule: sum(job.rule == rule for job in found) for rule in {job.rule for job in found}} == everything
    for table in ("table1", "soundness"):  # a table alone
        of_table = Counter(job.rule for job in plan.jobs(experiment, table))
        assert of_table | {"shown": 1} == planned(tmp_path, f"results/{table}.md")

    files = ("results/checkpoints/digits/gaussian/sigma=0.25/seed=0/default/model.safetensors",)
    files += ("results/counts/digits/cohen/seed=0/0-of-2.parquet",)
    call(tmp_path, "snakemake", "--cores", "1", *files)
    assert main(["plan"]) == 0
    text = capsys.readouterr().out
    left = {rule: row[3] for rule in everything if (row := of_jobs(text, rule))[3] != "0"}
    assert left == {rule: str(count) for rule, count in planned(tmp_path).items()}
    images = json.loads((tmp_path / "results/data/digits.json").read_text())["parts"]
    shards = [sum(len(shard_of(images[part]["images"], i, 2)) for part in ("test", "validation")) for i in range(2)]
    measured = json.loads((tmp_path / BENCHMARKS / "counts/digits/cohen/seed=0/0-of-2.jsonl").read_text())["s"]
    assert hours(text, "sample") == pytest.approx(measured * shards[1] / shards[0] / 3600, rel=0.01)
    assert of_jobs(text, "train")[1] == "1"
    assert float(of_jobs(text, "train")[2].removesuffix(" (1)")) > 0


def test_every_job_is_one_of_a_table_or_a_figure():
    experiment = Experiment(parse_params(shipped_content()))
    everything = {job.output for job in plan.jobs(experiment)}
    of_tables = [{job.output for job in plan.jobs(experiment, table)} for table in experiment.params.tables]
    assert all(each < everything for each in of_tables)
    figures = {"theory", "toy", "pictures", "high_dimension"}
    missing = everything - set.union(*of_tables)
    assert {job.rule for job in plan.jobs(experiment) if job.output in missing} - figures <= {
        "sample",
        "certify",
        "train",
    }


def test_a_table_is_named_as_a_file_or_a_key(project, printed, capsys):
    assert printed("table1") == printed("results/table1.md") != printed()
    assert main(["plan", "tabel1"]) == 2
    assert "table: unknown 'tabel1'; did you mean 'table1'?" in capsys.readouterr().err


def counted(successes, n, sigma):
    """Counts of images of which so many of n samples were of class 0, of two classes."""
    successes = np.asarray(successes)
    images = len(successes)
    estimation = np.stack([successes, n - successes], axis=1)
    columns = {"index": np.arange(images), "label": np.zeros(images, np.int64), "sigma": np.full(images, sigma)}
    columns |= {"constant_within": np.full(images, np.inf), "batch_size": np.full(images, 100)}
    return Counts(**columns, selection=np.tile([100, 0], (images, 1)), estimation=estimation)


def test_samples_that_a_rule_stops_are_forecast_from_what_is_stored(project, printed):
    """Half of the images are certain after 100 samples, the others are at 1/2, which radius 0 needs n for."""
    for job in project.jobs("sample"):
        write_benchmark(job, 90.0)
        images = [len(shard_of(IMAGES[part["split"]], *job.shard)) for part in job.parts]
        chances = [np.where(np.arange(count) % 2, 900, 450) for count in images]
        sigmas = [part["base"]["sigma"] for part in job.parts]
        made = [counted(k, 900, sigma) for k, sigma in zip(chances, sigmas, strict=True)]
        parts = [CountsPart(each, {"spec": part}) for each, part in zip(made, job.parts, strict=True)]
        (RESULTS / job.output).parent.mkdir(parents=True, exist_ok=True)
        write_counts(RESULTS / job.output, parts)
    rule = {"name": "radius", "options": {"radius": 0.0, "chance": 0.0}}
    project.edit(certification(n=2_000, stop=rule))
    stopped = (100 + 2000) / 2  # of the even ones, none can be given up before 2,000
    assert hours(printed(), "sample") == pytest.approx(3 * 90 * (100 + stopped) / 1000 / 3600, rel=0.05)
    shutil.rmtree(RESULTS / "counts")
    assert hours(printed(), "sample") is None


def test_nothing_measured_is_said_and_gives_no_hours(project, printed):
    text = printed()
    assert "Nothing that is left was measured: no hours are given." in text
    assert "Longest" not in text
    file = "`checkpoints/cones/gaussian/sigma=0.25/seed=0/default/model.safetensors`"
    assert rows(text, "Not in these hours", "train") == [["cones", "gaussian", file, "2"]]
    assert rows(text, "Not in these hours", "sample") == [
        ["cones", "cohen", "`counts/cones/cohen/seed=0/0-of-3.parquet`", "3"]
    ]
    assert "Never measured: certified (1), theory (1)." in text  # the record of the data is there
    assert of_jobs(text, "total") == ["9", "1", "–", "8", "0"]


def test_hours_of_sampling_are_those_of_a_shard_by_images_and_samples(project, printed):
    # 120 test images in shards of 50, 50, 20, and 20 validation images in the first: of two sigmas, 140, 100 and 40.
    first = project.jobs("sample")[0]
    write_benchmark(first, 140.0)
    leave_output(first)
    text = printed()
    assert of_jobs(text, "sample") == ["3", "1", "0.0389 (1)", "2", "2"]
    assert rows(text, "Hours of what is left", "sample") == [["cones", "cohen", "2", "0.0389", "0.0278", "3", "1"]]
    project.edit(certification(n=9900))  # ten times the samples: 1,400 s, 1,000 s and 400 s
    text = printed("--devices", "2", "--hours", "0.5")
    assert of_jobs(text, "sample") == ["3", "0", "–", "3", "3"]
    # In two shards, the first would have 240 of 280 images: 2,400 s.
    assert rows(text, "Hours of what is left", "sample") == [["cones", "cohen", "3", "0.778", "0.389", "3", "3"]]
    assert "- 0.778 hours in 3 jobs; the longest: 0.389 hours." in text
    assert "- On 2 devices: 0.389 hours" in text  # 1,400 s beside 1,000 + 400 s
    assert rows(printed("--hours", "0.3"), "Hours of what is left", "sample")[0][-1] == "none"
    assert rows(printed("--hours", "1"), "Hours of what is left", "sample")[0][-1] == "1"


def test_several_benchmarks_of_a_kind_count_by_their_work(project, printed):
    first, second, _ = project.jobs("sample")
    write_benchmark(first, 200.0)
    write_benchmark(second, 40.0)
    for job in (first, second):
        leave_output(job)
    assert hours(printed(), "sample") == pytest.approx(240 / 240 * 40 / 3600, rel=0.01)  # 240 images in 240 s


def test_computing_sigma_costs_no_more_for_more_samples(project, printed):
    def depend(content):
        policy = {"name": "data_dependent", "options": {"iterations": 5, "samples": 1, "step": 0.001}}
        content["methods"]["cohen"]["policy"] = policy

    project.edit(depend)
    record_images(project.experiment.data("cones"), training=80, validation=1, test=300)
    write_benchmark(project.jobs("sample")[0], 202.0)  # 100 images and one, of two sigmas
    assert hours(printed(), "sample") == pytest.approx(602 / 3600, rel=0.01)
    project.edit(certification(stride=2))
    assert hours(printed(), "sample") == pytest.approx(302 / 3600, rel=0.01)
    project.edit(certification(n=9900))
    assert hours(printed(), "sample") is None


def test_a_job_of_another_mixture_of_work_is_of_another_kind(project, printed):
    write_benchmark(project.jobs("sample")[0], 140.0)
    options = {"iterations": [5, 10], "samples": 1, "step": 0.001}
    project.edit(lambda c: c["methods"]["cohen"].update(policy={"name": "data_dependent", "options": options}))
    assert hours(printed(), "sample") is None
    write_benchmark(project.jobs("sample")[0], 140.0)
    assert hours(printed(), "sample") == pytest.approx(280 / 3600, rel=0.01)
    project.edit(lambda c: options.update(iterations=5))
    assert hours(printed(), "sample") is None


def test_hours_of_training_are_those_of_another_seed_or_sigma_by_epochs(project, printed):
    trained = project.jobs("train")[0]
    write_benchmark(trained, 36.0)
    leave_output(trained)
    row = ["cones", "gaussian", "1", "0.01", "0.01", "", ""]
    assert rows(printed(), "Hours of what is left", "train") == [row]
    project.edit(lambda content: content.update(training_seeds=[0, 1]))
    assert hours(printed(), "train") == pytest.approx(3 * 36 / 3600)
    project.edit(recipe(epochs=60, learning_rate=0.5))
    assert of_jobs(printed(), "train") == ["4", "0", "–", "4", "4"]  # the one that is there has other parameters
    assert hours(printed(), "train") == pytest.approx(4 * 360 / 3600)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["trainings"]["gaussian"].update(noise="uniform"),
        lambda content: content["trainings"]["gaussian"].update(objective={"name": "stability", "options": {}}),
        lambda content: content["datasets"]["cones"].update(architecture="mlp", numeric_type="bfloat16"),
        lambda content: content["datasets"]["cones"].update(validation=0.5),
        recipe(batch_size=11),
    ],
)
def test_another_training_says_nothing(project, printed, change):
    write_benchmark(project.jobs("train")[0], 36.0)
    project.edit(change)
    record_images(project.experiment.data("cones"), **IMAGES)
    assert hours(printed(), "train") is None
    assert rows(printed(), "Not in these hours", "train")


def test_epochs_that_are_not_alike_are_not_scaled(project, printed):
    policy = {"name": "data_dependent", "options": {"iterations": 5, "samples": 1, "step": 0.001}}
    project.edit(lambda content: content["trainings"]["gaussian"].update(policy=policy))
    write_benchmark(project.jobs("train")[0], 36.0)
    assert hours(printed(), "train") == pytest.approx(2 * 36 / 3600)
    project.edit(recipe(epochs=12))
    assert hours(printed(), "train") is None


def test_attacks_are_scaled_by_images_and_what_a_memory_may_take_part_in_is_not(project, printed):
    def audit(content):
        about = {"methods": ["cohen"], "predict": {"n": 100, "alpha": 0.01}, "stride": 60}
        attack = {"label": "PGD", "attack": {"name": "base_pgd", "options": {"steps": 2}}, "samples": [0]}
        attacked = {"kind": "empirical", "title": "A", "attacks": {"base": attack}, **about}
        broken = {"kind": "soundness", "title": "S", "shuffles": 2, **about}
        content["tables"] |= {"empirical": attacked, "soundness": broken}

    project.edit(audit)
    for rule in ("certify", "attack", "order_cost", "break_certificates"):
        (job,) = project.jobs(rule)
        write_benchmark(job, 36.0)
    for rule in ("certify", "attack", "order_cost", "break_certificates"):
        assert hours(printed(), rule) == pytest.approx(0.01)
    project.edit(lambda content: content["tables"]["empirical"].update(stride=12))  # 10 images for 2
    project.edit(lambda content: content["tables"]["soundness"].update(stride=1))  # 120 for 2
    text = printed()
    assert [hours(text, rule) for rule in ("attack", "break_certificates")] == pytest.approx([0.05, 0.6])
    project.edit(certification(stride=2))
    text = printed()
    assert [hours(text, rule) for rule in ("certify", "order_cost")] == [None, None]
    project.edit(lambda content: content["tables"]["empirical"]["predict"].update(n=1000))
    assert hours(printed(), "attack") is None


def test_labels_are_measured_as_well(tmp_path, monkeypatch, printed):
    monkeypatch.chdir(tmp_path)
    copy_project(tmp_path)
    edit(tmp_path, cut_down)
    experiment = Experiment(read_params(tmp_path / "params.yaml"))
    record_images(experiment.data("digits-half-labelled"), **IMAGES, unlabelled=80)
    (label,) = (job for job in plan.jobs(experiment) if job.rule == "label")
    write_benchmark(label, 36.0)
    assert rows(printed(), "Hours of what is left", "label")[0][:3] == ["digits-half-labelled", "standard", "1"]
    assert hours(printed(), "label") == pytest.approx(0.01)


def test_unknown_numbers_of_images_give_no_hours(project, printed):
    write_benchmark(project.jobs("sample")[0], 140.0)
    record = record_images(project.experiment.data("cones"), **IMAGES)
    assert hours(printed(), "sample") is not None
    project.edit(lambda content: content["datasets"]["cones"].update(validation=0.5))  # the record is of other data
    assert hours(printed(), "sample") is None
    project.edit(lambda content: content["datasets"]["cones"].update(validation=0.2))
    record.unlink()
    text = printed()
    assert hours(text, "sample") is None
    assert "Never measured: data (1), " in text
    record.write_text("{}")
    assert main(["plan"]) == 2


def sampled_in(job, seconds):
    (RESULTS / job.output).parent.mkdir(parents=True, exist_ok=True)
    write_logs(RESULTS / job.output, [log(seconds, **asdict(made_by()))])


def test_a_job_that_went_on_where_a_killed_one_stopped_says_nothing(project, printed):
    trained, sampled = project.jobs("train")[0], project.jobs("sample")[0]
    for job in (trained, sampled):
        write_benchmark(job, 36.0)
        leave_output(job)
    (RESULTS / trained.output).with_name("training.csv").write_text("epoch,seconds\n0,10\n1,25.5\n")
    sampled_in(sampled, [10.0, 25.5])
    assert [hours(printed(), rule) is None for rule in ("train", "sample")] == [False, False]
    (RESULTS / trained.output).with_name("training.csv").write_text("epoch,seconds\n0,10\n1,26.5\n")
    sampled_in(sampled, [10.0, 26.5])
    text = printed()
    assert [hours(text, rule) for rule in ("train", "sample")] == [None, None]
    assert [of_jobs(text, rule)[1:3] for rule in ("train", "sample")] == [["1", "0.01 (1)"]] * 2
    (RESULTS / trained.output).with_name("training.csv").write_text("epoch,loss\n0,10\n")
    assert main(["plan"]) == 2


def test_when_all_is_made_nothing_is_left(project, printed):
    for job in plan.jobs(project.experiment):
        leave_output(job) if job.rule != "data" else None
    text = printed()
    assert "Nothing is left." in text
    assert of_jobs(text, "total") == ["9", "9", "–", "0", "0"]
    assert "Not in these hours" not in text
    (RESULTS / "tables" / "table1.md").unlink()
    assert "Never measured: certified (1)." in printed()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda text, _: "", "JSONDecodeError"),
        (lambda text, _: text[: len(text) // 2], "JSONDecodeError"),
        (lambda text, _: text + text, "JSONDecodeError"),
        (lambda text, _: "[1]", "TypeError"),
        (lambda text, _: "[" * 100_000, "RecursionError"),
        (lambda text, about: json.dumps({key: about[key] for key in ("s", "h:m:s", "max_rss")}), "'params'"),
        (lambda text, about: json.dumps(about | {"s": "NA"}), "s: 'NA'; must be a finite number > 0"),
        (lambda text, about: json.dumps(about | {"s": 0}), "s: 0"),
        (lambda text, about: json.dumps(about | {"s": float("nan")}), "s: nan"),
        (lambda text, about: json.dumps(about | {"s": float("inf")}), "s: inf"),
        (lambda text, about: json.dumps(about | {"params": {"spec": [{"sampled": {}}]}}), "KeyError"),
        (lambda text, about: json.dumps(about | {"params": {"spec": "all"}}), "AttributeError"),
        (lambda text, about: json.dumps(about | {"wildcards": {"shard": "0", "shards": "0"}}), "ZeroDivisionError"),
    ],
)
def test_a_damaged_benchmark_file_is_named(project, capsys, change, found):
    job = project.jobs("sample")[0]
    path = write_benchmark(job, 140.0)
    path.write_text(change(path.read_text(), benchmark(job, 140.0)))
    assert main(["plan"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"certsmooth: {path}: damaged, not extended, or of a job of another version (")
    assert found in said
    assert said.endswith("; delete it\n")


def test_imagenet_is_planned_from_a_hundredth_of_it(project, printed):
    content = project.content
    content["dataset"] = "imagenet"
    content["datasets"]["imagenet"]["certification"] |= {"stride": 100, "shards": 1}
    content["datasets"]["imagenet"] |= {"sigmas": [0.5]}
    project.edit(lambda _: None)
    record_images(project.experiment.data("imagenet"), training=1_279_885, validation=1, test=50_000)
    (job,) = project.jobs("sample")
    write_benchmark(job, 501 * 36.0)  # 36 s for the 100,100 samples of an image
    project.edit(lambda content: content["datasets"]["imagenet"]["certification"].update(stride=1, shards=500))
    (row,) = rows(printed("--hours", "1"), "Hours of what is left", "sample")
    # A shard has two groups of test images, an hour; the first one has the validation image as well.
    assert row == ["imagenet", "cohen", "500", "500", "1.01", "500", "1000"]


@given(images=st.integers(0, 5000), shards=st.integers(1, 130))
def test_shards_are_whole_groups_as_even_as_can_be(images, shards):
    groups = [range(images)[i : i + GROUP] for i in range(0, images, GROUP)]
    naive = [[i for g in part for i in groups[g]] for part in np.array_split(np.arange(len(groups)), shards)]
    assert [list(shard_of(images, shard, shards)) for shard in range(shards)] == naive


@given(st.lists(st.lists(st.floats(0, 100), max_size=8), max_size=3), st.integers(1, 5))
def test_the_wall_clock_is_between_its_bounds(phases, devices):
    found = makespan(phases, devices)
    assert makespan(phases, 1) == pytest.approx(sum(map(sum, phases)))
    lower = sum(max(sum(jobs) / devices, max(jobs, default=0)) for jobs in phases)
    upper = sum(sum(jobs) / devices + max(jobs, default=0) for jobs in phases)  # Graham 1966
    assert lower <= found + 1e-9 <= upper + 2e-9


@pytest.mark.parametrize(
    ("images", "limit"), [(1, 0.004), (1, 0.02), (51, 0.06), (260, 0.07), (1999, 0.1), (1999, 0.9)]
)
def test_the_advised_number_of_shards_is_the_smallest(project, printed, images, limit):
    record_images(project.experiment.data("cones"), training=80, validation=20, test=images)
    project.edit(certification(shards=1))
    write_benchmark(project.jobs("sample")[0], 2.0 * (images + 20))  # a second for an image of one sigma

    def longest(shards):
        return max(2 * sum(len(shard_of(n, shard, shards)) for n in (images, 20)) / 3600 for shard in range(shards))

    fitting = [shards for shards in range(1, ceil(images / GROUP) + 1) if longest(shards) <= limit * (1 + 1e-12)]
    found = rows(printed("--hours", str(limit)), "Hours of what is left", "sample")[0][-1]
    assert found == (str(fitting[0]) if fitting else "none")


@pytest.mark.parametrize(("option", "value"), [("--devices", "0"), ("--hours", "0"), ("--hours", "nan")])
def test_bad_options_are_named(project, capsys, option, value):
    assert main(["plan", option, value]) == 2
    assert f"certsmooth: {option}: " in capsys.readouterr().err
