"""What params.yaml asks for, as runs: which base classifiers, certified by which methods, for which tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import prod
from typing import Any, cast

from certsmooth._internal.registry import literal
from certsmooth.errors import ConfigError, nearest
from certsmooth.experiment.config import (
    AccuracyTable,
    CertifiedTable,
    Member,
    MemberOptions,
    Options,
    Params,
    Routes,
    TableSettings,
    Training,
    rows_of,
)
from certsmooth.experiment.labels import labels_of
from certsmooth.experiment.specs import SPLITS, Fold, GridPoint, MemberSpec, Split, StopSpec, grid_name

_MOST_GRID_POINTS = 10_000
FOLD = "fold"
"""The name of the option, in grid points, that says which fold a base classifier is not trained on."""


@dataclass(frozen=True)
class ModelRun:
    """One base classifier: a training at one sigma with one seed on one data set."""

    dataset: str
    training: str
    sigma: float
    seed: int
    grid: GridPoint


@dataclass(frozen=True)
class CertificationRun:
    """One certification of one base classifier.

    Attributes:
        seed: of the training.
        grid: the point of the training and of the policy.
        certification_seed: of the noise that certifies; the experiment's, but for tables that list some.
    """

    dataset: str
    method: str
    sigma: float
    seed: int
    grid: GridPoint
    certification_seed: int


@dataclass(frozen=True)
class PublishedRun:
    """One file of certificates that others made, in a table about one data set."""

    dataset: str
    method: str
    sigma: float
    file: str


@dataclass(frozen=True)
class Demand:
    """One run that something is made of.

    Attributes:
        target: what: the name of a table or figure.
        run: the certification.
        split: of the data.
        shown: whether its certificates are; or its counts alone are used, as those of what a router chooses between.
    """

    target: str
    run: CertificationRun
    split: Split
    shown: bool = True


def resolved_training(params: Params, dataset: str, name: str) -> Training:
    """Return a training that is run here, with what differs on a data set."""
    chosen, changes = params.our_trainings[name], params.datasets[dataset].trainings.get(name)
    if changes is None:
        return chosen
    objective, policy = _changed(chosen.objective, changes.objective), _changed(chosen.policy, changes.policy)
    weight = chosen.teacher_weight if changes.teacher_weight is None else changes.teacher_weight
    start = changes.start or chosen.start
    return replace(chosen, objective=objective, policy=policy, start=start, teacher_weight=weight)


def recipe(params: Params, dataset: str, training: str) -> Options:
    """Return the recipe of a training on a data set."""
    entry = params.datasets[dataset]
    changes = entry.trainings.get(training)
    return {**entry.recipe, **changes.recipe} if changes else entry.recipe


def resolved_policy(params: Params, dataset: str, method: str) -> Member:
    """Return the sigma policy of a method with what differs on a data set."""
    chosen, changes = params.our_methods[method].policy, params.datasets[dataset].methods.get(method)
    return chosen if changes is None else _changed(chosen, changes.policy)


def _changed(chosen: Member, changes: MemberOptions) -> Member:
    return replace(chosen, options={**chosen.options, **changes})


def training_grid_points(params: Params, dataset: str, name: str) -> tuple[GridPoint, ...]:
    """Return every combination of the values of a training's options, and of its teacher's weight, that are lists.

    Raises:
        ConfigError: objective and policy share the name of such an option.
    """
    return _product(f"trainings.{name}", *_training_options(params, dataset, name))


def grid_points(params: Params, dataset: str, name: str) -> tuple[GridPoint, ...]:
    """Return every combination of the values of the options that are lists: of a method's policy and of its training.

    Raises:
        ConfigError: training and policy share the name of such an option.
    """
    policy, chosen = resolved_policy(params, dataset, name), params.our_methods[name]
    training = _training_options(params, dataset, chosen.training)
    return _product(f"methods.{name}", *training, policy.options, _folds(chosen.folds))


def model_grid_points(params: Params, dataset: str, training: str) -> tuple[GridPoint, ...]:
    """Return every grid point of a training, and those of the folds that a method leaves out.

    Raises:
        ConfigError: as `training_grid_points`.
    """
    numbers = {method.folds for method in params.our_methods.values() if method.training == training}
    options = _training_options(params, dataset, training)
    each = (_product(f"trainings.{training}", *options, _folds(folds)) for folds in (None, *filter(None, numbers)))
    return tuple(point for points in each for point in points)


def _folds(folds: int | None) -> MemberOptions:
    """Return the option that a fold is, as a list of all."""
    return {FOLD: tuple(str(Fold(number, folds)) for number in range(folds))} if folds else {}


def fold_of(run: ModelRun) -> Fold | None:
    """Return the fold that a base classifier is not trained on; None for none."""
    name = dict(run.grid).get(FOLD)
    return Fold.named(str(name)) if name else None


def _training_options(params: Params, dataset: str, name: str) -> tuple[MemberOptions, ...]:
    if name in params.given_trainings:
        return ()
    chosen = resolved_training(params, dataset, name)
    return chosen.objective.options, chosen.policy.options, {"teacher_weight": chosen.teacher_weight}


def _product(key: str, *options: MemberOptions) -> tuple[GridPoint, ...]:
    lists = [(name, value) for each in options for name, value in each.items() if isinstance(value, tuple)]
    for name, value in lists:
        if not value or len(set(value)) != len(value):
            raise ConfigError(f"{key}: option {name!r} is {list(value)}; must be one or more different values")
    if repeated := [name for name, count in Counter(name for name, _ in lists).items() if count > 1]:
        raise ConfigError(
            f"{key}: option {repeated[0]!r} is a list twice (objective, training, policy); once is allowed"
        )
    if (number := prod(len(value) for _, value in lists)) > _MOST_GRID_POINTS:
        raise ConfigError(f"{key}: {number} combinations of the options that are lists; at most {_MOST_GRID_POINTS}")
    values = product(*(value for _, value in lists))
    return tuple(tuple(zip((name for name, _ in lists), each, strict=True)) for each in values)


def only_grid_point(known: Sequence[GridPoint], name: str, dataset: str, *, key: str) -> GridPoint:
    """Return the grid point of a training or method that must have one on a data set.

    Raises:
        ConfigError: it has several; the message starts with ``key``.
    """
    if len(known) > 1:
        raise ConfigError(f"{key}: {name!r} has {len(known)} grid points on {dataset}; must have one")
    return known[0]


def find_grid_point(known: Iterable[GridPoint], name: str, *, key: str) -> GridPoint:
    """Return the grid point of that name.

    Raises:
        ConfigError: there is no such grid point.
    """
    by_name = {grid_name(grid): grid for grid in known}
    if name not in by_name:
        raise ConfigError(f"{key}: unknown grid point {name!r}; {nearest(name, by_name)}")
    return by_name[name]


def training_key(params: Params, dataset: str, name: str) -> str:
    """Return where params.yaml says last what a training is on a data set."""
    changed = name in params.datasets[dataset].trainings
    return f"datasets.{dataset}.trainings.{name}" if changed else f"trainings.{name}"


def policy_key(params: Params, dataset: str, method: str) -> str:
    """Return where params.yaml says last what the sigma policy of a method is on a data set."""
    changed = method in params.datasets[dataset].methods
    return f"datasets.{dataset}.methods.{method}.policy" if changed else f"methods.{method}.policy"


def objective_of(params: Params, run: ModelRun) -> MemberSpec:
    """Return the objective that a base classifier is trained by.

    Raises:
        ConfigError: an option has no value for its sigma.
    """
    chosen = resolved_training(params, run.dataset, run.training).objective
    return _at(chosen, run, f"{training_key(params, run.dataset, run.training)}.objective")


def training_policy_of(params: Params, run: ModelRun) -> MemberSpec:
    """Return the sigma policy of the noise that a base classifier is trained with.

    Raises:
        ConfigError: an option has no value for its sigma.
    """
    chosen = resolved_training(params, run.dataset, run.training).policy
    return _at(chosen, run, f"{training_key(params, run.dataset, run.training)}.policy")


def policy_of(params: Params, run: CertificationRun) -> MemberSpec:
    """Return the sigma policy of a certification.

    Raises:
        ConfigError: an option has no value for its sigma.
    """
    chosen = resolved_policy(params, run.dataset, run.method)
    return _at(chosen, run, policy_key(params, run.dataset, run.method))


def teacher_weight_of(params: Params, run: ModelRun) -> float:
    """Return the weight in the loss, in a training, of the images that its teacher labels."""
    chosen = resolved_training(params, run.dataset, run.training).teacher_weight
    return cast(float, dict(run.grid)["teacher_weight"]) if isinstance(chosen, tuple) else chosen


def _at(chosen: Member, run: ModelRun | CertificationRun, key: str) -> MemberSpec:
    """Return a member whose options have the values of a run: of its grid point, and of its sigma."""
    values, options = dict(run.grid), dict(chosen.options)
    for name, value in options.items():
        if isinstance(value, tuple):
            options[name] = values[name]
        elif isinstance(value, Mapping):
            if run.sigma not in value:
                raise ConfigError(f"{key}.options.{name}: {dict(value)}; must have an entry for sigma {run.sigma}")
            options[name] = value[run.sigma]
    return MemberSpec(chosen.name, options)


@dataclass(frozen=True)
class TableChoice:
    """What a table is about."""

    dataset: str
    sigmas: tuple[float, ...]
    radii: tuple[float, ...]


def table_choice(params: Params, table: str) -> TableChoice:
    """Return data set, noise levels and radii of a table about one data set: that of params.yaml, or another."""
    (choice,) = table_choices(params, table)
    return choice


def table_choices(params: Params, table: str) -> tuple[TableChoice, ...]:
    """Return data sets, noise levels and radii of any table; one of accuracy may be about several data sets."""
    chosen = params.tables[table]
    settings = chosen.settings.get(params.dataset, TableSettings())
    datasets: tuple[str, ...] = (settings.dataset or params.dataset,)
    if isinstance(chosen, AccuracyTable):
        datasets = chosen.datasets or datasets
    entries = {dataset: params.datasets[dataset] for dataset in datasets}
    return tuple(
        TableChoice(dataset, settings.sigmas or entry.sigmas, settings.radii or entry.radii)
        for dataset, entry in entries.items()
    )


def table_radii(params: Params, dataset: str, method: str) -> tuple[float, ...]:
    """Return the radii at which tables show a method on a data set, in its certificate's norm; or the data set's."""
    found: set[float] = set()
    for name, table in params.tables.items():
        is_linf = isinstance(table, CertifiedTable) and table.norm == "linf"
        if method in rows_of(table, params.dataset) and not is_linf:
            found.update(*(about.radii for about in table_choices(params, name) if about.dataset == dataset))
    return tuple(sorted(found)) or params.datasets[dataset].radii


def stop_of(params: Params, dataset: str, method: str) -> StopSpec | None:
    """Return when an image of a method needs no more samples; None if never before the last."""
    chosen, certificate = params.certification(dataset, method), params.our_methods[method].certificate
    if chosen.stop is None or (chosen.stop.name == "fixed" and not chosen.stop.options.get("only_correct")):
        return None
    options = dict(chosen.stop.options)
    if chosen.stop.name == "radii":
        options.setdefault("radii", table_radii(params, dataset, method))
    rule = MemberSpec(chosen.stop.name, options)
    return StopSpec(rule, MemberSpec(certificate.name, certificate.options), chosen.alpha)


def has_no_choice(params: Params, dataset: str, method: str) -> bool:
    """Return whether a method is a router's that would choose between fewer than two experts: tables leave it out."""
    experts, routes = params.our_methods[method].experts, params.routes_of(params.our_methods[method].training)
    return experts is not None and routes is not None and len(_routed(params, dataset, experts.methods, routes)) < 2


def table_runs(params: Params, table: str) -> Iterator[CertificationRun]:
    """Yield the certifications that a table is made of; see `table_choices`, and `published_runs` for other rows."""
    chosen = params.tables[table]
    own = chosen if isinstance(chosen, AccuracyTable) else None
    seeds = (own.training_seeds if own else None) or params.training_seeds
    certification_seeds = (own.certification_seeds if own else None) or (params.seed,)
    ours = [method for method in rows_of(chosen, params.dataset) if method in params.our_methods]
    for about, method in product(table_choices(params, table), ours):
        if has_no_choice(params, about.dataset, method):
            continue
        known = grid_points(params, about.dataset, method)
        for sigma, seed, grid, certification_seed in product(about.sigmas, seeds, known, certification_seeds):
            yield CertificationRun(about.dataset, method, sigma, seed, grid, certification_seed)


def table_record(params: Params, table: str) -> str | None:
    """Return the data set whose record a table of certified accuracy needs; None for none.

    Without rows of ours nothing needs the images: files of others say what they are about.
    """
    chosen, about = params.tables[table], table_choice(params, table)
    is_ours = any(method in params.our_methods for method in rows_of(chosen, params.dataset))
    needs_shape = isinstance(chosen, CertifiedTable) and chosen.norm == "linf"
    return about.dataset if is_ours or needs_shape else None


def published_runs(params: Params, table: str) -> tuple[PublishedRun, ...]:
    """Return the files that others made and that a table shows: at its noise levels, of the data that it is about.

    Raises:
        ConfigError: a row has none, because its files are about other data or other noise levels.
    """
    choices = table_choices(params, table)
    members = {about.dataset: params.datasets[about.dataset].member or about.dataset for about in choices}
    found: list[PublishedRun] = []
    for name in rows_of(params.tables[table], params.dataset):
        if (method := params.published_methods.get(name)) is None:
            continue
        key, about_it = f"tables.{table}.methods", [c for c in choices if members[c.dataset] == method.dataset]
        if not about_it:
            data = ", ".join(dict.fromkeys(members.values()))
            raise ConfigError(
                f"{key}: {name!r} ({method.certificates}) is about {method.dataset}; must be about {data}"
            )
        files = [
            PublishedRun(about.dataset, name, sigma, file)
            for about in about_it
            for sigma, file in method.files.items()
            if sigma in about.sigmas
        ]
        if not files:
            known = sorted({sigma for about in about_it for sigma in about.sigmas})
            raise ConfigError(
                f"{key}: {name!r} ({method.certificates}) has sigma {list(method.files)}; must be of {known}"
            )
        found += files
    return tuple(found)


def toy_runs(params: Params) -> tuple[tuple[CertificationRun, ...], tuple[CertificationRun, ...]]:
    """Return the certifications that the toy figures show: those with a constant sigma, and that with sigma(x).

    Raises:
        ConfigError: a method has several grid points.
    """
    toy = params.toy
    if toy is None:
        return (), ()
    seed = params.training_seeds[0]

    def run(key: str, method: str, sigma: float) -> CertificationRun:
        grid = only_grid_point(grid_points(params, toy.dataset, method), method, toy.dataset, key=key)
        return CertificationRun(toy.dataset, method, sigma, seed, grid, params.seed)

    constant = tuple(run("toy.constant", toy.constant, sigma) for sigma in params.datasets[toy.dataset].sigmas)
    return constant, (run("toy.input_dependent", toy.input_dependent, toy.sigma),)


def picture_runs(params: Params) -> tuple[CertificationRun, ...]:
    """Return the certifications whose sigma(x) `Pictures` shows: one per sigma of the data set, if it is one of its."""
    chosen = params.pictures
    if chosen is None or params.dataset not in chosen.datasets:
        return ()
    grid = grid_points(params, params.dataset, chosen.method)[-1]
    return tuple(
        CertificationRun(params.dataset, chosen.method, sigma, params.training_seeds[0], grid, params.seed)
        for sigma in params.datasets[params.dataset].sigmas
    )


def high_dimension_runs(params: Params) -> tuple[CertificationRun, ...]:
    """Return the certifications that `HighDimension` starts from: those of its method, with the first training seed."""
    chosen = params.high_dimension
    if chosen is None or chosen.method is None:
        return ()
    known, seed = grid_points(params, params.dataset, chosen.method), params.training_seeds[0]
    return tuple(
        CertificationRun(params.dataset, chosen.method, sigma, seed, grid, params.seed)
        for sigma, grid in product(params.datasets[params.dataset].sigmas, known)
    )


def high_dimension_files(params: Params) -> tuple[tuple[str, float, str], ...]:
    """Return method, sigma and file of the certificates of others that `HighDimension` starts from."""
    names = params.high_dimension.published if params.high_dimension else ()
    return tuple((name, *each) for name in names for each in params.published_methods[name].files.items())


def model_run(params: Params, run: CertificationRun) -> ModelRun:
    """Return the base classifier that a certification is about."""
    name = params.our_methods[run.method].training
    lists = {key for grid in training_grid_points(params, run.dataset, name) for key, _ in grid}
    grid = tuple((key, value) for key, value in run.grid if key in {*lists, FOLD})
    return ModelRun(run.dataset, name, run.sigma, run.seed, grid)


def expert_runs(params: Params, run: CertificationRun) -> tuple[CertificationRun, ...]:
    """Return the certifications that a router chooses between, in the order of its classes; none without experts.

    Raises:
        ConfigError: an expert has several grid points.
    """
    method = params.our_methods[run.method]
    routes = params.routes_of(method.training)
    if routes is None or method.experts is None:
        return ()
    key, found = f"methods.{run.method}.experts", []
    for expert, sigma in _routed(params, run.dataset, method.experts.methods, routes):
        grid = only_grid_point(grid_points(params, run.dataset, expert), expert, run.dataset, key=key)
        found.append(replace(run, method=expert, sigma=sigma, grid=grid))
    return tuple(found)


def routing_runs(params: Params, dataset: str, training: str, seed: int) -> tuple[tuple[CertificationRun, ...], ...]:
    """Return the certifications of the training images that label them for a router: by expert, one a fold.

    They are the same at all sigmas and grid points of the router's training. There are none for a training that is no
    router's.

    Raises:
        ConfigError: a training or policy has several grid points.
    """
    if (routes := params.routes_of(training)) is None:
        return ()
    found = []
    for name, sigma in _routed(params, dataset, routes.methods, routes):
        points, folds = grid_points(params, dataset, name), params.our_methods[name].folds
        if len(points) != folds:
            key = f"trainings.{training}.routes"
            raise ConfigError(f"{key}: {name!r} has {len(points)} grid points on {dataset}; must have one a fold")
        found.append(tuple(CertificationRun(dataset, name, sigma, seed, point, params.seed) for point in points))
    return tuple(found)


def _routed(params: Params, dataset: str, methods: Sequence[str], routes: Routes) -> list[tuple[str, float]]:
    """Return method and sigma of each expert, in the order of the router's classes."""
    return list(product(methods, routes.sigmas or params.datasets[dataset].sigmas))


def splits_of(params: Params, method: str) -> tuple[Split, ...]:
    """Return which images a method certifies."""
    return ("training",) if params.our_methods[method].folds else SPLITS


def demanded(params: Params) -> Iterator[Demand]:
    """Yield what every table and figure is made of, with what routers choose between and are trained on."""
    found: dict[Demand, None] = {}
    for demand in _shown(params):
        found[demand] = None
        used = replace(demand, shown=False)
        found |= dict.fromkeys(replace(used, run=run) for run in expert_runs(params, demand.run))
        run = demand.run
        labelling = routing_runs(params, run.dataset, params.our_methods[run.method].training, run.seed)
        found |= dict.fromkeys(replace(used, run=run, split="training") for folds in labelling for run in folds)
    return iter(found)


def _shown(params: Params) -> Iterator[Demand]:
    for name, table in params.tables.items():
        splits: tuple[Split, ...] = SPLITS if isinstance(table, CertifiedTable) else ("test",)
        yield from (Demand(name, run, split) for run in table_runs(params, name) for split in splits)
    yield from (Demand("toy", run, "test") for shown in toy_runs(params) for run in shown)
    # Of all training seeds: one job makes what the same targets need.
    shown = product(picture_runs(params), params.training_seeds)
    yield from (Demand("pictures", replace(run, seed=seed), "test") for run, seed in shown)
    yield from (Demand("high_dimension", run, "test") for run in high_dimension_runs(params))


def all_models(params: Params) -> tuple[ModelRun, ...]:
    """Return every base classifier of `demanded`, and those that they start from or learn from, once each."""
    last = dict.fromkeys(model_run(params, demand.run) for demand in demanded(params))
    earlier = [find(params, run) for run in last for find in (start_run, teacher_run)]
    return tuple(dict.fromkeys([*filter(None, earlier), *last]))


def start_run(params: Params, run: ModelRun) -> ModelRun | None:
    """Return the base classifier whose weights a training starts from, if it is another training.

    Raises:
        ConfigError: that training has several grid points on this data set.
    """
    if run.training in params.given_trainings:
        return None
    start = resolved_training(params, run.dataset, run.training).start
    return _earlier(params, run, "start.training", start.training if start else None)


def teacher_run(params: Params, run: ModelRun) -> ModelRun | None:
    """Return the base classifier that labels the unlabelled images for a training, if there is one.

    Raises:
        ConfigError: its training has several grid points on this data set, or the data set has no unlabelled images.
    """
    if run.training in params.given_trainings:
        return None
    teacher = params.our_trainings[run.training].teacher
    if teacher is not None and params.datasets[run.dataset].unlabelled is None:
        raise ConfigError(
            f"datasets.{run.dataset}.unlabelled: null; training {run.training!r} needs unlabelled images: "
            "{share: ...} of the training split, or {source: FILE.npz}"
        )
    return _earlier(params, run, "teacher", teacher)


def _earlier(params: Params, run: ModelRun, key: str, name: str | None) -> ModelRun | None:
    if name is None:
        return None
    known = training_grid_points(params, run.dataset, name)
    grid = only_grid_point(known, name, run.dataset, key=f"trainings.{run.training}.{key}")
    fold = tuple(each for each in run.grid if each[0] == FOLD)  # what it builds on must not have seen it either
    return replace(run, training=name, grid=(*grid, *fold))


def noise_of(certificate: str) -> str:
    """Return the member of certsmooth.science.noise that a certificate is about: what is sampled for it."""
    return str(literal("certificates", certificate, "noise", default="gaussian"))


def table_slice(params: Params, table: str) -> dict[str, Any]:
    """Return what any table depends on, besides the certificates, attacks and audits that it is made of."""
    chosen = params.tables[table]
    rows = rows_of(chosen, params.dataset)
    labels = {name: (params.methods[name].label, *labels_of(params, name)) for name in rows}
    published = [asdict(run) for run in published_runs(params, table)]
    described = {name: value for name, value in asdict(chosen).items() if name != "settings"}
    choices = [asdict(choice) for choice in table_choices(params, table)]
    return {"choices": choices, "table": described, "labels": labels, "published": published}
