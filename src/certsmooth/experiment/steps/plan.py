"""Plan an experiment: find what was measured, measure what was not, and print what it will cost."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certsmooth._internal.registry import member
from certsmooth._internal.storage import read_json, write_json
from certsmooth.artefacts.counts import read_counts
from certsmooth.artefacts.records import read_log, read_record
from certsmooth.errors import CheckpointError, CountsError
from certsmooth.experiment import plan, runs
from certsmooth.experiment.config import Params
from certsmooth.experiment.plan import Classifier, DataSize, Throughput, TrainingTime
from certsmooth.report.plan_markdown import Plan, render

if TYPE_CHECKING:
    import torch

_REMEDY = "delete it, and measure again"
_SECONDS = 3.0  # that a measurement takes at least, after as much again to warm up


def make_plan(params: Params, *, results: Path, devices: int, limit: float, measure_on: torch.device | None) -> str:
    """Return what the experiment costs, as Markdown; only what was measured has hours.

    Args:
        params: the configuration.
        results: the folder of the results: records of the data, counts and training logs are read there, and
            measurements are kept there, in ``measurements``.
        devices: how many run jobs at a time.
        limit: hours that a job may take, for the advice on shards.
        measure_on: measure each base classifier's throughput on this device first; None to measure nothing.

    Raises:
        CertsmoothError: a record, counts, log or measurement is damaged; the file is named.
    """
    from certsmooth.science.sampling.sampler import GROUP

    sizes, missing = data_sizes(params, results)
    sampling = plan.sampling_jobs(params, sizes, group=GROUP)
    if measure_on is not None:
        for classifier in dict.fromkeys(jobs.classifier for jobs in sampling if jobs.classifier):
            store_measurement(results, classifier, measure_on)
    return render(
        Plan(
            jobs=plan.count_jobs(params),
            sampling=sampling,
            training=plan.training_jobs(params, sizes),
            sizes=sizes,
            missing=missing,
            speeds=read_throughputs(results),
            logs=read_training_times(results),
            devices=devices,
            limit=limit,
        )
    )


def data_sizes(params: Params, results: Path) -> tuple[dict[str, DataSize], list[str]]:
    """Return the sizes of the data sets that are used, and the records that would tell those that are not known.

    They come from the record of the data, or from what was published, if there is no record yet.
    """
    sizes: dict[str, DataSize] = {}
    missing: list[str] = []
    for dataset in dict.fromkeys(run.dataset for run in runs.all_models(params)):
        path = results / "data" / f"{dataset}.json"
        if path.is_file():
            content = read_record(path)
            images = {part: about["images"] for part, about in content["parts"].items()}
            sizes[dataset] = DataSize(tuple(content["image_shape"]), content["num_classes"], images, str(path))
        elif size := _published(params, dataset):
            sizes[dataset] = size
        else:
            missing.append(str(path))
    return sizes, missing


def _published(params: Params, dataset: str) -> DataSize | None:
    """Return the size of the data as they were published, split as params.yaml says; None for none."""
    chosen = params.datasets[dataset]
    published = getattr(member("datasets", chosen.member or dataset), "PUBLISHED", None)
    if published is None:
        return None
    training, test = published.sizes
    images = {"validation": ceil(chosen.validation * training), "test": test}
    images["training"] = training - images["validation"]
    if chosen.unlabelled is not None and chosen.unlabelled.share is not None:
        images["unlabelled"] = ceil(chosen.unlabelled.share * images["training"])
        images["training"] -= images["unlabelled"]
    return DataSize(published.image_shape, published.num_classes, images, "as published; no record of the data yet")


def read_throughputs(results: Path) -> list[Throughput]:
    """Return what was measured, at most once for a classifier and a device: counts' logs before measurements."""
    stored = sorted((results / "measurements").rglob("*.json"))
    found = [*_from_counts(results), *(_from_measurement(path) for path in stored)]
    best: dict[tuple[Classifier, str], Throughput] = {}
    for speed in found:
        best.setdefault((speed.classifier, speed.device), speed)
    starts = {speed.device: speed.start_seconds for speed in found if speed.start_seconds is not None}
    return [_with_start(speed, starts) for speed in best.values()]


def _with_start(speed: Throughput, starts: Mapping[str, float]) -> Throughput:
    """Return a throughput with the start-up that was measured on its device: no log of counts holds one."""
    return speed if speed.start_seconds is not None else replace(speed, start_seconds=starts.get(speed.device))


def _from_counts(results: Path) -> list[Throughput]:
    """Return the throughputs that the counts show, most samples first; their logs leave out the time of sigma(x)."""
    samples: dict[tuple[Classifier, str, str], float] = defaultdict(float)
    seconds: dict[tuple[Classifier, str, str], float] = defaultdict(float)
    files: dict[tuple[Classifier, str, str], int] = defaultdict(int)
    for path in sorted((results / "counts").rglob("*.parquet")):
        counts, identity = read_counts(path)
        log = read_log(path)
        key = _classifier(identity["model"]), identity["device"], identity["torch"]
        cores = log.threads if identity["device"] == "cpu" else 1
        samples[key] += len(counts) * (identity["n0"] + identity["n"])
        seconds[key] += sum(log.seconds) * cores
        files[key] += 1
    order = sorted((key for key in samples if seconds[key] > 0), key=lambda key: -samples[key])
    return [
        Throughput(
            classifier=key[0],
            device=key[1],
            samples_per_second=samples[key] / seconds[key],
            start_seconds=None,
            torch=key[2],
            origin=f"{files[key]:,} files of counts, {samples[key]:,.0f} samples",
        )
        for key in order
    ]


def _from_measurement(path: Path) -> Throughput:
    content = read_json(path, remedy=_REMEDY, error=CountsError)
    try:
        return Throughput(
            classifier=_classifier(content["model"]),
            device=content["device"],
            samples_per_second=content["samples"] / content["seconds"],
            start_seconds=content["start_seconds"],
            torch=content["torch"],
            origin=f"{content['date']}, {content['samples']:,} samples, batches of {content['batch_size']:,}",
        )
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise CountsError(f"{path}: not a measurement ({error!r}); {_REMEDY}") from error


def _classifier(model: Mapping[str, Any]) -> Classifier:
    names = ("architecture", "num_classes", "numeric_type", "channels_last")
    return Classifier(image_shape=tuple(model["image_shape"]), **{name: model[name] for name in names})


def read_training_times(results: Path) -> list[TrainingTime]:
    """Return the logs of the trainings that were finished."""
    paths = sorted((results / "checkpoints").rglob("training.csv"))
    models = [path.with_name("model.safetensors") for path in paths]
    return [_training_time(model, log) for model, log in zip(models, paths, strict=True) if model.is_file()]


def _training_time(model: Path, log: Path) -> TrainingTime:
    from certsmooth.artefacts.checkpoint import read_header

    header = read_header(model)
    about = header.training
    try:
        with log.open(encoding="utf-8", newline="") as file:
            seconds = tuple(float(row["seconds"]) for row in csv.DictReader(file))
        return TrainingTime(
            classifier=_classifier(header.model.to_dict()),
            settings=plan.training_settings(about, batch_size=about["recipe"]["batch_size"]),
            device=about["device"],
            images=about["images"],
            seconds=seconds,
            adaptive_from_epoch=about["recipe"]["adaptive_from_epoch"],
            torch=header.versions["torch"],
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{log}: not the log of {model.name} ({error!r}); train again") from error


def store_measurement(results: Path, classifier: Classifier, device: torch.device) -> None:
    """Measure the throughput of sampling, and keep it for this plan and later ones.

    The weights are random and so are the images: neither changes the time. On the CPU, one thread is measured.
    """
    import torch

    from certsmooth.experiment.steps.smoothed import device_name

    print(f"measuring {classifier} on {device_name(device)} ...", file=sys.stderr, flush=True)
    samples, seconds, batch_size = measure(classifier, device, at_least=_SECONDS)
    content = {
        "model": vars(classifier),
        "device": device_name(device),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "batch_size": batch_size,
        "samples": samples,
        "seconds": seconds,
        "start_seconds": _start_seconds(device),
    }
    name = "-".join(str(part) for part in (classifier.architecture, *classifier.image_shape, classifier.num_classes))
    last = "-channels_last" if classifier.channels_last else ""
    folder = results / "measurements" / device_name(device).replace(" ", "_").replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}-{classifier.numeric_type}{last}.json", content)


def measure(classifier: Classifier, device: torch.device, *, at_least: float) -> tuple[int, float, int]:
    """Time `certsmooth.science.sampling.sampler.Sampler` on whole batches, as sampling uses it for an image of 8 bits.

    Args:
        classifier: what to run.
        device: where; on the CPU, as many threads as torch is set to.
        at_least: seconds; two batches take longer than that on a slow device.

    Returns:
        Noise samples, the seconds that they took (see `_seconds_of`), and the rows of a batch.
    """
    import torch

    from certsmooth.science.models import ModelSpec, build
    from certsmooth.science.sampling.sampler import BLOCK, Sampler, SamplingPlan, default_batch_size
    from certsmooth.science.theory.pixel_grid import PixelGrid

    spec = ModelSpec.from_dict({**vars(classifier), "normalisation": None})
    model = build(spec, seed=0).freeze().to(device)
    pixels = torch.randint(0, 256, (1, *spec.image_shape), generator=torch.Generator().manual_seed(0))
    images = (pixels / torch.tensor(255.0)).to(device)
    rows = default_batch_size(spec.image_shape, device)

    def settings(batches: int) -> SamplingPlan:
        return SamplingPlan(n0=BLOCK, n=batches * rows - BLOCK, seed=0, dataset="plan", grid=PixelGrid(255))

    sampler = Sampler(model, num_classes=spec.num_classes, plan=settings(2), batch_size=rows)

    def run(batches: int) -> float:
        sampler.plan = settings(batches)
        return _seconds_of(lambda: list(sampler.count(images, torch.ones(1), [0])), device)

    batches, seconds = 2, run(2)  # the first one warms up, and checks rows, which is done once a shard
    while True:
        seconds = run(batches)
        if seconds >= at_least:
            return batches * rows, seconds, rows
        batches = ceil(batches * min(10.0, 1.2 * at_least / max(seconds, 0.01)))


def _start_seconds(device: torch.device) -> float:
    """Return the start-up of a job: the imports and the first use of the device, once the files are in memory."""
    program = "import sys, torch, certsmooth.experiment.steps.sample; torch.zeros(1, device=sys.argv[1])"
    command = [sys.executable, "-c", program, str(device)]
    return min(_seconds_of(lambda: subprocess.run(command, check=True), device) for _ in range(2))


def _seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a CPU core that work takes, or on another device the seconds of the clock.

    The time that other programs take of the core is so left out: hours are planned for cores of one's own.
    """

    def now() -> float:
        return sum(os.times()[:4]) if device.type == "cpu" else time.perf_counter()

    since = now()
    work()
    return now() - since
