"""What an experiment costs, before it runs: its jobs, and their hours at a measured throughput.

Pure arithmetic: `experiment.steps.plan` finds the measurements and the sizes of the data. Nothing is guessed: what was
not measured is named, and stays out of every sum.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor
from typing import Any

from certsmooth.experiment import runs
from certsmooth.experiment.config import EmpiricalTable, Params, SoundnessTable


@dataclass(frozen=True)
class Classifier:
    """What the time of a forward pass depends on: the fields of a model spec, without the normalisation."""

    architecture: str
    image_shape: tuple[int, ...]
    num_classes: int
    numeric_type: str
    channels_last: bool

    def __str__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        last = ", channels last" if self.channels_last else ""
        return f"{self.architecture}, {shape}, {self.num_classes} classes, {self.numeric_type}{last}"


@dataclass(frozen=True)
class DataSize:
    """How many images there are.

    Attributes:
        image_shape: of one image.
        num_classes: number of classes.
        images: by part: training, validation, test, and unlabelled where there are such.
        origin: where this is known from.
    """

    image_shape: tuple[int, ...]
    num_classes: int
    images: Mapping[str, int]
    origin: str


@dataclass(frozen=True)
class Throughput:
    """A measured speed of sampling.

    Attributes:
        classifier: what was run.
        device: "cpu", or the name of the GPU.
        samples_per_second: noise samples (images times samples) per second, of one GPU or of one CPU core.
        start_seconds: start-up of a job; None where it was not measured, and then not in the hours.
        torch: its version.
        origin: what was measured, and when.
    """

    classifier: Classifier
    device: str
    samples_per_second: float
    start_seconds: float | None
    torch: str
    origin: str


@dataclass(frozen=True)
class TrainingTime:
    """The log of a training that was run.

    Attributes:
        classifier: what was trained.
        settings: objective, policy, noise and batch size: see `training_settings`.
        device: "cpu" or "cuda": a checkpoint does not say which GPU.
        images: in an epoch.
        seconds: of each epoch.
        adaptive_from_epoch: of its recipe.
        torch: its version.
    """

    classifier: Classifier
    settings: str
    device: str
    images: int
    seconds: tuple[float, ...]
    adaptive_from_epoch: int
    torch: str


@dataclass(frozen=True)
class SamplingJobs:
    """The jobs that sample one part of a data set for one method: one for each run (sigma, seed, variant) and shard.

    Attributes:
        dataset: a key of ``datasets``.
        method: a key of ``methods``; methods that share its counts have no jobs of their own.
        part: test or validation.
        sigmas: how many noise levels.
        runs: how many runs.
        shards: jobs per run.
        samples: n0 + n.
        policy: the sigma policy's name.
        classifier: what is sampled; None where the data's size is unknown.
        images: of one run.
        group: images that no shards split.
    """

    dataset: str
    method: str
    part: runs.Part
    sigmas: int
    runs: int
    shards: int
    samples: int
    policy: str
    classifier: Classifier | None
    images: int
    group: int

    @property
    def jobs(self) -> int:
        """How many."""
        return self.runs * self.shards

    def images_by_shard(self) -> tuple[int, ...]:
        """Return the images of each shard: whole groups, as even as can be; 0 where there are fewer groups."""
        each, more = divmod(ceil(self.images / self.group), self.shards)
        ends = [0]
        for shard in range(self.shards):
            ends.append(ends[-1] + each + (shard < more))
        bounds = [min(self.images, end * self.group) for end in ends]
        return tuple(end - start for start, end in pairwise(bounds))

    def hours(self, speed: Throughput) -> tuple[float, ...]:
        """Return the hours of the job of each shard, of one run."""
        start = speed.start_seconds or 0.0
        return tuple(
            (start + images * self.samples / speed.samples_per_second) / 3600 for images in self.images_by_shard()
        )

    def shards_under(self, hours: float, speed: Throughput) -> int | None:
        """Return the smallest number of shards with which each job takes at most ``hours``; None if none does."""
        if replace(self, shards=1).hours(speed)[0] <= hours:
            return 1
        seconds = 3600 * hours - (speed.start_seconds or 0.0)
        groups = floor(
            seconds * speed.samples_per_second / (self.group * self.samples)
        )  # whole, in the longest of several
        return ceil(ceil(self.images / self.group) / groups) if groups >= 1 else None


@dataclass(frozen=True)
class TrainingJobs:
    """The jobs of one training on one data set that differ in sigma and seed alone.

    Attributes:
        dataset: a key of ``datasets``.
        training: a key of ``trainings``.
        variant: of its options.
        jobs: how many.
        phase: 0, or 1 for one that waits for another training.
        classifier: what is trained; None where the data's size is unknown.
        images: in an epoch.
        epochs: of the recipe.
        adaptive_from_epoch: of the recipe.
        settings: see `training_settings`.
    """

    dataset: str
    training: str
    variant: str
    jobs: int
    phase: int
    classifier: Classifier | None
    images: int
    epochs: int
    adaptive_from_epoch: int
    settings: str

    def hours(self, log: TrainingTime) -> float | None:
        """Return the hours of one job; None if the log is not about such a job, or not about all of its epochs."""
        if (log.classifier, log.settings) != (self.classifier, self.settings):
            return None
        before, after = log.seconds[: log.adaptive_from_epoch], log.seconds[log.adaptive_from_epoch :]
        needed = min(self.adaptive_from_epoch, self.epochs)
        if (needed and not before) or (self.epochs > needed and not after):
            return None
        total = sum(count * sum(s) / len(s) for count, s in ((needed, before), (self.epochs - needed, after)) if count)
        return total * self.images / log.images / 3600


def count_jobs(params: Params) -> dict[str, int]:
    """Return the number of jobs of each rule of the workflow when nothing is made yet, without rules that have none."""
    parts, models = runs.all_parts(params), runs.all_models(params)
    attacked = [(table, run) for table in params.of_kind(EmpiricalTable) for run in runs.table_runs(params, table)]
    audited = [(table, run) for table in params.of_kind(SoundnessTable) for run in runs.table_runs(params, table)]
    tables: dict[str, int] = Counter(table.kind for table in params.tables.values())
    jobs = {
        "data": len({run.dataset for run in models}),
        "train": len(models),
        "label": len({teacher for run in models if (teacher := runs.teacher_run(params, run))}),
        "sample": sum(shards for _, _, shards in sampled_parts(params)),
        "certify": len(parts),
        "attack": sum(len(params.of_kind(EmpiricalTable)[table].attacks) for table, _ in attacked),
        "order_cost": len(audited),
        "break_certificates": len(audited),
        **tables,
        "theory": 1,
        "toy": int(params.toy is not None),
        "high_dimension": int(params.high_dimension is not None),
    }
    return {rule: count for rule, count in jobs.items() if count}


def sampled_parts(params: Params) -> tuple[tuple[runs.CertificationRun, runs.Part, int], ...]:
    """Return every run that is sampled, with each part of the data and the number of shards, once."""
    found = (
        (runs.sampling_run(params, run), part, runs.certification(params, run).shards)
        for run, part in runs.all_parts(params)
    )
    return tuple(dict.fromkeys(found))


def sampling_jobs(params: Params, sizes: Mapping[str, DataSize], *, group: int) -> list[SamplingJobs]:
    """Return the jobs that sample, by data set, method, part and shards.

    Args:
        params: the configuration.
        sizes: of the data sets that are known.
        group: images that no shards split, `certsmooth.science.sampling.sampler.GROUP`.
    """
    alike: dict[tuple[str, str, runs.Part, int], list[runs.CertificationRun]] = defaultdict(list)
    for run, part, shards in sampled_parts(params):
        alike[run.dataset, run.method, part, shards].append(run)
    jobs = []
    for (dataset, method, part, shards), found in alike.items():
        chosen, size = runs.certification(params, found[0]), sizes.get(dataset)
        stride = chosen.stride if part == "test" else 1
        jobs.append(
            SamplingJobs(
                dataset=dataset,
                method=method,
                part=part,
                sigmas=len({run.sigma for run in found}),
                runs=len(found),
                shards=shards,
                samples=chosen.n0 + chosen.n,
                policy=params.methods[method].policy.name,
                classifier=classifier_of(params, dataset, size) if size else None,
                images=ceil(size.images[part] / stride) if size else 0,
                group=group,
            )
        )
    return jobs


def training_jobs(params: Params, sizes: Mapping[str, DataSize]) -> list[TrainingJobs]:
    """Return the jobs that train, by data set, training and variant."""
    alike: dict[tuple[str, str, runs.Variant], list[runs.ModelRun]] = defaultdict(list)
    for run in runs.all_models(params):
        alike[run.dataset, run.training, run.variant].append(run)
    jobs = []
    for (dataset, training, variant), found in alike.items():
        about, size = runs.train_slice(params, found[0]), sizes.get(dataset)
        recipe, teacher = about["recipe"], runs.teacher_run(params, found[0])
        parts = ("training", "unlabelled") if teacher else ("training",)
        is_known = size is not None and all(part in size.images for part in parts)
        jobs.append(
            TrainingJobs(
                dataset=dataset,
                training=training,
                variant=runs.variant_name(variant),
                jobs=len(found),
                phase=int(teacher is not None or runs.start_run(params, found[0]) is not None),
                classifier=classifier_of(params, dataset, size) if size is not None and is_known else None,
                images=sum(size.images[part] for part in parts) if size is not None and is_known else 0,
                epochs=recipe["epochs"],
                adaptive_from_epoch=recipe.get("adaptive_from_epoch", 0),
                settings=training_settings(about["training"], batch_size=recipe["batch_size"]),
            )
        )
    return jobs


def training_settings(described: Mapping[str, Any], *, batch_size: int) -> str:
    """Return what the time of an epoch depends on, besides classifier and images, as text that can be compared.

    Args:
        described: the training, as `runs.train_slice` or the header of a checkpoint gives it.
        batch_size: of the recipe.
    """
    content = {name: described[name] for name in ("objective", "policy", "noise")}
    return json.dumps({**content, "batch_size": batch_size}, sort_keys=True)


def classifier_of(params: Params, dataset: str, size: DataSize) -> Classifier:
    """Return the base classifier of a data set."""
    chosen = params.datasets[dataset]
    return Classifier(
        chosen.architecture, size.image_shape, size.num_classes, chosen.numeric_type, chosen.channels_last
    )


def makespan(phases: Iterable[Sequence[float]], devices: int) -> float:
    """Return how long jobs take on several devices: each phase after the one before, its longest jobs first.

    Args:
        phases: the hours of the jobs of each phase; the jobs of a phase do not wait for each other.
        devices: each runs one job at a time.
    """
    total = 0.0
    for jobs in phases:
        busy = [0.0] * devices
        for hours in sorted(jobs, reverse=True):
            heapq.heapreplace(busy, busy[0] + hours)
        total += max(busy)
    return total
