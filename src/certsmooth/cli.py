"""The command line: one verb per step of the workflow; the rules of the workflow call these verbs and nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from certsmooth import runs
from certsmooth.config import Params, read_params
from certsmooth.errors import CertsmoothError, ConfigError, nearest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from certsmooth.steps.certify import ImagesAt
    from certsmooth.steps.label import UnlabelledChoice

# Steps are imported when they are called: a verb that needs no torch starts without it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return 0, or 2 after an error that is the user's to mend."""
    options = _parser().parse_args(arguments)
    try:
        verb: Callable[[argparse.Namespace, Params], None] = options.verb
        verb(options, read_params(options.params))
    except CertsmoothError as error:
        print(f"certsmooth: {error}", file=sys.stderr)
        return 2
    return 0


def _check(_: argparse.Namespace, params: Params) -> None:
    from certsmooth.members import check_members

    check_members(params)


def _data(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.steps.data import DataChoice, record_data

    dataset = _key("--dataset", options.dataset, params.datasets)
    record_data(DataChoice(**runs.data_slice(params, dataset)), options.output)


def _train(options: argparse.Namespace, params: Params) -> None:
    from certsmooth import members
    from certsmooth.steps.data import DataChoice
    from certsmooth.steps.records import read_record
    from certsmooth.steps.train import train_model

    dataset = _key("--dataset", options.dataset, params.datasets)
    name = _key("--training", options.training, params.trainings)
    variant = runs.find_variant(runs.training_variants(params, dataset, name), options.variant, key="--variant")
    run = runs.ModelRun(dataset, name, options.sigma, options.seed, variant)
    chosen, training = params.datasets[dataset], runs.resolved_training(params, dataset, name)
    description = runs.train_slice(params, run)
    _check_given(options, start=training.start is not None, pseudo_labels=training.teacher is not None)
    record = read_record(options.data)
    train_model(
        run,
        choice=DataChoice(**runs.data_slice(params, dataset)),
        record=options.data,
        spec=members.build_spec(
            architecture=chosen.architecture,
            image_shape=tuple(record["image_shape"]),
            num_classes=record["num_classes"],
            normalisation=chosen.normalisation,
            numeric_type=chosen.numeric_type,
            channels_last=chosen.channels_last,
            key=f"datasets.{dataset}",
        ),
        objective=members.build_objective(
            runs.with_variant(training.objective, variant), key=f"trainings.{name}.objective"
        ),
        policy=members.build_policy(
            runs.with_variant(training.policy, variant), sigma=run.sigma, key=f"trainings.{name}.policy"
        ),
        recipe=members.build_recipe(description["recipe"], key=f"datasets.{dataset}.recipe"),
        description=description["training"],
        device=_device(options),
        start=options.start,
        pseudo_labels=options.pseudo_labels and (_unlabelled(params, dataset), options.pseudo_labels),
        output=options.output,
        log=options.log,
    )


def _label(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.steps.label import label_images

    dataset = _key("--dataset", options.dataset, params.datasets)
    name = _key("--training", options.training, params.trainings)
    variant = runs.find_variant(runs.training_variants(params, dataset, name), "default", key="variant")
    label_images(
        runs.ModelRun(dataset, name, options.sigma, options.seed, variant),
        unlabelled=_unlabelled(params, dataset),
        record=options.data,
        model=options.checkpoint,
        device=_device(options),
        output=options.output,
    )


def _unlabelled(params: Params, dataset: str) -> UnlabelledChoice:
    from certsmooth.steps.data import DataChoice
    from certsmooth.steps.label import UnlabelledChoice

    unlabelled = params.datasets[dataset].unlabelled
    if unlabelled is None:
        raise ConfigError(f"datasets.{dataset}.unlabelled: null; must give a share or a source")
    source = None if unlabelled.source is None else Path(unlabelled.source)
    return UnlabelledChoice(DataChoice(**runs.data_slice(params, dataset)), source)


def _check_given(options: argparse.Namespace, **needed: bool) -> None:
    """Check that the files that a training builds on are given, and no others."""
    for name, needs in needed.items():
        given = getattr(options, name)
        if needs != (given is not None):
            option = f"--{name.replace('_', '-')}"
            right = "must be given" if needs else "must not be given"
            raise ConfigError(f"{option}: {given}; {right} for training {options.training!r}")


def _sample(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.members import build_policy
    from certsmooth.sampling import SamplingPlan
    from certsmooth.steps.data import DataChoice
    from certsmooth.steps.sample import sample_shard

    run = _run(options, params)
    settings = runs.sample_slice(params, run)
    method = runs.resolved_method(params, run.dataset, run.method)
    policy = build_policy(
        runs.with_variant(method.policy, run.variant), sigma=run.sigma, key=f"methods.{run.method}.policy"
    )
    sample_shard(
        choice=DataChoice(**runs.data_slice(params, run.dataset)),
        record=options.data,
        part=options.part,
        stride=settings["stride"] if options.part == "test" else 1,
        shard=options.shard,
        shards=options.shards,
        model=options.checkpoint,
        sigma=run.sigma,
        policy=policy,
        settings=settings["policy"],
        # The part belongs to the name: settings are chosen on validation, so its noise must not be that of the test.
        plan=SamplingPlan(
            n0=settings["n0"], n=settings["n"], seed=settings["seed"], dataset=f"{run.dataset}/{options.part}"
        ),
        device=_device(options),
        output=options.output,
    )


def _certify(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.steps.certify import Order, certify_counts
    from certsmooth.storage import file_digest

    run = _run(options, params)
    settings, sampled = runs.certify_slice(params, run), runs.sample_slice(params, run)
    certify_counts(
        options.counts,
        certificate=settings["certificate"],
        alpha=settings["alpha"],
        expect={
            "dataset": run.dataset,
            "part": options.part,
            "checkpoint": file_digest(options.checkpoint),
            "n0": sampled["n0"],
            "n": sampled["n"],
            "seed": sampled["seed"],
            "policy": sampled["policy"],
        },
        record=options.data,
        memory=Order(settings["seed"]) if settings["memory"] else None,
        images_at=_images_at(params, run.dataset, options.part, options.data),
        output=options.output,
    )


def _attack(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.members import build_attack, build_policy
    from certsmooth.steps.attack import AttackPlan, attack_images
    from certsmooth.steps.data import DataChoice
    from certsmooth.steps.records import read_record

    table = _key("--table", options.table, params.attacks)
    name = _key("--attack", options.attack, params.attacks[table].attacks)
    run, chosen = _run(options, params), params.attacks[table].attacks[name].attack
    settings = runs.attack_slice(params, table, name, run)
    # Toy data have no pixel range to be kept in.
    clamp = {} if read_record(options.data)["pixel_range"] else {"clamp": False}
    chosen = replace(chosen, options={**clamp, **chosen.options})
    key = f"attacks.{table}.attacks.{name}.attack"
    method = runs.resolved_method(params, run.dataset, run.method)
    attack_images(
        choice=DataChoice(**runs.data_slice(params, run.dataset)),
        record=options.data,
        counts=options.counts,
        stride=settings["stride"],
        model=options.checkpoint,
        sigma=run.sigma,
        policy=build_policy(
            runs.with_variant(method.policy, run.variant), sigma=run.sigma, key=f"methods.{run.method}.policy"
        ),
        plan=AttackPlan(
            name=name,
            attacks={r: build_attack(chosen, epsilon=r, key=key) for r in settings["radii"] if r > 0},
            clean=0 in settings["radii"],
            samples=tuple(settings["samples"]),
            n=settings["n"],
            seed=settings["seed"],
            dataset=run.dataset,
        ),
        settings={"name": name, **settings},
        device=_device(options),
        output=options.output,
    )


def _table(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.steps.empirical import make_empirical
    from certsmooth.steps.table import make_table

    name = _key("table", options.name, (*params.tables, *params.attacks))
    make = make_empirical if name in params.attacks else make_table
    make(params, name, results=options.results)
    print(options.results / f"{options.name}.md")


def _images_at(params: Params, dataset: str, part: runs.Part, record: Path) -> ImagesAt:
    """Return the function that gives the memory pass its pixels; only that pass loads them."""

    def images_at(index: npt.NDArray[np.int64]) -> npt.NDArray[np.generic]:
        from certsmooth.steps.data import DataChoice, load_part
        from certsmooth.steps.records import read_record

        split = load_part(DataChoice(**runs.data_slice(params, dataset)), part, read_record(record))
        return split.images_at(index)

    return images_at


def _run(options: argparse.Namespace, params: Params) -> runs.CertificationRun:
    dataset = _key("--dataset", options.dataset, params.datasets)
    method = _key("--method", options.method, params.methods)
    variant = runs.find_variant(runs.variants(params, dataset, method), options.variant, key="--variant")
    return runs.CertificationRun(dataset, method, options.sigma, options.seed, variant)


def _key(option: str, name: str, valid: Collection[str]) -> str:
    if name not in valid:
        raise ConfigError(f"{option}: unknown {name!r}; {nearest(name, valid)}")
    return name


def _device(options: argparse.Namespace) -> torch.device:
    import torch

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device: {options.device!r} cannot be used ({reason}); try cpu or cuda") from error
    return torch.device(options.device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="certsmooth",
        description="Train, smooth and certify image classifiers by randomized smoothing. Each verb is one step of the "
        "workflow (see Snakefile); all read params.yaml.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--params", type=Path, default=Path("params.yaml"), help="configuration (default: %(default)s)")

    def verb(name: str, function: Callable[[argparse.Namespace, Params], None], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(verb=function)
        return added

    verb("check", _check, "Check every key and value of params.yaml.")
    data = verb("data", _data, "Fetch a data set and record what it is: shape, sizes, fingerprints.")
    train = verb("train", _train, "Train one base classifier; goes on after the last finished epoch if it was killed.")
    label = verb("label", _label, "Label the unlabelled images by a classifier's predictions, for self-training.")
    sample = verb("sample", _sample, "Count the classes of noisy copies of each image; goes on with the next image.")
    certify = verb("certify", _certify, "Turn counts into certificates: prediction and radius of each image.")
    attack = verb("attack", _attack, "Attack images that were sampled, and count the classes at what the attack found.")
    table = verb("table", _table, "Compare methods: a table (Markdown, CSV, JSON) and its figure (SVG, PNG).")

    _add_shared(data, train, label, sample, certify, attack)
    train.add_argument("--start", type=Path, help="checkpoint to start from, if the training says so")
    train.add_argument("--pseudo-labels", type=Path, help="from `certsmooth label`, if the training has a teacher")
    train.add_argument("--log", required=True, type=Path, help="CSV with one line per epoch")
    sample.add_argument("--shard", type=int, default=0, help="which shard, from 0 (default: %(default)s)")
    sample.add_argument("--shards", type=int, default=1, help="of how many (default: %(default)s)")
    attack.add_argument("--table", required=True, help="a key of attacks in params.yaml")
    attack.add_argument("--attack", required=True, help="a key of that table's attacks")
    table.add_argument("name", help="a key of tables, or of attacks")
    table.add_argument("--results", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    return parser


def _add_shared(
    data: argparse.ArgumentParser,
    train: argparse.ArgumentParser,
    label: argparse.ArgumentParser,
    sample: argparse.ArgumentParser,
    certify: argparse.ArgumentParser,
    attack: argparse.ArgumentParser,
) -> None:
    """Add the arguments that several verbs have."""
    for each in (data, train, label, sample, certify, attack):
        each.add_argument("--dataset", required=True, help="a key of datasets")
        each.add_argument("--output", required=True, type=Path, help="file to write")
    for each in (train, label, sample, certify, attack):
        each.add_argument("--data", required=True, type=Path, help="record of the data set, from `certsmooth data`")
        each.add_argument("--sigma", required=True, type=float, help="noise level, in pixel coordinates [0, 1]")
        each.add_argument("--seed", required=True, type=int, help="training seed")
    for each in (train, label, sample, attack):
        each.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
        each.add_argument("--threads", type=int, help="CPU threads (default: all)")
    for each in (train, sample, certify, attack):
        each.add_argument("--variant", default="default", help="values of the options that are lists: iterations=100")
    for each in (label, sample, certify, attack):
        each.add_argument("--checkpoint", required=True, type=Path, help="base classifier, from `certsmooth train`")
    for each in (sample, certify, attack):
        each.add_argument("--method", required=True, help="a key of methods")
    for each in (sample, certify):
        each.add_argument("--part", required=True, choices=runs.PARTS, help="which images")
    for each in (train, label):
        each.add_argument("--training", required=True, help="a key of trainings")
    for each in (certify, attack):
        each.add_argument("--counts", required=True, type=Path, nargs="+", help="counts of all shards, in order")


if __name__ == "__main__":
    sys.exit(main())
