"""What an experiment costs: its jobs, and the hours of those of a kind that Snakemake has run and measured.

The `benchmark:` file of a job lies below `BENCHMARKS` as its artefact below the results, and holds the spec of that.
Nothing is guessed: jobs of a kind that was not measured are named, and stay out of every sum.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from certsmooth._internal.checks import check_number
from certsmooth.artefacts.counts import read_counts
from certsmooth.artefacts.records import log_path, read_logs, read_record
from certsmooth.errors import CountsError
from certsmooth.experiment import specs
from certsmooth.experiment.build import build
from certsmooth.experiment.config import EmpiricalTable, SoundnessTable
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import picture_runs
from certsmooth.experiment.specs import Fold, MemberSpec
from certsmooth.report.plan_markdown import render
from certsmooth.science.certificates import Smoothing
from certsmooth.science.sampling.counts import GROUP, Counts, shard_of
from certsmooth.science.stopping import Looks, expected_samples

BENCHMARKS = Path("logs", "benchmarks")
_RECIPE = ("optimizer", "batch_size", "augmentation", "padding")
# What changes no time, and what is looked at by itself.
_APART = {"training", "sigma", "seed", "recipe", "objective", "start", "start_file", "labels", "teacher"}
_APART |= {"base", "fold", "n0", "every", "stride", "first", "last", "sampled", "alpha", "certified"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of the workflow.

    Attributes:
        rule: that runs it.
        output: the first file that it makes, below the folder of the results.
        parts: the identities of what it makes; none for what Snakemake does not measure.
        shard: which, of how many.
        phase: it waits for jobs of earlier phases alone.
    """

    rule: str
    output: Path
    parts: Sequence[Mapping[str, Any]] = ()
    shard: tuple[int, int] = (0, 1)
    phase: int = 4


def make_plan(
    experiment: Experiment, *, results: Path, benchmarks: Path, devices: int, limit: float, table: str | None = None
) -> str:
    """Return what the experiment, or one table of it, costs, as Markdown.

    Args:
        experiment: all that is asked for.
        results: the folder of the results: what lies there is made.
        benchmarks: the folder of Snakemake's benchmark files.
        devices: how many run jobs at a time.
        limit: hours that a job may take, for the advice on shards.
        table: a key of tables; None for all tables and figures.

    Raises:
        CertsmoothError: a benchmark file, log or record is damaged; the file is named.
    """
    measured = _Measured(experiment, results, benchmarks)
    rows = pd.DataFrame([measured.about(job, limit) for job in jobs(experiment, table)])
    clock = makespan((found["hours"].dropna() for _, found in rows.groupby("phase")), devices)
    return render(rows, devices=devices, limit=limit, clock=clock)


def jobs(experiment: Experiment, table: str | None = None) -> Iterator[Job]:
    """Yield every job of the workflow, or those that one table needs, as when nothing is made yet."""
    models = experiment.models(table)
    for path in dict.fromkeys(spec.data.path for spec in models):
        yield Job(rule="data", output=path)
    for spec in models:
        phase = 2 if spec.start or spec.labels or spec.routes else 0
        yield Job(rule="train", output=spec.path, parts=[spec.identity], phase=phase)
    for labels in {spec.labels.path: spec.labels for spec in models if spec.labels}.values():
        yield Job(rule="label", output=labels.path, parts=[labels.asked], phase=1)
    for routes in {spec.routes.path: spec.routes for spec in models if spec.routes}.values():
        yield Job(rule="route", output=routes.path, parts=[routes.identity], phase=1)
    for counts in experiment.all_counts(table):
        for shard, path in enumerate(specs.counts_paths(counts)):
            yield Job(rule="sample", output=path, parts=counts.identity, shard=(shard, counts.shards), phase=3)
    for certified in experiment.all_certificates(table):
        yield Job(rule="certify", output=specs.certificates_path(certified.name), parts=certified.identity)
    yield from _audits(experiment, table)
    reports: list[tuple[str, str]] = [(each.kind, f"{name}.md") for name, each in experiment.params.tables.items()]
    yield from (Job(rule=rule, output=Path("tables", name)) for rule, name in reports if table in (None, name[:-3]))
    yield from () if table else _figures(experiment)


def _audits(experiment: Experiment, table: str | None) -> Iterator[Job]:
    attacked_in, audited_in = experiment.params.of_kind(EmpiricalTable), experiment.params.of_kind(SoundnessTable)
    for name in (name for name in attacked_in if table in (None, name)):
        for row, attack in product(experiment.audited(name), attacked_in[name].attacks):
            attacked = experiment.attacks(name, attack, *row)
            path = specs.audit_path(name, attacked.name, f"{attack}.parquet")
            yield Job(rule="attack", output=path, parts=attacked.identity)
    for name in (name for name in audited_in if table in (None, name)):
        for row in experiment.audited(name):
            ordered, broken = experiment.orders(name, *row), experiment.breakings(name, *row)
            path = specs.audit_path(name, ordered.name, "order.json")
            yield Job(rule="order_cost", output=path, parts=ordered.identity)
            yield Job(rule="break_certificates", output=path.with_name("broken.parquet"), parts=broken.identity)


def _figures(experiment: Experiment) -> Iterator[Job]:
    params = experiment.params
    reports = [("theory", "idrs/table1.md")]
    reports += [("toy", "figures/idrs/figure1.svg")] if params.toy else []
    reports += [("pictures", "figures/ddrs/figure6.svg")] if picture_runs(params) else []
    reports += [("high_dimension", "idrs/imagenet.md")] if params.high_dimension else []
    yield from (Job(rule=rule, output=Path("tables", name)) for rule, name in reports)


class _Measured:
    """What Snakemake measured, and what follows from it for other jobs."""

    def __init__(self, experiment: Experiment, results: Path, benchmarks: Path) -> None:
        self._results = results
        self._images: dict[str, dict[str, int]] = {}  # of data, as JSON text, by part
        for data in {spec.data.key: spec.data for spec in experiment.models()}.values():
            if (path := results / data.path).is_file() and (record := read_record(path))["spec"] == data.identity:
                self._images[data.key] = {name: part["images"] for name, part in record["parts"].items()}
        self._jobs: dict[Path, tuple[float, Job]] = {}
        self._fewest: dict[Path, float] = {}  # shards, by the folder of the counts
        self._counted: list[tuple[Mapping[str, Any], Counts]] | None = None  # read where a rule stops samples
        self._means: dict[str, float | None] = {}
        self._kinds: dict[tuple[str, frozenset[str]], list[tuple[float, dict[str, float]]]] = defaultdict(list)
        for path in sorted(benchmarks.rglob("*.jsonl")):
            self._add(path, path.relative_to(benchmarks))

    def _add(self, path: Path, place: Path) -> None:
        try:
            found = json.loads(path.read_bytes())
            hours, spec = check_number("s", found["s"], above=0) / 3600, found["params"]["spec"]
            parts, about = spec if isinstance(spec, list) else [spec], found["wildcards"]
            shard = int(about.get("shard", 0)), int(about.get("shards", 1))
            amounts = self._amounts(job := Job(rule=found["rule_name"], output=place, parts=parts, shard=shard))
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            why = f"damaged, not extended, or of a job of another version ({error!r})"
            raise CountsError(f"{path}: {why}; delete it") from error
        self._jobs[place] = hours, job
        if amounts and _seconds_logged(self._results / place) <= 3600 * hours:  # else a killed job had done some of it
            self._kinds[job.rule, frozenset(amounts)].append((hours, amounts))

    def _mean_samples(self, sampled: Mapping[str, Any]) -> float | None:
        key = json.dumps(sampled, sort_keys=True)
        if key not in self._means:
            if self._counted is None:
                self._counted = _stored_counts(self._results)
            self._means[key] = _mean_samples(sampled, self._counted)
        return self._means[key]

    def about(self, job: Job, limit: float) -> dict[str, Any]:
        """Return what is said of a job: hours if it is left, and the fewest shards that take no more than a limit."""
        took, last = self._jobs.get(job.output.with_suffix(".jsonl"), (None, job))
        made = (list(job.parts), job.shard) == (list(last.parts), last.shard) and (self._results / job.output).is_file()
        hours, fewest, batch = None if made else self._hours(job), None, job.output.parent
        if job.rule == "sample" and hours is not None:
            fewest = self._fewest[batch] = self._fewest.get(batch) or self._find_fewest(job, limit)
        row = " ".join(job.output.parts[2:4] if batch.parts[:1] == ("audits",) else job.output.parts[1:3])
        about = {"rule": job.rule, "row": row if job.parts else "", "output": job.output, "phase": job.phase}
        about |= {"made": made, "took": took if made else None, "hours": hours}
        return about | {"shards": job.shard[1], "fewest": fewest}

    def _find_fewest(self, job: Job, limit: float) -> float:
        groups = ceil(max(max(images.values()) for images in self._images.values()) / GROUP)
        tried = [replace(job, shard=(0, shards)) for shards in range(1, groups + 1)]
        found = bisect_left(tried, True, key=lambda each: (self._hours(each) or 0) <= limit)
        return found + 1 if found < groups else inf

    def _hours(self, job: Job) -> float | None:
        """Return the hours of a job; None if no such job was measured."""
        amounts = self._amounts(job)
        if not amounts:
            return None if amounts is None else 0.0  # a shard without images
        hours = ratios = 0.0
        for each, found in self._kinds[job.rule, frozenset(amounts)]:
            sizes = [found[kind] / amounts[kind] for kind in amounts]
            if max(sizes) <= 1.01 * min(sizes):  # all of its work is as many times that of the job
                hours, ratios = hours + each, ratios + min(sizes)
        return hours / ratios if ratios else None

    def _amounts(self, job: Job) -> dict[str, float] | None:
        """Return how much work of each kind a job is, in any unit; None if that is unknown."""
        amounts: dict[str, float] = defaultdict(float)
        for part in job.parts:
            certified = part.get("certified", part)
            sampled = certified.get("sampled", certified)
            base = sampled.get("base") or sampled.get("teacher") or sampled
            images = self._images.get(json.dumps(base["data"], sort_keys=True))
            if images is None:
                return None
            whole = {**base, **sampled, "every": sampled.get("stride"), **certified, **part}
            if sampled.get("stop") is not None and job.rule == "sample":
                if (mean := self._mean_samples(sampled)) is None:
                    return None
                whole |= {"n": mean}
            kind = {key: value for key, value in whole.items() if key not in _APART | {"stop"}}
            if amount := _grows_with(job, kind, whole, images):
                amounts[json.dumps(kind, sort_keys=True)] += amount
        return amounts if job.parts else None


def _stored_counts(results: Path) -> list[tuple[Mapping[str, Any], Counts]]:
    """Return the counts that there are, with the spec of each."""
    found = [part for path in sorted(results.glob("counts/*/*/*/*.parquet")) for part in read_counts(path)]
    return [(part.identity["spec"], part.counts) for part in found if len(part.counts)]


def _mean_samples(sampled: Mapping[str, Any], counted: Iterable[tuple[Mapping[str, Any], Counts]]) -> float | None:
    """Return how many estimation samples an image takes on average where a rule stops them.

    They are those of counts of that spec; or what the rule would do if samples were as other counts of the same base
    classifier and sigma policy say on average. None if there are no such counts.
    """
    alike = [(spec, counts) for spec, counts in counted if all(spec[key] == sampled[key] for key in ("base", "policy"))]
    if not alike:
        return None
    if same := [counts for spec, counts in alike if spec == sampled]:
        return float(np.concatenate([counts.estimation.sum(axis=1) for counts in same]).mean())
    at_test = [each for each in alike if each[0]["split"] == sampled["split"]] or alike
    counts = max(at_test, key=lambda each: each[0]["n"])[1]
    stop = sampled["stop"]
    rule = build("stopping", MemberSpec(**stop["rule"]), key="certification.stop")
    certificate = build("certificates", MemberSpec(**stop["certificate"]), key="certificate")
    smoothing = Smoothing(counts.sigma, 1, 0.0, np.full(len(counts), inf))
    looks = Looks(rule, certificate, stop["alpha"], sampled["n"], smoothing, counts.label)
    return float(expected_samples(looks, counts.selection, counts.estimation).mean())


def _grows_with(job: Job, kind: dict[str, Any], whole: Mapping[str, Any], images: Mapping[str, int]) -> float:
    """Return what the time of a part of a job grows with, and complete the kind: what else the time depends on.

    Training grows with epochs, if these are all alike. Sampling grows with images times samples, but computing sigma(x)
    costs no more for more samples. A rule stops samples where it would if they came as their probabilities say. Attacks
    grow with the images. A memory grows faster: what is derived from counts is alike only for as many.
    """
    if job.rule in ("label", "route"):
        return 1.0
    if job.rule == "train" and whole["objective"] is None:  # given
        return 0.0
    is_fixed = whole["policy"]["name"] == "fixed"
    if job.rule == "train":
        recipe = _RECIPE if is_fixed else (*_RECIPE, "epochs", "adaptive_from_epoch")
        kind |= {key: whole["recipe"].get(key) for key in recipe}
        kind |= {"objective": whole["objective"], "labels": whole["labels"] is not None}
        return float(whole["recipe"]["epochs"]) if is_fixed else 1.0
    end = images[whole["split"]] if whole.get("last") is None else whole["last"] + 1
    count = len(range(whole.get("first", 0), end, whole["every"]))
    if (fold := whole.get("fold")) is not None:
        count = len(Fold(**fold).positions(end))
    if job.rule == "sample":
        samples = whole["n0"] + kind.pop("n")
        kind |= {"split": None, "samples": None if is_fixed else whole.get("stop") or samples}
        return float(len(shard_of(count, *job.shard)) * (samples if is_fixed else 1))
    if job.rule in ("attack", "break_certificates"):
        return float(ceil(count / whole["stride"]))
    kind["images"] = count
    return 1.0


def _seconds_logged(made: Path) -> float:
    """Return the seconds of work that the log beside an artefact holds, given its path without the suffix; else 0."""
    if made.stem == "model" and (training := made.with_name("training.csv")).is_file():
        try:
            return float(pd.read_csv(training)["seconds"].sum())
        except (KeyError, TypeError, ValueError) as error:
            raise CountsError(f"{training}: no log of a training ({error!r}); train again") from error
    if not log_path(made).is_file():
        return 0.0
    return sum(sum(log.seconds) for log in read_logs(made.with_suffix(".parquet")))


def makespan(phases: Iterable[Iterable[float]], devices: int) -> float:
    """Return the hours that jobs take on devices, each one job at a time: phase after phase, its longest jobs first."""
    busy = [0.0] * devices
    for hours in phases:
        busy = [max(busy)] * devices
        for each in sorted(hours, reverse=True):
            heapq.heapreplace(busy, busy[0] + each)
    return max(busy)
