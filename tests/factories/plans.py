"""What a plan reads: records of data, and benchmark files as Snakemake writes them; and the golden case of the plan."""

from __future__ import annotations

import json
from pathlib import Path

from certsmooth.experiment.plan import Job, jobs, make_plan
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.specs import DataSpec
from factories.artefacts import DIGEST, write_record

RESULTS = Path("results")
BENCHMARKS = Path("logs", "benchmarks")
IMAGES_OF_PARTS = {"training": 200, "validation": 24, "test": 60}


def record_images(data: DataSpec, **images: int) -> Path:
    """Write the record of a data set of as many images."""
    parts = {part: {"images": n, "fingerprint": DIGEST, "content": None} for part, n in images.items()}
    return write_record(RESULTS / data.path, data, parts)


def benchmark(job: Job, seconds: float) -> dict[str, object]:
    """Return what Snakemake 9 says of a job, in JSON and extended."""
    shard = {"shard": str(job.shard[0]), "shards": str(job.shard[1])} if job.rule == "sample" else {}
    spec = list(job.parts) if job.rule not in ("train", "label") else job.parts[0]
    return {
        **{"cpu_time": 0.9 * seconds, "cpu_usage": 90.0 * seconds, "h:m:s": "0:00:10", "mean_load": 90.0},
        **{"input_size_mb": {"results/data/digits.json": 0.001}, "io_in": 1.25, "io_out": 0.125, "jobid": 3},
        **{"max_pss": 553.9, "max_rss": 823.4, "max_uss": "NA", "max_vms": 4539.8},
        "params": {"code": "4c81386ad1c96fbf", "spec": spec},
        "resources": {"_cores": 1, "_nodes": 1, "gpu": 1, "tmpdir": "/tmp"},
        "rule_name": job.rule,
        "s": seconds,
        "threads": 1,
        "wildcards": {"dataset": "digits", **shard},
    }


def write_benchmark(job: Job, seconds: float) -> Path:
    """Write what Snakemake measured of a job, and return the file's path."""
    path = BENCHMARKS / job.output.with_suffix(".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(benchmark(job, seconds), sort_keys=True) + "\n")
    return path


def leave_output(job: Job) -> None:
    """Leave a file where the job would."""
    path = RESULTS / job.output
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def golden_plan(made):
    """What is planned where nothing was measured, and where a job of each rule was, some of them of the past."""
    experiment = Experiment(made.params)
    settings = {"results": RESULTS, "benchmarks": BENCHMARKS}
    nothing = make_plan(experiment, **settings, devices=1, limit=1.0)
    for dataset in ("digits", "cifar10-small"):
        record_images(experiment.data(dataset), **IMAGES_OF_PARTS)
    found = list(jobs(experiment))
    for number, rule in enumerate(("train", "sample", "certify", "attack", "order_cost", "break_certificates")):
        measured = next(job for job in found if job.rule == rule)
        write_benchmark(measured, 100.0 + number)
        if rule != "attack":  # as its benchmark stays, when an attack is deleted
            leave_output(measured)
    measured = make_plan(experiment, **settings, devices=4, limit=0.02)

    def write():
        for name, text in (("plan_of_nothing", nothing), ("plan", measured)):
            (RESULTS / f"{name}.md").write_text(text)

    return write
