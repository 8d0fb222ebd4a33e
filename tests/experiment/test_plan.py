import re
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certsmooth._internal.storage import write_json
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.counts import write_counts
from certsmooth.artefacts.provenance import made_by
from certsmooth.experiment import plan
from certsmooth.experiment.cli import main
from certsmooth.experiment.config import parse_params, read_params
from certsmooth.experiment.plan import Classifier, SamplingJobs, Throughput, makespan
from certsmooth.experiment.steps.plan import data_sizes
from certsmooth.science.models import ModelSpec, build
from certsmooth.science.sampling.counts import Counts
from certsmooth.science.sampling.sampler import GROUP
from shipped import shipped_content
from workflow_project import copy_project, cut_down, edit, plain_yaml, planned

MLP = Classifier("mlp", (2,), 2, "float32", False)
HASH = f"sha256:{'0' * 64}"
RECORD = {
    "name": "cones",
    "description": "Cones",
    "image_shape": [2],
    "num_classes": 2,
    "pixel_range": None,
    "parts": {
        name: {"images": images, "fingerprint": HASH, "content": HASH}
        for name, images in {"training": 80, "validation": 20, "test": 120}.items()
    },
}


def shipped():
    return shipped_content()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """One table of one method on points in the plane: two sigmas, n0 + n = 1,000, 3 shards; the data are known."""
    content = shipped()
    content["dataset"] = "cones"
    content["datasets"]["cones"] |= {"sigmas": [0.25, 0.5]}
    content["datasets"]["cones"]["certification"] = {"n0": 100, "n": 900, "alpha": 0.001, "stride": 1, "shards": 3}
    content["datasets"]["cones"]["recipe"] |= {"epochs": 6, "adaptive_from_epoch": 2, "batch_size": 10}
    content["tables"] = {"table1": {"kind": "certified", "title": "One", "methods": ["cohen"], "baseline": "cohen"}}
    content |= {"toy": None, "high_dimension": None}
    (tmp_path / "params.yaml").write_text(plain_yaml(content))
    write(tmp_path / "results" / "data" / "cones.json", RECORD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def measured(folder, *, samples=1000, seconds=1.0, device="cpu", start=None, model=MLP):
    content = {
        "model": vars(model),
        "device": device,
        "torch": "2.15.0",
        "date": "2026-11-21",
        "batch_size": 100,
        "samples": samples,
        "seconds": seconds,
        "start_seconds": start,
    }
    write(folder / "results" / "measurements" / device / f"{model.architecture}.json", content)


def printed(capsys, *options):
    assert main(["plan", *options]) == 0
    return capsys.readouterr().out


def cells(text, section):
    """The cells of the first row of the first table below a heading."""
    rows = [line for line in text.split(f"{section}\n", 1)[1].splitlines() if line.startswith("|")]
    return [cell.strip() for cell in rows[2].strip("|").split("|")]


@pytest.mark.workflow
def test_the_jobs_are_those_that_snakemake_plans(tmp_path):
    copy_project(tmp_path)
    edit(tmp_path, cut_down)
    assert plan.count_jobs(read_params(tmp_path / "params.yaml")) == planned(tmp_path)


def test_nothing_measured_means_no_hours(folder, capsys):
    text = printed(capsys)
    assert "Nothing that is planned here was measured" in text
    assert "hours |" not in text
    assert "sample, 12 jobs: no throughput of mlp, 2, 2 classes, float32; `certsmooth plan --measure`" in text
    assert "train, 2 jobs: no log of such a training (gaussian)" in text
    (folder / "results" / "data" / "cones.json").unlink()
    assert "make the records first: `snakemake --cores 1 results/data/cones.json`" in printed(capsys)


def test_hours_of_sampling_are_images_times_samples_over_throughput(folder, capsys):
    measured(folder, samples=5000, seconds=50.0)  # 100 samples per second: 10 s for an image
    text = printed(capsys, "--devices", "2", "--hours", "0.2")
    # 120 test images in shards of 50, 50, 20; 20 validation images are in one shard, the other two are empty.
    assert cells(text, "### Sampling") == [
        *("cones", "mlp", "cohen", "test", "2", "2", "120", "1,000", "3", "6"),
        *("0.667", "0.139", "3"),  # 2 * 1,200 s, 500 s, and 0.2 h take one group, but not two
    ]
    assert "core hours: 0.778 (training not planned, sampling 0.778) in 12 jobs" in text  # 2 * 1,400 s
    assert "Longest job: 0.139 hours" in text
    assert "On 2 cores, with the shards as they are: 0.389 hours" in text  # 500 + 500 + 200 + 200 s on each
    assert "2.15.0" in cells(text, "## What the hours rest on")
    assert "- start-up of jobs on cpu; `certsmooth plan --measure`" in text
    assert "2026-11-21, 5,000 samples, batches of 100" in text


def test_the_start_of_a_job_counts_for_each(folder, capsys):
    measured(folder, samples=10**9, start=360.0)
    assert "start-up of jobs" not in (text := printed(capsys))
    assert "core hours: 1.200 (training not planned, sampling 1.200) in 12 jobs" in text
    assert "Longest job: 0.100 hours" in text


def test_logs_of_counts_come_before_measurements(folder, capsys):
    measured(folder, samples=10**9, start=36.0)
    path = folder / "results" / "counts" / "cones" / "test-0-of-1.parquet"
    path.parent.mkdir(parents=True)
    ones = np.ones(20, dtype=np.int64)
    counts = Counts(
        np.arange(20), ones, ones * 0.5, ones * 0.0, np.stack([ones, ones], 1), np.stack([ones, ones], 1), ones
    )
    spec = ModelSpec("mlp", (2,), 2).to_dict()
    identity = {"model": spec, "device": "cpu", "torch": "2.14.0", "n0": 100, "n": 900}
    write_counts(path, counts, identity)
    made = {"device": "cpu", "threads": 2, "versions": {}, "git_commit": None, "image": None}
    write(path.with_suffix(".log.json"), {"seconds": [50.0] * 20, **made})
    text = printed(capsys)
    # 20,000 samples in 1,000 s on two cores: 10 a second and core; and the start-up that was measured.
    assert cells(text, "## What the hours rest on")[1:] == [
        *("cpu", "2.14.0", "10.0", "36.0"),
        "1 files of counts, 20,000 samples",
    ]
    assert cells(text, "### Sampling")[10] == "6.727"  # 2 * (12,000 + 3 * 36) s


@pytest.fixture
def trained(folder):
    """A log of such a training at another sigma: two epochs of 1 s, then three of 4 s, with 40 images."""

    def write_log(**changes):
        described = {"objective": {"name": "gaussian", "options": {}}, "policy": {"name": "fixed", "options": {}}}
        described |= {"noise": "gaussian", "device": "cpu", "images": 40}
        described |= {"recipe": {"batch_size": 10, "epochs": 5, "adaptive_from_epoch": 2}} | changes
        classifier = build(ModelSpec("mlp", (2,), 2), seed=0)
        header = checkpoint.CheckpointHeader(
            model=classifier.spec,
            dataset="cones",
            dataset_fingerprint="",
            pixel_range=None,
            sigma=1.0,
            training=described,
            seed=0,
            **vars(made_by()),
        )
        path = folder / "results" / "checkpoints" / "cones" / "gaussian"
        path.mkdir(parents=True, exist_ok=True)
        checkpoint.save(path / "model.safetensors", classifier, header)
        (path / "training.csv").write_text("epoch,seconds\n0,1\n1,1\n2,4\n3,4\n4,4\n")

    return write_log


def test_hours_of_training_are_those_of_the_log_for_as_many_images_and_epochs(trained, capsys):
    trained()
    text = printed(capsys)
    # 80 images, twice those of the log; 6 epochs: 2 of 1 s and 4 of 4 s, so 36 s for each of two sigmas.
    row = ["cones", "mlp", "gaussian", "default", "2", "80", "6", "0.020", "0.010"]
    assert cells(text, "### Training") == row
    assert "sample, 12 jobs: no throughput" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": "uniform"},
        {"objective": {"name": "gaussian", "options": {"samples": 2}}},
        {"policy": {"name": "data_dependent", "options": {}}},
        {"recipe": {"batch_size": 11, "epochs": 5, "adaptive_from_epoch": 2}},
        {"recipe": {"batch_size": 10, "epochs": 5, "adaptive_from_epoch": 5}},  # no epoch of the second kind
    ],
)
def test_the_log_of_another_training_says_nothing(trained, capsys, changes):
    trained(**changes)
    assert "Nothing that is planned here was measured" in printed(capsys)


def test_each_device_is_planned_apart(folder, capsys):
    measured(folder, samples=100)
    measured(folder, samples=10_000, device="NVIDIA H200")
    text = printed(capsys, "--devices", "4")
    assert "core hours: 0.778 (" in text
    assert "GPU hours: 0.0078 (" in text
    assert text.index("## CPU") > text.index("## NVIDIA H200")
    assert "On 4 GPUs" in text


def test_imagenet_is_planned_without_its_data(tmp_path):
    content = shipped() | {"dataset": "imagenet"}
    content["datasets"]["imagenet"]["certification"] |= {"stride": 1, "shards": 500}
    content["tables"] = {"table1": content["tables"]["table1"]}
    content |= {"toy": None, "high_dimension": None}
    params = parse_params(content)
    sizes, missing = data_sizes(params, tmp_path)
    assert missing == []
    jobs = {jobs.part: jobs for jobs in plan.sampling_jobs(params, sizes, group=GROUP) if jobs.method == "cohen"}
    assert jobs["test"].images == 50_000
    assert jobs["validation"].images == ceil(0.001 * 1_281_167)
    assert jobs["test"].samples == 100_100
    assert jobs["test"].classifier == Classifier("resnet50", (3, 224, 224), 1000, "float32", False)
    assert set(jobs["test"].images_by_shard()) == {100}
    speed = Throughput(jobs["test"].classifier, "cpu", 100_100 / 36, None, "", "")  # 36 s for an image
    assert sum(jobs["test"].hours(speed)) == pytest.approx(500)
    assert max(jobs["test"].hours(speed)) == pytest.approx(1)


def jobs_of(images, shards):
    return SamplingJobs("d", "m", "test", 1, 1, shards, 10, "fixed", MLP, images, GROUP)


@given(images=st.integers(1, 5000), shards=st.integers(1, 130))
def test_shards_are_those_of_sampling(images, shards):
    groups = [range(images)[i : i + GROUP] for i in range(0, images, GROUP)]
    naive = [sum(len(groups[i]) for i in part) for part in np.array_split(np.arange(len(groups)), shards)]
    assert list(jobs_of(images, shards).images_by_shard()) == naive


@given(images=st.integers(1, 2000), limit=st.floats(0.001, 10), start=st.sampled_from([None, 5.0, 40.0]))
def test_the_advised_number_of_shards_is_the_smallest(images, limit, start):
    speed = Throughput(MLP, "cpu", 1.0, start, "", "")
    found = jobs_of(images, 1).shards_under(limit, speed)
    groups = ceil(images / GROUP)
    fitting = [s for s in range(1, groups + 1) if max(jobs_of(images, s).hours(speed)) <= limit]
    assert found == (fitting[0] if fitting else None)


@given(st.lists(st.lists(st.floats(0, 100), max_size=8), max_size=3), st.integers(1, 5))
def test_the_wall_clock_is_between_its_bounds(phases, devices):
    found = makespan(phases, devices)
    assert makespan(phases, 1) == pytest.approx(sum(map(sum, phases)))
    lower = sum(max(sum(jobs) / devices, max(jobs, default=0)) for jobs in phases)
    upper = sum(sum(jobs) / devices + max(jobs, default=0) for jobs in phases)  # Graham 1966
    assert lower <= found + 1e-9 <= upper + 2e-9


def test_a_measurement_is_made_kept_and_used(folder, capsys, monkeypatch):
    monkeypatch.setattr("certsmooth.experiment.steps.plan._SECONDS", 0.05)
    text = printed(capsys, "--measure", "--device", "cpu")
    row = cells(text, "## What the hours rest on")
    assert row[:2] == ["mlp, 2, 2 classes, float32", "cpu"]
    assert float(row[3].replace(",", "")) > 1000
    assert 0.3 < float(row[4]) < 60
    assert re.search(r"\d{4}-\d\d-\d\d, [\d,]+ samples, batches of 128,000", row[5])
    assert printed(capsys) == text
    (path,) = (folder / "results" / "measurements").rglob("*.json")
    for damage in (path.read_text().replace("128000", "256000"), '{"model": 1}'):
        path.write_text(damage)
        assert main(["plan"]) == 2
        assert path.name in capsys.readouterr().err
    write_json(path, {"model": 1})
    assert main(["plan"]) == 2
    assert f"{path.name}: not a measurement" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--devices", "0"), ("--hours", "0"), ("--hours", "nan")])
def test_bad_options_are_named(folder, capsys, option, value):
    assert main(["plan", option, value]) == 2
    assert f"certsmooth: {option}: " in capsys.readouterr().err
