"""A plan as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certsmooth.experiment.plan import DataSize, SamplingJobs, Throughput, TrainingJobs, TrainingTime, makespan
from certsmooth.report.render import pipe_table

_ON_DEVICE = ("label", "attack", "break_certificates")
_ABSENT = "–"


@dataclass(frozen=True)
class Plan:
    """What is planned, and what it rests on.

    Attributes:
        jobs: by rule.
        sampling: jobs that sample.
        training: jobs that train.
        sizes: of the data sets that are known.
        missing: the records of data sets whose size is unknown.
        speeds: measured, at most one for a classifier and a device.
        logs: of trainings.
        devices: how many run jobs at a time.
        limit: hours that a job may take.
    """

    jobs: Mapping[str, int]
    sampling: Sequence[SamplingJobs]
    training: Sequence[TrainingJobs]
    sizes: Mapping[str, DataSize]
    missing: Sequence[str]
    speeds: Sequence[Throughput]
    logs: Sequence[TrainingTime]
    devices: int
    limit: float

    def speed(self, jobs: SamplingJobs, device: str) -> Throughput | None:
        """Return the throughput that these jobs have on a device, if it was measured."""
        return next((s for s in self.speeds if (s.classifier, s.device) == (jobs.classifier, device)), None)

    def training_hours(self, jobs: TrainingJobs, device: str) -> float | None:
        """Return the hours of one of these jobs on a device, a mean over the logs of such trainings; None for none."""
        found = [hours for log in self.logs if log.device == device and (hours := jobs.hours(log)) is not None]
        return sum(found) / len(found) if found else None


def render(plan: Plan) -> str:
    """Return a plan as Markdown."""
    devices = sorted({speed.device for speed in plan.speeds} | {log.device for log in plan.logs})
    used = [device for device in devices if _is_used(plan, device)]
    nothing = "Nothing that is planned here was measured: no hours are given. `certsmooth plan --measure` measures."
    sections = [
        "# Plan",
        _jobs(plan),
        _measurements(plan, used) if used else nothing,
        *(_device(plan, device) for device in used),
        _not_planned(plan, used),
    ]
    return "\n\n".join(sections) + "\n"


def _is_used(plan: Plan, device: str) -> bool:
    return any(plan.speed(jobs, device) for jobs in plan.sampling) or any(
        plan.training_hours(jobs, device) is not None for jobs in plan.training
    )


def _jobs(plan: Plan) -> str:
    body = [[rule, f"{count:,}"] for rule, count in (*plan.jobs.items(), ("total", sum(plan.jobs.values())))]
    text = "Everything that params.yaml asks for. `snakemake --dry-run` counts what is not made yet."
    return "\n\n".join(["## Jobs", text, pipe_table(["Rule", "Jobs"], body, text=1)])


def _measurements(plan: Plan, devices: Sequence[str]) -> str:
    known = {jobs.classifier for jobs in plan.sampling}
    body = [
        [str(s.classifier), s.device, s.torch, f"{s.samples_per_second:,.1f}", _seconds(s.start_seconds), s.origin]
        for s in plan.speeds
        if s.classifier in known and s.device in devices
    ]
    headings = ["Base classifier", "Device", "torch", "Samples / s", "Start / s", "Measured"]
    lines = [
        "A sample is a forward pass of one noisy image, with its noise and its count, on one GPU or one CPU core. "
        "A start is what a job costs beside: the import of torch and the first use of the device.",
        *[f"- {name}: {size.origin}" for name, size in plan.sizes.items()],
    ]
    parts = ["## What the hours rest on", pipe_table(headings, body, text=3)] if body else ["## What the hours rest on"]
    return "\n\n".join([*parts, lines[0], "\n".join(["Numbers of images:", "", *lines[1:]])])


def _seconds(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.1f}"


def _device(plan: Plan, device: str) -> str:
    unit = "core" if device == "cpu" else "GPU"
    named = {"cpu": "CPU, one core for a job", "cuda": "GPU (the logs of trainings do not say which)"}
    parts = [f"## {named.get(device, device)}"]
    if sampling := _sampling(plan, device, unit):
        parts.append(f"### Sampling\n\n{sampling}")
    if training := _training(plan, device, unit):
        parts.append(f"### Training\n\n{training}")
    return "\n\n".join([*parts, _totals(plan, device, unit)])


def _sampling(plan: Plan, device: str, unit: str) -> str:
    body = []
    for jobs in plan.sampling:
        if (speed := plan.speed(jobs, device)) is None or jobs.classifier is None:
            continue
        hours, fewest = jobs.hours(speed), jobs.shards_under(plan.limit, speed)
        counts = (jobs.sigmas, jobs.runs, jobs.images, jobs.samples, jobs.shards, jobs.jobs)
        body.append(
            [
                *(jobs.dataset, jobs.classifier.architecture, jobs.method, jobs.part),
                *(f"{count:,}" for count in counts),
                _hours(jobs.runs * sum(hours)),
                _hours(max(hours)),
                "none" if fewest is None else f"{fewest:,}",
            ]
        )
    headings = ["Data set", "Model", "Method", "Part", "Sigmas", "Runs", "Images", "n0 + n", "Shards", "Jobs"]
    headings += [f"{unit} hours", "Longest job / h", f"Shards for jobs of {plan.limit:g} h"]
    return pipe_table(headings, body, text=4) if body else ""


def _training(plan: Plan, device: str, unit: str) -> str:
    body = []
    for jobs in plan.training:
        if (hours := plan.training_hours(jobs, device)) is None or jobs.classifier is None:
            continue
        counts = (jobs.jobs, jobs.images, jobs.epochs)
        body.append(
            [
                *(jobs.dataset, jobs.classifier.architecture, jobs.training, jobs.variant),
                *(f"{count:,}" for count in counts),
                _hours(jobs.jobs * hours),
                _hours(hours),
            ]
        )
    headings = ["Data set", "Model", "Training", "Variant", "Jobs", "Images", "Epochs", f"{unit} hours", "One job / h"]
    return pipe_table(headings, body, text=4) if body else ""


def _totals(plan: Plan, device: str, unit: str) -> str:
    phases: list[list[float]] = [[], [], []]
    for trained in plan.training:
        if (hours := plan.training_hours(trained, device)) is not None:
            phases[trained.phase] += [hours] * trained.jobs
    for sampled in plan.sampling:
        if (speed := plan.speed(sampled, device)) is not None:
            phases[2] += [*sampled.hours(speed)] * sampled.runs
    training, sampling = (
        _hours(sum(hours)) if hours else "not planned" for hours in (phases[0] + phases[1], phases[2])
    )
    number = f"{plan.devices} {'core' if unit == 'core' else 'GPU'}{'s' if plan.devices > 1 else ''}"
    return "\n".join(
        [
            f"- {unit} hours: {_hours(sum(map(sum, phases)))} (training {training}, sampling {sampling}) "
            f"in {sum(map(len, phases)):,} jobs.",
            f"- Longest job: {_hours(max(hours for phase in phases for hours in phase))} hours.",
            f"- On {number}, with the shards as they are: {_hours(makespan(phases, plan.devices))} hours "
            "(each runs one job at a time; trainings, then trainings that build on others, then sampling).",
        ]
    )


def _not_planned(plan: Plan, devices: Sequence[str]) -> str:
    items = []
    if plan.missing:
        items.append(f"data of unknown size; make the records first: `snakemake --cores 1 {' '.join(plan.missing)}`")
    unmeasured: dict[str, int] = {}
    for sampled in plan.sampling:
        if sampled.classifier and not any(plan.speed(sampled, device) for device in devices):
            unmeasured[str(sampled.classifier)] = unmeasured.get(str(sampled.classifier), 0) + sampled.jobs
    items += [
        f"sample, {n:,} jobs: no throughput of {name}; `certsmooth plan --measure`" for name, n in unmeasured.items()
    ]
    untrained = [t for t in plan.training if all(plan.training_hours(t, device) is None for device in devices)]
    if untrained:
        names = ", ".join(dict.fromkeys(jobs.training for jobs in untrained))
        count = sum(jobs.jobs for jobs in untrained)
        items.append(f"train, {count:,} jobs: no log of such a training ({names}); one that was run gives the others")
    items += _policies(plan)
    started = {speed.device for speed in plan.speeds if speed.start_seconds is not None}
    items += [
        f"start-up of jobs on {device}; `certsmooth plan --measure`" for device in devices if device not in started
    ]
    device_rules = [f"{rule} ({plan.jobs[rule]:,})" for rule in _ON_DEVICE if rule in plan.jobs]
    if device_rules:
        items.append(f"on the device, not measured: {', '.join(device_rules)}")
    others = [rule for rule in plan.jobs if rule not in ("train", "sample", *_ON_DEVICE)]
    items.append(f"on a CPU core, not measured: {', '.join(f'{rule} ({plan.jobs[rule]:,})' for rule in others)}")
    return "\n".join(["## Not in these hours", "", *(f"- {item}" for item in items)])


def _policies(plan: Plan) -> list[str]:
    methods: dict[str, list[str]] = {}
    for jobs in plan.sampling:
        if jobs.policy != "fixed" and jobs.method not in methods.setdefault(jobs.policy, []):
            methods[jobs.policy].append(jobs.method)
    return [f"sigma(x) of policy {name}, before the samples of {', '.join(found)}" for name, found in methods.items()]


def _hours(hours: float) -> str:
    if hours >= 100:
        return f"{hours:,.0f}"
    return f"{hours:.1f}" if hours >= 10 else f"{hours:.3f}" if hours >= 0.01 else f"{hours:.2g}"
