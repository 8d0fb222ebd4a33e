"""params.yaml -> specs: every artefact that the experiment consists of, and which job makes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property, partial, wraps
from itertools import product
from typing import Any, TypeVar, TypeVarTuple

from certsmooth._internal.checks import check_choice
from certsmooth.errors import ConfigError
from certsmooth.experiment import runs
from certsmooth.experiment.config import EmpiricalTable, Params, SoundnessTable
from certsmooth.experiment.runs import CertificationRun, Demand, ModelRun
from certsmooth.experiment.specs import (
    AttackSpec,
    Batch,
    BreakSpec,
    CertifySpec,
    DataSpec,
    LabelSpec,
    MemberSpec,
    OrderSpec,
    RouterSpec,
    RoutesSpec,
    SampleSpec,
    Spec,
    Split,
    TrainSpec,
    counts_paths,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
S = TypeVar("S", bound=Spec)
Seeds = tuple[int, ...]
Pairs = tuple[tuple[CertificationRun, Split], ...]
Place = tuple[str, str, int]
"""Data set, method and training seed."""


def _kept(make: Callable[[Experiment, *Ts], T]) -> Callable[[Experiment, *Ts], T]:
    """Let an experiment keep what a method returned: the workflow's graph asks for the same things many times."""

    @wraps(make)
    def found(self: Experiment, *asked: *Ts) -> T:
        key = (make.__name__, *asked)
        if key not in self._found:
            self._found[key] = make(self, *asked)
        kept: T = self._found[key]
        return kept

    return found


class Experiment:
    """All that params.yaml asks for; what was asked once is kept."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self._found: dict[tuple[object, ...], Any] = {}

    @_kept
    def data(self, dataset: str) -> DataSpec:
        """Return what the data are."""
        chosen = self.params.datasets[dataset]
        return DataSpec(
            dataset=dataset,
            member=chosen.member or dataset,
            options=dict(chosen.options),
            validation=chosen.validation,
            unlabelled=chosen.unlabelled.share if chosen.unlabelled else None,
            seed=self.params.seed,
            source=chosen.source,
        )

    @_kept
    def train(self, run: ModelRun) -> TrainSpec:
        """Return what a base classifier is.

        Raises:
            ConfigError: it builds on a training with several grid points, or needs unlabelled images of data without,
                or an option has no value for its sigma.
        """
        if run.training in self.params.given_trainings:
            return self._given(run)
        chosen = self.params.datasets[run.dataset]
        training = runs.resolved_training(self.params, run.dataset, run.training)
        start, teacher = (find(self.params, run) for find in (runs.start_run, runs.teacher_run))
        return TrainSpec(
            data=self.data(run.dataset),
            training=run.training,
            sigma=run.sigma,
            seed=run.seed,
            architecture=chosen.architecture,
            normalisation=chosen.normalisation and dict(chosen.normalisation),
            numeric_type=chosen.numeric_type,
            channels_last=chosen.channels_last,
            recipe=dict(runs.recipe(self.params, run.dataset, run.training)),
            objective=runs.objective_of(self.params, run),
            policy=runs.training_policy_of(self.params, run),
            noise=training.noise,
            start=self.train(start) if start else None,
            start_file=training.start.checkpoint if training.start else None,
            labels=self.labels(teacher) if teacher else None,
            label_weight=runs.teacher_weight_of(self.params, run),
            grid=run.grid,
            denoiser=MemberSpec(training.denoiser.name, training.denoiser.options) if training.denoiser else None,
            fold=runs.fold_of(run),
            routes=self.routes(run.dataset, run.training, run.seed) if training.routes else None,
        )

    def _given(self, run: ModelRun) -> TrainSpec:
        chosen, training = self.params.datasets[run.dataset], self.params.given_trainings[run.training]
        return TrainSpec(
            data=self.data(run.dataset),
            training=run.training,
            sigma=run.sigma,
            seed=run.seed,
            architecture=training.architecture or chosen.architecture,
            normalisation=None,
            numeric_type=chosen.numeric_type,
            channels_last=chosen.channels_last,
            recipe={},
            objective=None,
            policy=None,
            noise=None,
            start=None,
            start_file=None,
            labels=None,
            label_weight=1.0,
            grid=run.grid,
            given=training.file(run.sigma, run.seed),
        )

    def labels(self, teacher: ModelRun) -> LabelSpec:
        """Return what the labels are that a base classifier gives the unlabelled images.

        Raises:
            ConfigError: the data have no such images.
        """
        unlabelled = self.params.datasets[teacher.dataset].unlabelled
        if unlabelled is None:
            raise ConfigError(f"datasets.{teacher.dataset}.unlabelled: null; must give a share or a source")
        return LabelSpec(teacher=self.train(teacher), source=unlabelled.source)

    def routes(self, dataset: str, training: str, seed: int) -> RoutesSpec:
        """Return what the labels of the training images are for the routers of a training.

        Raises:
            ConfigError: a training or policy of an expert has several grid points.
        """
        found = runs.routing_runs(self.params, dataset, training, seed)
        return RoutesSpec(
            data=self.data(dataset),
            training=training,
            seed=seed,
            experts=tuple(tuple(self.certify(each, "training") for each in folds) for folds in found),
        )

    @_kept
    def sample(self, run: CertificationRun, split: Split) -> SampleSpec:
        """Return what the counts of a run are."""
        chosen = self.params.certification(run.dataset, run.method)
        return SampleSpec(
            base=self.train(runs.model_run(self.params, run)),
            split=split,
            policy=runs.policy_of(self.params, run),
            noise=runs.noise_of(self.params.our_methods[run.method].certificate.name),
            step=self.params.datasets[run.dataset].step,
            n0=chosen.n0,
            n=chosen.n,
            stride=chosen.stride if split == "test" else 1,
            seed=run.certification_seed,
            first=chosen.first if split == "test" else 0,
            last=chosen.last if split == "test" else None,
            stop=runs.stop_of(self.params, run.dataset, run.method),
        )

    @_kept
    def certify(self, run: CertificationRun, split: Split) -> CertifySpec:
        """Return what the certificates of a run are."""
        method = self.params.our_methods[run.method]
        return CertifySpec(
            sampled=self.sample(run, split),
            certificate=MemberSpec(method.certificate.name, method.certificate.options),
            alpha=self.params.certification(run.dataset, run.method).alpha,
            memory=method.memory,
            seed=self.params.seed,
            grid=run.grid,
            counts=counts_paths(self.counts(run)),
            router=self._router(run, split),
        )

    def _router(self, run: CertificationRun, split: Split) -> RouterSpec | None:
        """Return what a router chooses between, if the method has experts."""
        if (chosen := self.params.our_methods[run.method].experts) is None:
            return None
        found = [self.certify(each, split) for each in runs.expert_runs(self.params, run)]
        alpha = self.params.certification(run.dataset, run.method).alpha
        return RouterSpec(
            experts=tuple(replace(each, alpha=alpha) for each in found),
            router_share=chosen.router_share,
            others_share=chosen.others_share,
        )

    def attack(self, table: str, attack: str, run: CertificationRun) -> AttackSpec:
        """Return what an attack of a table on a run is."""
        chosen = self.params.of_kind(EmpiricalTable)[table]
        member = chosen.attacks[attack].attack
        return AttackSpec(
            sampled=self.sample(run, "test"),
            name=attack,
            attack=MemberSpec(member.name, member.options),
            samples=chosen.attacks[attack].samples,
            radii=runs.table_choice(self.params, table).radii,
            n=chosen.predict.n,
            stride=chosen.stride,
            seed=self.params.seed,
            counts=counts_paths(self.counts(run)),
        )

    def order(self, table: str, run: CertificationRun) -> OrderSpec:
        """Return what the cost of a memory's order is, for a table."""
        return OrderSpec(
            certified=self.certify(run, "test"),
            radii=runs.table_choice(self.params, table).radii,
            shuffles=self.params.of_kind(SoundnessTable)[table].shuffles,
        )

    def breaking(self, table: str, run: CertificationRun) -> BreakSpec:
        """Return what the attack of a table on a run's certificates is."""
        chosen, certified = self.params.of_kind(SoundnessTable)[table], self.certify(run, "test")
        return BreakSpec(
            certified=certified,
            n=chosen.predict.n,
            stride=chosen.stride,
            seed=self.params.seed,
            router_alpha=chosen.predict.alpha * certified.router.router_share if certified.router else None,
        )

    @cached_property
    def demands(self) -> tuple[Demand, ...]:
        """What all tables and figures are made of."""
        return tuple(runs.demanded(self.params))

    @_kept
    def sampled_by(self, run: CertificationRun) -> CertificationRun:
        """Return the run whose counts a certification uses: that of the first method that samples alike.

        So a new certificate for a method costs no new samples.
        """
        first = self.params.our_methods[run.method]
        for name, method in self.params.our_methods.items():
            if name == run.method:
                break
            # Cheap questions first: a graph has thousands of them.
            if (method.training, method.policy.name) == (first.training, first.policy.name):
                other = replace(run, method=name)
                known = runs.grid_points(self.params, run.dataset, name)
                if run.grid in known and self.sample(other, "test").key == self.sample(run, "test").key:
                    return other
        return run

    @cached_property
    def _certified(self) -> _Needs:
        return _Needs(demand for demand in self.demands if demand.shown)

    @cached_property
    def _used(self) -> _Needs:
        return _Needs(self.demands)

    @cached_property
    def _sampled(self) -> _Needs:
        return _Needs(replace(demand, run=self.sampled_by(demand.run)) for demand in self.demands)

    @_kept
    def certificates(self, run: CertificationRun) -> Batch[CertifySpec]:
        """Return the file of the certificates of a run: it holds the runs of its method that the same targets need."""
        return self.certify_batch(run.dataset, run.method, self._certified.seeds_beside(run))

    @_kept
    def counts(self, run: CertificationRun) -> Batch[SampleSpec]:
        """Return the files of the counts of a run, likewise; those of a run that no target needs are its own."""
        if self._used.of(run.dataset, run.method, run.seed):
            run = self.sampled_by(run)
        return self.sample_batch(run.dataset, run.method, self._sampled.seeds_beside(run))

    @_kept
    def certify_batch(self, dataset: str, method: str, seeds: Seeds) -> Batch[CertifySpec]:
        """Return the certificates that one job makes.

        Of seeds that no target needs, all sigmas, grid points and splits are made, or those that another method needs
        the counts of.

        Raises:
            ConfigError: no such data set or method.
        """
        pairs = self._pairs(self._certified, dataset, method, seeds)
        return Batch(dataset=dataset, method=method, seeds=seeds, parts=tuple(self.certify(*pair) for pair in pairs))

    @_kept
    def sample_batch(self, dataset: str, method: str, seeds: Seeds) -> Batch[SampleSpec]:
        """Return the counts that the jobs of all shards make together; see `certify_batch`."""
        parts = tuple(self.sample(*pair) for pair in self._pairs(self._sampled, dataset, method, seeds))
        shards = self.params.certification(dataset, method).shards
        return Batch(dataset=dataset, method=method, seeds=seeds, parts=parts, shards=shards)

    def _pairs(self, needs: _Needs, dataset: str, method: str, seeds: Seeds) -> Pairs:
        """Return the runs and splits that targets need of a method; of other seeds, those that are sampled or all."""
        check_choice("datasets", dataset, self.params.datasets)
        check_choice("methods", method, self.params.our_methods)

        def of(seed: int) -> Pairs:
            place = dataset, method, seed
            return needs.of(*place) or self._sampled.of(*place) or self._every(*place)

        return tuple(pair for seed in seeds for pair in of(seed))

    def _every(self, dataset: str, method: str, seed: int) -> Pairs:
        points = runs.grid_points(self.params, dataset, method)
        return tuple(
            (CertificationRun(dataset, method, sigma, seed, point, self.params.seed), split)
            for sigma, point, split in product(
                self.params.datasets[dataset].sigmas, points, runs.splits_of(self.params, method)
            )
        )

    def demands_of(self, target: str | None) -> tuple[Demand, ...]:
        """Return what a table or figure is made of; None for all."""
        return self.demands if target is None else tuple(each for each in self.demands if each.target == target)

    def all_certificates(self, target: str | None = None) -> tuple[Batch[CertifySpec], ...]:
        """Return all files of certificates that a target needs; None for all targets."""
        return _distinct(self.certificates(demand.run) for demand in self.demands_of(target) if demand.shown)

    def all_counts(self, target: str | None = None) -> tuple[Batch[SampleSpec], ...]:
        """Return all files of counts that a target needs, with what is in its files of certificates."""
        return _distinct(self.counts(demand.run) for demand in self.demands_of(target))

    @_kept
    def audited(self, table: str) -> dict[tuple[str, str], tuple[CertificationRun, ...]]:
        """Return the runs of a table by data set and method: one job each audits or attacks them."""
        found: dict[tuple[str, str], list[CertificationRun]] = defaultdict(list)
        for run in runs.table_runs(self.params, table):
            found[run.dataset, run.method].append(run)
        return {key: tuple(each) for key, each in found.items()}

    @_kept
    def orders(self, table: str, dataset: str, method: str) -> Batch[OrderSpec]:
        """Return what memories cost the runs of a method, for a table."""
        return self._of_table(table, dataset, method, partial(self.order, table))

    @_kept
    def breakings(self, table: str, dataset: str, method: str) -> Batch[BreakSpec]:
        """Return the attacks of a table on the certificates of a method."""
        return self._of_table(table, dataset, method, partial(self.breaking, table))

    @_kept
    def attacks(self, table: str, attack: str, dataset: str, method: str) -> Batch[AttackSpec]:
        """Return one attack of a table on the runs of a method."""
        return self._of_table(table, dataset, method, partial(self.attack, table, attack))

    def _of_table(self, table: str, dataset: str, method: str, spec: Callable[[CertificationRun], S]) -> Batch[S]:
        chosen = self.audited(table).get((dataset, method))
        if chosen is None:
            raise ConfigError(f"{table}: has no row {method!r} on {dataset!r}")
        seeds = tuple(dict.fromkeys(run.seed for run in chosen))
        return Batch(dataset=dataset, method=method, seeds=seeds, parts=tuple(spec(run) for run in chosen))

    def models(self, target: str | None = None) -> tuple[TrainSpec, ...]:
        """Return every base classifier, and those that they start from or learn from, once each.

        Args:
            target: a table or figure: those alone that its files of counts and certificates need; None for all.
        """
        if target is None:
            return tuple(self.train(run) for run in runs.all_models(self.params))
        last = [spec.base for batch in self.all_counts(target) for spec in batch.parts]
        earlier = [spec.start for spec in last] + [spec.labels.teacher for spec in last if spec.labels]
        return tuple({spec.key: spec for spec in [*filter(None, earlier), *last]}.values())


def _distinct(batches: Iterable[Batch[S]]) -> tuple[Batch[S], ...]:
    return tuple({batch.name: batch for batch in batches}.values())


class _Needs:
    """Which runs, and which splits of them, targets need."""

    def __init__(self, demands: Iterable[Demand]) -> None:
        self._targets: dict[Place, set[str]] = defaultdict(set)
        self._pairs: dict[Place, dict[tuple[CertificationRun, Split], None]] = defaultdict(dict)
        for demand in demands:
            place = demand.run.dataset, demand.run.method, demand.run.seed
            self._targets[place].add(demand.target)
            self._pairs[place][demand.run, demand.split] = None

    def seeds_beside(self, run: CertificationRun) -> Seeds:
        """Return the seeds that the same targets need of the run's method: one job makes them."""
        wanted = self._targets.get((run.dataset, run.method, run.seed))
        if wanted is None:
            return (run.seed,)
        beside = (place for place, targets in self._targets.items() if targets == wanted)
        return tuple(sorted(seed for *place, seed in beside if place == [run.dataset, run.method]))

    def of(self, dataset: str, method: str, seed: int) -> Pairs:
        """Return the runs and splits that are needed of a method, in the order in which they were first asked for."""
        return tuple(self._pairs.get((dataset, method, seed), ()))
