"""Checks the options of all members that params.yaml names, before anything runs; and says what they can be."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import MISSING, fields
from functools import partial
from itertools import product
from typing import Annotated, Any, cast

import numpy as np
from pydantic import ConfigDict, Field, create_model

from certsmooth._internal.labels import legend
from certsmooth._internal.options import make, option_descriptions, option_types
from certsmooth._internal.registry import member
from certsmooth.analysis.published import published_numbers, published_rows
from certsmooth.errors import ConfigError
from certsmooth.experiment import runs
from certsmooth.experiment.build import build, under
from certsmooth.experiment.config import (
    AccuracyTable,
    AnyTable,
    CertifiedTable,
    EmpiricalTable,
    Member,
    Params,
    SoundnessTable,
    rows_of,
)
from certsmooth.science import datasets
from certsmooth.science.certificates import (
    GLOBAL,
    Certificate,
    Smoothing,
    check_can_certify,
    check_may_stop,
    cohen,
    guarantee,
)
from certsmooth.science.models import Normalisation
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.stopping import StoppingRule, check_can_stop
from certsmooth.science.theory.dual import shares
from certsmooth.science.training.recipe import Recipe


def policy_of(params: Params, run: runs.CertificationRun) -> SigmaPolicy:
    """Build the sigma policy of a certification.

    Raises:
        ConfigError: unknown, missing or bad option.
    """
    key = runs.policy_key(params, run.dataset, run.method)
    policy: SigmaPolicy = build("sigma", runs.policy_of(params, run), sigma=run.sigma, key=key)
    return policy


def certificate_of(params: Params, method: str) -> Certificate:
    """Build the certificate of a method.

    Raises:
        ConfigError: unknown, missing or bad option.
    """
    key = f"methods.{method}.certificate"
    certificate: Certificate = build("certificates", params.our_methods[method].certificate, key=key)
    return certificate


def options_schema(family: str, name: str) -> dict[str, Any]:
    """Return the JSON schema of the options of a member that params.yaml can give.

    Args:
        family: the name of a sub-package of certsmooth.science whose members are classes.
        name: the member.

    Raises:
        ConfigError: there is no such member.
    """
    return dataclass_schema(member(family, name), without=_NOT_OPTIONS.get(family, ()))


_NOT_OPTIONS = {"sigma": ("sigma",), "attacks": ("epsilon",)}
"""Of params.yaml: what the experiment gives."""


def dataclass_schema(cls: type, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the JSON schema of a mapping with the options of a dataclass.

    Descriptions are those of its docstring's ``Attributes:``.

    Args:
        cls: a member, or another dataclass with options, such as `Recipe`.
        without: options that are left out.
    """
    told, types = option_descriptions(cls), option_types(cls)
    options: dict[str, Any] = {
        option.name: (
            Annotated[types[option.name], Field(description=told.get(option.name))],
            ... if option.default is MISSING else option.default,
        )
        for option in fields(cast(Any, cls))
        if option.name in types and option.name not in without
    }
    model = create_model("Options", __config__=ConfigDict(extra="forbid"), **options)
    schema: dict[str, Any] = model.model_json_schema()
    del schema["title"]
    for each in schema["properties"].values():
        del each["title"]
    return schema


def check_members(params: Params) -> None:
    """Build every member that params.yaml names, so that what cannot work is found before anything runs.

    Raises:
        ConfigError: an option is unknown, missing or bad, members do not go together, there is no such published
            table, or the file of a sigma policy does not say what tables call it.
    """
    legend(())  # as every table does, it reads the files of all policies
    for name, dataset in params.datasets.items():
        key = f"datasets.{name}"
        under(f"{key}.options", datasets.member, dataset.member or name, dataset.options)
        make(Recipe, dataset.recipe, f"{key}.recipe")
        if dataset.normalisation:
            make(Normalisation, dataset.normalisation, f"{key}.normalisation")
        for training in params.our_trainings:
            _check_training(params, name, training)
        for method in params.our_methods:
            _check_method(params, name, method)
    _check_given(params)
    _check_enough_samples(params)
    _check_stops(params)
    for name, table in params.tables.items():
        _check_table(f"tables.{name}", params, name, table)
    check_toy(params)
    check_pictures(params)
    check_high_dimension(params)


def check_toy(params: Params) -> None:
    """Check that the figures of the toy experiment can show the methods of ``toy``.

    Raises:
        ConfigError: they cannot.
    """
    toy = params.toy
    if toy is None:
        return
    for key, name in (("toy.constant", toy.constant), ("toy.input_dependent", toy.input_dependent)):
        _check_rows(key, params, [name], alone=True)
    (*_, constant), (dependent,) = runs.toy_runs(params)
    policy = policy_of(params, constant)
    if policy.semi_elasticity != 0 or policy.sigma0 != constant.sigma:
        raise ConfigError(f"toy.constant: {toy.constant!r}; must have the constant sigma of the data set")
    if policy_of(params, dependent).samples > 0:
        raise ConfigError(f"toy.input_dependent: {toy.input_dependent!r}; its sigma must be a function of x alone")
    trainings = [params.our_methods[name].training for name in (toy.constant, toy.input_dependent)]
    if trainings[0] != trainings[1]:
        raise ConfigError(f"toy: methods with the trainings {trainings[0]!r} and {trainings[1]!r}; must be the same")
    for run in (constant, dependent):
        chosen = params.certification(run.dataset, run.method)
        for key, whole in (("stride", 1), ("first", 0), ("last", None)):
            if (found := getattr(chosen, key)) != whole:
                right = "null" if whole is None else whole
                raise ConfigError(
                    f"toy: {run.method!r} is certified with {key} {found} on {toy.dataset}; must be {right}"
                )


def check_pictures(params: Params) -> None:
    """Check that sigma of the method of ``pictures`` can differ between images.

    Raises:
        ConfigError: it is constant.
    """
    for run in runs.picture_runs(params):
        _check_rows("pictures.method", params, [run.method], alone=True)
        if policy_of(params, run).semi_elasticity == 0:
            raise ConfigError(f"pictures.method: {run.method!r}; must have a sigma that differs between images")


def check_high_dimension(params: Params) -> None:
    """Check that the certificates of ``high_dimension`` are about a constant sigma and Gaussian noise.

    Raises:
        ConfigError: it is not.
    """
    if params.high_dimension is not None:
        _check_l2("high_dimension.published", params, params.high_dimension.published)
    key = "high_dimension.method"
    for run in runs.high_dimension_runs(params):
        _check_rows(key, params, [run.method], alone=True)
        _check_l2(key, params, [run.method])
        if policy_of(params, run).semi_elasticity != 0:
            raise ConfigError(f"{key}: {run.method!r}; must have a constant sigma")
        if params.our_methods[run.method].memory:
            raise ConfigError(f"{key}: {run.method!r}; must have no memory, which changes predictions but not p_A")


def _check_l2(key: str, params: Params, methods: Iterable[str]) -> None:
    for name in methods:
        if (norm := _norm_of(params, name)) != "l2":
            raise ConfigError(f"{key}: {name!r} certifies in {norm}; must be l2")


def _check_rows(key: str, params: Params, methods: Iterable[str], *, alone: bool) -> None:
    """Check that methods certify what is shown; ``alone``: what is attacked, or drawn, is one smoothed classifier."""
    for name in methods:
        if (method := params.our_methods.get(name)) is None:
            continue
        if method.folds:
            raise ConfigError(f"{key}: {name!r} certifies training images, for a router; must have no folds")
        if alone and method.experts:
            raise ConfigError(f"{key}: {name!r} has experts; must be one smoothed classifier")


def _norm_of(params: Params, method: str) -> str:
    published = params.published_methods.get(method)
    return certificate_of(params, method).norm if published is None else published.norm


def _check_table(key: str, params: Params, name: str, table: AnyTable) -> None:
    runs.published_runs(params, name)  # or they are about other data or noise levels
    rows = rows_of(table, params.dataset)
    if isinstance(table, CertifiedTable | AccuracyTable) and table.baseline in params.our_methods:
        for about in runs.table_choices(params, name):
            if runs.has_no_choice(params, about.dataset, table.baseline):
                found = f"{table.baseline!r} has fewer than two experts on {about.dataset}"
                raise ConfigError(f"{key}.baseline: {found}; must have two or more, methods times sigmas")
    _check_rows(f"{key}.methods", params, rows, alone=isinstance(table, EmpiricalTable))
    if isinstance(table, CertifiedTable):
        norms = {name: _norm_of(params, name) for name in rows}
        if table.norm is None and len(set(norms.values())) > 1:
            found = ", ".join(f"{name} in {norm}" for name, norm in norms.items())
            raise ConfigError(f"{key}.methods: radii of {found}; must be of one norm, or norm: linf")
        if (chosen := table.published) is not None:
            under(f"{key}.published", published_rows, chosen.paper, chosen.table, chosen.dataset)
    elif isinstance(table, EmpiricalTable):
        _check_l2(f"{key}.methods", params, rows)
        for (attack, choice), radius in product(table.attacks.items(), runs.table_choice(params, name).radii):
            build("attacks", choice.attack, epsilon=radius, key=f"{key}.attacks.{attack}.attack")
    elif isinstance(table, AccuracyTable):
        _check_l2(f"{key}.methods", params, rows)
        for about in runs.table_choices(params, name) if table.baseline in params.our_methods else ():
            known = runs.grid_points(params, about.dataset, table.baseline)
            runs.only_grid_point(known, table.baseline, about.dataset, key=f"{key}.baseline")
        for number in table.published:
            under(f"{key}.published", published_numbers, number.paper, number.table)
    for run in runs.table_runs(params, name):
        if params.our_methods[run.method].experts is not None:
            _check_experts(params, run)
        if run.sigma not in params.datasets[run.dataset].sigmas:  # but of the table's settings
            policy_of(params, run)
            if (model := runs.model_run(params, run)).training in params.our_trainings:
                runs.objective_of(params, model)


def _check_training(params: Params, dataset: str, name: str) -> None:
    key, noise = runs.training_key(params, dataset, name), params.our_trainings[name].noise
    make(Recipe, runs.recipe(params, dataset, name), f"{key}.recipe")
    for grid, sigma in product(runs.training_grid_points(params, dataset, name), params.datasets[dataset].sigmas):
        run = runs.ModelRun(dataset, name, sigma, params.training_seeds[0], grid)
        objective = build("objectives", runs.objective_of(params, run), key=f"{key}.objective")
        if getattr(objective, "estimator", None) == "gradient_free" and noise != "gaussian":
            raise ConfigError(
                f"{key}.noise: {noise!r}; must be 'gaussian' with estimator 'gradient_free' (SmoothAdv, eq. 7)"
            )
        build("sigma", runs.training_policy_of(params, run), sigma=sigma, key=f"{key}.policy")
    if (denoiser := params.our_trainings[name].denoiser) is not None:
        build("denoisers", denoiser, key=f"trainings.{name}.denoiser")


def _check_given(params: Params) -> None:
    """Check that no checkpoint that was trained elsewhere passes for those of several training seeds."""
    seeds: dict[tuple[str, str, float, str], int] = {}
    for run in runs.all_models(params):
        if (training := params.given_trainings.get(run.training)) is not None:
            file = training.file(run.sigma, run.seed)
            if (first := seeds.setdefault((run.dataset, run.training, run.sigma, file), run.seed)) != run.seed:
                raise ConfigError(
                    f"trainings.{run.training}.given: {training.given!r} is one checkpoint, but the training seeds are "
                    f"{first}, {run.seed}, ...; must have {{seed}} in its name, or training_seeds be one"
                )


def _check_method(params: Params, dataset: str, name: str) -> None:
    entry, method = params.datasets[dataset], params.our_methods[name]
    certificate = certificate_of(params, name)
    for grid, sigma in product(runs.grid_points(params, dataset, name), entry.sigmas):
        run = runs.CertificationRun(dataset, name, sigma, params.training_seeds[0], grid, params.seed)
        policy = policy_of(params, run)
        if (norm := getattr(policy, "norm", certificate.norm)) != certificate.norm:
            key = runs.policy_key(params, dataset, name)
            raise ConfigError(f"{key}.options.norm: {norm!r}; must be {certificate.norm!r}, the certificate's")
        under(f"methods.{name}: policy {method.policy.name!r}", guarantee, certificate, policy.semi_elasticity, None)


def _check_experts(params: Params, router: runs.CertificationRun) -> None:
    """Check that a router and its experts make certificates together: `certsmooth.science.theory.dual`."""
    key, experts = f"methods.{router.method}", runs.expert_runs(params, router)
    if (asked := params.our_methods[router.method].experts) is not None:
        alpha = params.certification(router.dataset, router.method).alpha
        under(f"{key}.experts", shares, alpha, asked.router_share, asked.others_share, len(experts))
    norm = certificate_of(params, router.method).norm
    for run in (router, *experts):
        certificate, memory = certificate_of(params, run.method), params.our_methods[run.method].memory
        promise = guarantee(certificate, policy_of(params, run).semi_elasticity, None)
        if memory is not None or promise not in GLOBAL:
            found = "memory" if memory is not None else promise
            raise ConfigError(
                f"{key}: {run.method!r} has the guarantee {found!r}; must be global, of router and experts"
            )
        if certificate.norm != norm:
            raise ConfigError(f"{key}: {run.method!r} certifies in {certificate.norm}; must be {norm}, as the router")


def _check_enough_samples(params: Params) -> None:
    """Check that no certificate and no prediction abstains whatever the samples show."""
    certified: dict[tuple[Certificate, int, float], str] = {}
    for dataset, name in product(params.datasets, params.our_methods):
        setting = params.certification(dataset, name)
        key = f"{_certification_key(params, dataset, name)}: for method {name!r}"
        certified.setdefault((certificate_of(params, name), setting.n, setting.alpha), key)
    for (certificate, n, alpha), key in certified.items():
        under(key, partial(check_can_certify, certificate, n=n, alpha=alpha))
    for name, table in params.tables.items():
        if isinstance(table, EmpiricalTable | SoundnessTable):
            check = partial(cohen.check_can_predict, n=min(table.predict.numbers), alpha=table.predict.alpha)
            under(f"tables.{name}.predict", check)


def _check_stops(params: Params) -> None:
    """Check that the rules by which samples stop make sense for the certificates of the methods.

    A radius that a rule of a data set asks for must be within reach of some method.
    """
    out_of_reach: dict[str, ConfigError | None] = {}
    for dataset, name in product(params.datasets, params.our_methods):
        stop, setting = runs.stop_of(params, dataset, name), params.certification(dataset, name)
        if stop is None:
            continue
        key, certificate = f"{_certification_key(params, dataset, name)}.stop", certificate_of(params, name)
        rule: StoppingRule = build("stopping", stop.rule, key=key)
        under(f"{key}: for method {name!r}", check_may_stop, type(certificate), rule.trials(setting.n))
        if "radii" in stop.rule.options and "radii" not in cast(Member, setting.stop).options:
            continue  # those of the tables, which need not be reached
        sigma = np.asarray(params.datasets[dataset].sigmas)
        smoothing = Smoothing(sigma, 1, 0.0, np.full(len(sigma), np.inf))
        try:
            check_can_stop(rule, certificate, smoothing, most=setting.n, alpha=setting.alpha)
            out_of_reach[key] = None
        except ConfigError as error:
            out_of_reach.setdefault(key, ConfigError(f"{key}: for method {name!r}: {error}"))
    for error_found in out_of_reach.values():
        if error_found is not None:
            raise error_found


def _certification_key(params: Params, dataset: str, method: str) -> str:
    """Return where the certification of a method is set last."""
    changes = params.datasets[dataset].methods.get(method)
    if changes is not None and changes.certification:
        return f"datasets.{dataset}.methods.{method}.certification"
    place = f"methods.{method}" if params.our_methods[method].certification else f"datasets.{dataset}"
    return f"{place}.certification"
