"""An artefact in the place of another of its kind, intact as it is, is refused by every step that reads it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.audits import ORDER, Broken
from certsmooth.artefacts.certificates import CERTIFICATES, TYPES
from certsmooth.artefacts.counts import COUNTS
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.parts import Part, Types, read_parts, types_of, write_parts
from certsmooth.artefacts.records import log_path, read_logs, write_logs
from certsmooth.errors import CertsmoothError
from certsmooth.experiment import runs
from certsmooth.experiment.config import EmpiricalTable, SoundnessTable, parse_params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import ModelRun
from certsmooth.experiment.specs import (
    Batch,
    Spec,
    TrainSpec,
    audit_path,
    certificates_path,
    counts_paths,
)
from certsmooth.experiment.steps.attack import attack_batch
from certsmooth.experiment.steps.break_certificates import break_batch
from certsmooth.experiment.steps.certify import certify_batch
from certsmooth.experiment.steps.data import record_data
from certsmooth.experiment.steps.label import label_images
from certsmooth.experiment.steps.order_cost import cost_orders
from certsmooth.experiment.steps.sample import sample_shard
from certsmooth.experiment.steps.table import make_table
from certsmooth.experiment.steps.train import train_model
from certsmooth.science.sampling.counts import Counts
from factories import small_content

pytestmark = pytest.mark.slow

RESULTS = Path("results")
CPU = torch.device("cpu")
SEEDS = (0, 1)


def content() -> dict[str, Any]:
    """Two data sets, two of most other things, and as little work as possible."""
    whole = small_content()
    digits = whole["datasets"]["digits"] | {"unlabelled": None, "trainings": {}, "methods": {}}
    digits["recipe"] = {"epochs": 1, "batch_size": 256, "learning_rate": 0.01}
    digits["certification"] = {"n0": 5, "n": 20, "alpha": 0.05, "stride": 60, "shards": 1}
    gaussian, policy = whole["trainings"]["gaussian"], {"name": "fixed"}
    cohen = whole["methods"]["cohen"] | {"policy": policy}
    taught = gaussian | {"start": {"training": "standard"}, "teacher": "standard"}
    predict = {"n": 10, "alpha": 0.05}
    tables = whole["tables"]
    empirical, promises = (tables[name] | {"predict": predict} for name in ("empirical", "promises"))
    plain = {"kind": "certified", "title": "A table", "norm": None, "published": None, "settings": {}}
    half = {"settings": {"digits": {"dataset": "digits-half-labelled"}}, "methods": ["taught"], "baseline": "taught"}
    base = {"label": "Base", "attack": {"name": "pgd", "options": {"steps": 1}}, "samples": [0]}
    return whole | {
        "training_seeds": list(SEEDS),
        "datasets": {"digits": digits, "digits-half-labelled": digits | {"unlabelled": {"share": 0.5}}},
        "trainings": {
            "gaussian": gaussian,
            "standard": {"objective": {"name": "standard"}, "policy": policy},
            "taught": taught,
        },
        "methods": {
            "cohen": cohen,
            "standard": cohen | {"label": "Standard", "training": "standard"},
            "exact": cohen | {"label": "Exact", "certification": {"n": 30, "alpha": 0.01}},
            "remember": cohen | {"label": "Remember", "memory": "shuffled"},
            "taught": cohen | {"label": "Taught", "training": "taught"},
        },
        "tables": {
            "table1": plain
            | {"methods": ["cohen", "exact", "remember"], "baseline": "cohen"}
            | {"settings": {"digits": {"sigmas": [0.25, 0.5]}}},
            "table2": plain | {"methods": ["standard"], "baseline": "standard"},
            "table3": plain | half,
            # Seed 0 of `cohen` has a file of its own, as one more table needs it.
            "rates": tables["rates"] | {"training_seeds": [0], "datasets": ["digits"], "published": []},
            "attacks1": empirical | {"attacks": {"base": base, "smoothed": base | {"samples": [1]}}},
            "attacks2": empirical | {"methods": ["cohen", "standard"], "attacks": {"base": base}, "stride": 2},
            "audit1": promises | {"methods": ["cohen", "remember"], "shuffles": 1, "stride": 2},
            "audit2": promises | {"predict": predict | {"n": 12}, "shuffles": 2, "stride": 2},
        },
        "pictures": None,
        "high_dimension": None,
    }  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One call of a step.

    Attributes:
        verb: of the command line.
        run: makes it.
        makes: files.
        reads: files, and of each the identities of the parts that are read; empty where a file has none.
    """

    verb: str
    run: Callable[[], None]
    makes: tuple[Path, ...]
    reads: Mapping[Path, frozenset[str]]


def keys(specs: Iterable[Spec]) -> frozenset[str]:
    return frozenset(spec.key for spec in specs)


class Jobs:
    """All jobs of an experiment, in an order in which they can run."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.jobs: list[Job] = []
        for dataset in experiment.params.datasets:
            spec = experiment.data(dataset)
            self._add("data", partial(record_data, spec, results=RESULTS), [spec.path], {})
        for model in sorted(experiment.models(), key=lambda spec: spec.training == "taught"):
            self._train(model)
        for seed in SEEDS:
            # What the student itself would say: labels of another teacher.
            spec = experiment.labels(ModelRun("digits-half-labelled", "taught", 0.25, seed, ()))
            reads = dict.fromkeys((spec.teacher.data.path, spec.teacher.path), frozenset[str]())
            self._add("label", partial(label_images, spec, results=RESULTS, device=CPU), [spec.path], reads)
        for batch in experiment.all_counts():
            run = partial(sample_shard, batch, shard=0, shards=1, results=RESULTS, device=CPU)
            self._add("sample", run, counts_paths(batch), self._bases([part.base for part in batch.parts]))
        for batch in experiment.all_certificates():
            run = partial(certify_batch, batch, results=RESULTS)
            self._add("certify", run, [certificates_path(batch.name)], self._counted(batch))
        self._audits()
        self._tables()

    def _add(self, verb: str, run: Callable[[], None], makes: Any, reads: Mapping[Path, frozenset[str]]) -> None:
        self.jobs.append(Job(verb, run, tuple(makes), reads))

    def _train(self, spec: TrainSpec) -> None:
        reads = {spec.data.path: frozenset[str]()}
        if spec.start and spec.labels:
            reads |= dict.fromkeys((spec.start.path, spec.labels.path), frozenset())
            label = partial(label_images, spec.labels, results=RESULTS, device=CPU)
            self._add("label", label, [spec.labels.path], self._bases([spec.labels.teacher]))
        self._add("train", partial(train_model, spec, results=RESULTS, device=CPU), [spec.path], reads)

    def _bases(self, bases: list[TrainSpec]) -> dict[Path, frozenset[str]]:
        return {path: frozenset() for base in bases for path in (base.data.path, base.path)}

    def _counted(self, batch: Batch[Any]) -> dict[Path, frozenset[str]]:
        """What is read of counts and before them; parts are of certificates, or know theirs, or are of attacks."""
        certified = [getattr(part, "certified", part) for part in batch.parts]
        reads = self._bases([each.sampled.base for each in certified])
        for path in dict.fromkeys(path for each in certified for path in each.counts):
            reads[path] = keys(each.sampled for each in certified if path in each.counts)
        return reads

    def _audits(self) -> None:
        experiment, params = self.experiment, self.experiment.params
        attacked = params.of_kind(EmpiricalTable)
        for table, row in [(each, row) for each in attacked for row in experiment.audited(each)]:
            for name in attacked[table].attacks:
                batch = experiment.attacks(table, name, *row)
                run = partial(attack_batch, table, batch, results=RESULTS, device=CPU)
                made = audit_path(table, batch.name, f"{name}.parquet")
                self._add("attack", run, [made], self._counted(batch))
        for table, row in [(each, row) for each in params.of_kind(SoundnessTable) for row in experiment.audited(each)]:
            orders, breakings = experiment.orders(table, *row), experiment.breakings(table, *row)
            made, other = (audit_path(table, orders.name, name) for name in ("order.json", "broken.parquet"))
            self._add("order-cost", partial(cost_orders, table, orders, results=RESULTS), [made], self._counted(orders))
            run = partial(break_batch, table, breakings, results=RESULTS, device=CPU)
            self._add("break-certificates", run, [other], self._counted(breakings))

    def _tables(self) -> None:
        params = self.experiment.params
        for name, table in params.tables.items():
            reads = self._certified(name, "test", *(["validation"] if table.kind == "certified" else []))
            if table.kind == "certified":
                reads[self.experiment.data(runs.table_choice(params, name).dataset).path] = frozenset()
            run = partial(make_table, self.experiment, name, results=RESULTS)
            made = Path("tables", f"{name}.json")
            self._add(f"table, {table.kind}", run, [made], reads | self._audited(name))

    def _certified(self, table: str, *splits: Any) -> dict[Path, frozenset[str]]:
        reads: dict[Path, frozenset[str]] = {}
        for run in runs.table_runs(self.experiment.params, table):
            path = certificates_path(self.experiment.certificates(run).name)
            specs = [self.experiment.certify(run, split) for split in splits]
            reads[path] = reads.get(path, frozenset()) | keys(specs)
            reads[specs[0].sampled.base.path] = frozenset()
        return reads

    def _audited(self, table: str) -> dict[Path, frozenset[str]]:
        experiment, chosen = self.experiment, self.experiment.params.tables[table]
        batches: dict[Any, Batch[Any]] = {}
        if isinstance(chosen, EmpiricalTable):
            for row in experiment.audited(table):
                for name in chosen.attacks:
                    batches[f"{name}.parquet", row] = experiment.attacks(table, name, *row)
        if isinstance(chosen, SoundnessTable):
            for row in experiment.audited(table):
                batches["order.json", row] = experiment.orders(table, *row)
                batches["broken.parquet", row] = experiment.breakings(table, *row)
        return {audit_path(table, batch.name, file): keys(batch.parts) for (file, _), batch in batches.items()}

    def readers(self, path: Path, *, part: str | None = None) -> list[Job]:
        """One job of each step that reads a file, or the part of it with that identity."""
        reading = [job for job in self.jobs if path in job.reads and (part is None or part in job.reads[path])]
        return list({job.verb: job for job in reading}.values())

    def made_by(self, verb: str) -> list[Path]:
        return [path for job in self.jobs for path in job.makes if job.verb == verb]


@pytest.fixture(scope="module")
def jobs() -> Jobs:
    return Jobs(Experiment(parse_params(content())))


@pytest.fixture(scope="module")
def made(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every job ran once."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for job in jobs.jobs:
            job.run()
            assert all((RESULTS / path).is_file() for path in job.makes)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where tests run."""
    shutil.copytree(made, tmp_path / "made")
    monkeypatch.chdir(tmp_path / "made")
    return tmp_path / "made"


@contextmanager
def kept(*paths: Path) -> Iterator[None]:
    """Put back, at the end, what files and the logs beside them are now."""
    files = [RESULTS / each for path in paths for each in (path, log_path(path)) if (RESULTS / each).exists()]
    before = {file: file.read_bytes() for file in files}
    yield
    for file, content in before.items():
        file.write_bytes(content)


def put(source: Path, target: Path) -> None:
    """Copy a file, and the log that is its own, over another."""
    shutil.copy(RESULTS / source, RESULTS / target)
    if target.suffix == ".parquet" and (RESULTS / log_path(source)).exists():
        shutil.copy(RESULTS / log_path(source), RESULTS / log_path(target))


SAYS = re.compile(r"^(?P<file>\S+): .*?(?P<key>[a-z0-9_.]+) is (?P<found>.+?); must be (?P<right>.+?)[;,]")


def refused(job: Job, *paths: Path) -> str:
    """Run a job; it must name one of the files and an entry with both values, and leave what it made before."""
    before = {path: (RESULTS / path).read_bytes() for path in job.makes}
    with pytest.raises(CertsmoothError) as raised:
        job.run()
    said = SAYS.match(message := str(raised.value))
    assert said is not None, message
    assert said["found"] != said["right"]
    assert said["file"] in {str(RESULTS / path) for path in paths}, message
    assert {path: (RESULTS / path).read_bytes() for path in job.makes} == before
    return message


VERBS = {
    "data": 2,
    "label": 4,
    "train": 10,
    "sample": 5,
    "certify": 6,
    "attack": 4,
    "order-cost": 3,
    "break-certificates": 3,
}
"""Verbs, and how many artefacts each makes."""


@pytest.mark.parametrize("verb", VERBS)
def test_any_artefact_in_the_place_of_another_is_refused_by_every_step(verb: str, folder: Path, jobs: Jobs) -> None:
    artefacts = jobs.made_by(verb)
    assert len({(RESULTS / path).read_bytes() for path in artefacts}) == len(artefacts) == VERBS[verb]
    seen = set()
    for source, target in permutations(artefacts, 2):
        with kept(target):
            put(source, target)
            for job in jobs.readers(target):
                # Steps without torch know a checkpoint by its checksum, which counts, labels and certificates state.
                stating = job.reads if verb == "train" else ()
                message = refused(job, target, *stating)
                assert " spec." in message or (verb == "train" and re.search(r": (checkpoint|teacher) is ", message))
                seen.add(job.verb)
    assert seen == {job.verb for job in jobs.jobs if any(path in job.reads for path in artefacts)}


def of_parts(jobs: Jobs) -> dict[Path, tuple[Form, Types]]:
    """Return the files of several parts: their format, and the types of their columns."""
    forms = {"sample": (COUNTS, types_of(Counts)), "certify": (CERTIFICATES, TYPES)}
    for verb, table in (("attack", AttackCounts), ("break-certificates", Broken)):
        forms[verb] = table.form, types_of(table)
    return {path: form for verb, form in forms.items() for path in jobs.made_by(verb)}


def key_of(part: Part) -> str:
    return json.dumps(part.identity["spec"], sort_keys=True)


def test_no_part_of_a_file_stands_for_another(folder: Path, jobs: Jobs) -> None:
    """Test and validation, sigmas and training seeds lie in one file: each is asked for where all others are."""
    tried = 0
    for path, (form, types) in of_parts(jobs).items():
        parts = read_parts(RESULTS / path, form, types)
        has_log = (RESULTS / log_path(path)).exists()
        logs = read_logs(RESULTS / path) if has_log else []
        assert len(parts) > 1
        for place, absent in enumerate(parts):
            with kept(path):
                write_parts(RESULTS / path, form, parts[:place] + parts[place + 1 :])
                if has_log:
                    write_logs(RESULTS / path, logs[:place] + logs[place + 1 :])
                for job in jobs.readers(path, part=key_of(absent)):
                    assert " spec." in refused(job, path)
                    tried += 1
    assert tried > 50


def test_the_cost_of_an_order_in_the_place_of_another_of_its_file_is_refused(folder: Path, jobs: Jobs) -> None:
    for path in jobs.made_by("order-cost"):
        content = ORDER.read_json(RESULTS / path)
        assert len(content["parts"]) == len(SEEDS)
        with kept(path):
            ORDER.write_json(RESULTS / path, content | {"parts": content["parts"][:1] * 2})
            for job in jobs.readers(path):
                assert "base.seed is 0; must be 1" in refused(job, path)


@pytest.mark.parametrize("verb", ["sample", "attack", "break-certificates"])
def test_the_log_of_another_file_is_refused_by_every_step(verb: str, folder: Path, jobs: Jobs) -> None:
    for source, target in permutations(jobs.made_by(verb), 2):
        with kept(target):
            shutil.copy(RESULTS / log_path(source), RESULTS / log_path(target))
            for job in jobs.readers(target):
                refused(job, log_path(target))


def test_what_lies_in_the_place_of_counts_is_not_taken_for_them_when_they_are_sampled(folder: Path, jobs: Jobs) -> None:
    """Sampling keeps what it finds of its own; of a file of another run that is nothing."""
    samplings = [job for job in jobs.jobs if job.verb == "sample"]
    for job, other in zip(samplings, samplings[1:] + samplings[:1], strict=True):
        right = (RESULTS / job.makes[0]).read_bytes()
        put(other.makes[0], job.makes[0])
        job.run()
        assert (RESULTS / job.makes[0]).read_bytes() == right


# --- examples, with the whole message


def the(jobs: Jobs, verb: str, made: str) -> Job:
    (found,) = (job for job in jobs.jobs if job.verb == verb and str(job.makes[0]) == made)
    return found


def test_validation_certificates_are_not_those_of_the_test(folder: Path, jobs: Jobs) -> None:
    path = Path("certificates/digits/standard/seed=0+1.parquet")
    parts = read_parts(RESULTS / path, CERTIFICATES, TYPES)
    validation = [part for part in parts if part.identity["spec"]["sampled"]["split"] == "validation"]
    assert len(validation) == len(parts) / 2
    write_parts(RESULTS / path, CERTIFICATES, validation)
    messages = [refused(job, path) for job in jobs.readers(path)]
    assert len(messages) == 2  # tables of certified and of empirical accuracy
    for message in messages:
        assert message.startswith(f"results/{path}: spec.sampled.split is 'validation'; must be 'test'; ")


def test_certificates_of_another_training_seed(folder: Path, jobs: Jobs) -> None:
    other, path = (Path(f"certificates/digits/cohen/seed={seed}.parquet") for seed in (1, 0))
    put(other, path)
    messages = [refused(job, path) for job in jobs.readers(path)]
    assert len(messages) == 4  # every kind of table
    assert set(messages) == {f"results/{path}: spec.sampled.base.seed is 1; must be 0; certify again"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 21}, "spec.sampled.n is 20; must be 21"),
        ({"n0": 6}, "spec.sampled.n0 is 5; must be 6"),
        ({"alpha": 0.01}, "spec.alpha is 0.05; must be 0.01"),
        ({"stride": 59}, "spec.sampled.stride is 60; must be 59"),
    ],
)
def test_certificates_of_another_setting_than_that_of_params(
    change: dict[str, Any], words: str, folder: Path, jobs: Jobs
) -> None:
    whole = content()
    whole["datasets"]["digits"]["certification"] |= change
    changed = Jobs(Experiment(parse_params(whole)))
    path = Path("certificates/digits/cohen/seed=0.parquet")
    messages = [refused(job, path) for job in changed.readers(path)]
    assert len(messages) == 4
    assert set(messages) == {f"results/{path}: {words}; certify again"}


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("digits/standard/sigma=0.25/seed=0", "spec.training is 'standard'; must be 'gaussian'"),
        ("digits/gaussian/sigma=0.25/seed=1", "spec.seed is 1; must be 0"),
        ("digits/gaussian/sigma=0.5/seed=0", "spec.sigma is 0.5; must be 0.25"),
        (
            "digits-half-labelled/standard/sigma=0.25/seed=0",
            "spec.data.dataset is 'digits-half-labelled'; must be 'd",
        ),
    ],
)
def test_a_checkpoint_of_another_training_or_seed(place: str, words: str, folder: Path, jobs: Jobs) -> None:
    path = Path("checkpoints/digits/gaussian/sigma=0.25/seed=0/default/model.safetensors")
    put(Path("checkpoints", place, "default", "model.safetensors"), path)
    job = the(jobs, "sample", "counts/digits/cohen/seed=0/0-of-1.parquet")
    message = refused(job, path)
    assert message.startswith(f"results/{path}: {words}")
    assert message.endswith("; train again")


def test_the_record_of_the_same_data_without_half_of_their_labels(folder: Path, jobs: Jobs) -> None:
    put(Path("data/digits-half-labelled.json"), Path("data/digits.json"))
    job = the(jobs, "train", "checkpoints/digits/gaussian/sigma=0.25/seed=0/default/model.safetensors")
    assert refused(job, Path("data/digits.json")) == (
        "results/data/digits.json: spec.dataset is 'digits-half-labelled'; must be 'digits'; "
        "spec.unlabelled is 0.5; must be None; make it with `certsmooth data`"
    )


def test_pseudo_labels_of_another_teacher(folder: Path, jobs: Jobs) -> None:
    first, second = (
        Path(f"checkpoints/digits-half-labelled/standard/sigma=0.25/seed={seed}/default/pseudo_labels.json")
        for seed in SEEDS
    )
    put(second, first)
    job = the(jobs, "train", "checkpoints/digits-half-labelled/taught/sigma=0.25/seed=0/default/model.safetensors")
    assert refused(job, first).startswith(f"results/{first}: spec.teacher.seed is 1; must be 0; ")


def test_an_attack_of_another_table(folder: Path, jobs: Jobs) -> None:
    other, path = (Path(f"audits/attacks{n}/digits/cohen/seed=0+1/base.parquet") for n in (2, 1))
    put(other, path)
    (job,) = jobs.readers(path)
    assert refused(job, path) == f"results/{path}: spec.stride is 2; must be 1; make it again"
