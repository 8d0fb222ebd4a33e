"""The command line: one verb per step of the workflow; the rules of the workflow call these verbs and nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certsmooth._internal.checks import check_integer, check_number
from certsmooth._internal.out_of_memory import is_out_of_memory
from certsmooth._internal.storage import exclusive
from certsmooth.errors import CertsmoothError, ConfigError, nearest
from certsmooth.experiment import runs
from certsmooth.experiment.config import Params, read_params

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from certsmooth.experiment.steps.certify import ImagesAt
    from certsmooth.experiment.steps.label import UnlabelledChoice

Verb = Callable[[argparse.Namespace, Params], None]

# Steps are imported when they are called: a verb that needs no torch starts without it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return 0, 2 after an error that is the user's to mend, or 130 after an interrupt."""
    options = _parser().parse_args(arguments)
    try:
        with ExitStack() as options.held:
            params = read_params(options.params)
            if "output" in options:
                options.held.enter_context(exclusive(options.output))
            verb: Verb = options.verb
            verb(options, params)
    except (CertsmoothError, OSError) as error:  # of the system: a folder that cannot be made, a full disk
        print(f"certsmooth: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"certsmooth: out of memory: {error}; what is finished is kept, run it again with more", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("certsmooth: interrupted; what is finished is kept, run it again to go on", file=sys.stderr)
        return 130
    return 0


def _check(_: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.members import check_members
    from certsmooth.experiment.steps.check import check_start

    check_members(params)
    check_start(params)


def _data(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.steps.data import DataChoice, record_data

    dataset = _key("--dataset", options.dataset, params.datasets)
    record_data(DataChoice(**runs.data_slice(params, dataset)), options.output)


def _train(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.artefacts.records import read_record
    from certsmooth.experiment import members
    from certsmooth.experiment.steps.data import DataChoice
    from certsmooth.experiment.steps.train import train_model

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
        noise=training.noise,
        device=_device(options),
        start=options.start,
        pseudo_labels=options.pseudo_labels and (_unlabelled(params, dataset), options.pseudo_labels),
        output=options.output,
        log=options.log,
    )


def _label(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.steps.label import label_images

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
    from certsmooth.experiment.steps.data import DataChoice
    from certsmooth.experiment.steps.label import UnlabelledChoice

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
    from certsmooth.experiment.members import policy_of
    from certsmooth.experiment.steps.data import DataChoice
    from certsmooth.experiment.steps.sample import sample_shard
    from certsmooth.science.sampling.sampler import SamplingPlan
    from certsmooth.science.theory.pixel_grid import grid_of

    run = _run(options, params)
    settings = runs.sample_slice(params, run)
    sample_shard(
        choice=DataChoice(**runs.data_slice(params, run.dataset)),
        record=options.data,
        part=options.part,
        stride=settings["stride"] if options.part == "test" else 1,
        shard=options.shard,
        shards=options.shards,
        model=options.checkpoint,
        sigma=run.sigma,
        policy=policy_of(params, run),
        settings=settings["policy"],
        # The part belongs to the name: settings are chosen on validation, so its noise must not be that of the test.
        plan=SamplingPlan(
            n0=settings["n0"],
            n=settings["n"],
            seed=settings["seed"],
            dataset=f"{run.dataset}/{options.part}",
            noise=settings["noise"],
            grid=grid_of(settings["step"]),
        ),
        device=_device(options),
        output=options.output,
    )


def _certify(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.members import certificate_of
    from certsmooth.experiment.steps.certify import Order, certify_counts

    run = _run(options, params)
    settings = runs.certify_slice(params, run)
    certify_counts(
        options.counts,
        certificate=certificate_of(params, run.method),
        alpha=settings["alpha"],
        described=settings["certificate"],
        expect=_sampled(options, params, run, options.part),
        record=options.data,
        memory=Order(settings["seed"]) if settings["memory"] else None,
        images_at=_images_at(params, run.dataset, options.part, options.data),
        output=options.output,
    )


def _attack(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.artefacts.records import read_record
    from certsmooth.experiment.members import build_attack, policy_of
    from certsmooth.experiment.steps.attack import AttackPlan, attack_images
    from certsmooth.experiment.steps.data import DataChoice
    from certsmooth.science.theory.pixel_grid import grid_of

    table = _key("--table", options.table, params.attacks)
    name = _key("--attack", options.attack, params.attacks[table].attacks)
    run, chosen = _run(options, params), params.attacks[table].attacks[name].attack
    settings = runs.attack_slice(params, table, name, run)
    # Toy data have no pixel range to be kept in.
    clamp = {} if read_record(options.data)["pixel_range"] else {"clamp": False}
    chosen = replace(chosen, options={**clamp, **chosen.options})
    key = f"attacks.{table}.attacks.{name}.attack"
    attack_images(
        choice=DataChoice(**runs.data_slice(params, run.dataset)),
        record=options.data,
        counts=options.counts,
        stride=settings["stride"],
        model=options.checkpoint,
        sigma=run.sigma,
        policy=policy_of(params, run),
        plan=AttackPlan(
            name=name,
            attacks={r: build_attack(chosen, epsilon=r, key=key) for r in settings["radii"] if r > 0},
            clean=0 in settings["radii"],
            samples=tuple(settings["samples"]),
            n=settings["n"],
            seed=settings["seed"],
            dataset=run.dataset,
            noise=params.methods[run.method].noise,
            grid=grid_of(settings["step"]),
        ),
        settings={"name": name, **settings},
        device=_device(options),
        output=options.output,
    )


def _order_cost(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.members import certificate_of
    from certsmooth.experiment.steps.certify import Order
    from certsmooth.experiment.steps.order_cost import cost_order

    table, run = _key("--table", options.table, params.soundness), _run(options, params)
    settings = runs.order_slice(params, table, run)
    cost_order(
        options.counts,
        certificate=certificate_of(params, run.method),
        alpha=settings["alpha"],
        expect=_sampled(options, params, run, "test"),
        record=options.data,
        memory=Order(settings["seed"]),
        images_at=_images_at(params, run.dataset, "test", options.data),
        radii=settings["radii"],
        shuffles=settings["shuffles"],
        output=options.output,
    )


def _break_certificates(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.members import certificate_of, policy_of
    from certsmooth.experiment.steps.break_certificates import break_certificates
    from certsmooth.experiment.steps.data import DataChoice
    from certsmooth.science.audit.break_certificates import BreakPlan
    from certsmooth.science.theory.pixel_grid import grid_of

    table, run = _key("--table", options.table, params.soundness), _run(options, params)
    settings, certificate = runs.break_slice(params, table, run), certificate_of(params, run.method)
    break_certificates(
        choice=DataChoice(**runs.data_slice(params, run.dataset)),
        record=options.data,
        counts=options.counts,
        certificate=certificate,
        alpha=settings["alpha"],
        stride=settings["stride"],
        model=options.checkpoint,
        sigma=run.sigma,
        policy=policy_of(params, run),
        plan=BreakPlan(
            n=settings["n"],
            seed=settings["seed"],
            dataset=run.dataset,
            noise=certificate.noise,
            grid=grid_of(settings["step"]),
            norm=certificate.norm,
        ),
        settings=settings,
        device=_device(options),
        output=options.output,
    )


def _table(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.steps.table import make_table

    sections = (params.tables, params.attacks, params.idrs, params.soundness)
    name = _key("table", options.name, [name for section in sections for name in section])
    print(make_table(params, name, results=options.results))


def _theory(options: argparse.Namespace, _: Params) -> None:
    from certsmooth.experiment.steps.theory import write_theory

    write_theory(options.results)


def _toy(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.steps.toy import make_toy_figures

    make_toy_figures(params, results=options.results)


def _high_dimension(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.steps.high_dimension import make_high_dimension

    make_high_dimension(params, results=options.results)


def _sampled(
    options: argparse.Namespace, params: Params, run: runs.CertificationRun, part: runs.Part
) -> dict[str, object]:
    """Return what the identity of a run's counts must say."""
    from certsmooth._internal.storage import file_digest

    settings = runs.sample_slice(params, run)
    about = {"dataset": run.dataset, "part": part, "checkpoint": file_digest(options.checkpoint)}
    return about | {key: settings[key] for key in ("n0", "n", "seed", "policy", "noise", "step")}


def _images_at(params: Params, dataset: str, part: runs.Part, record: Path) -> ImagesAt:
    """Return the function that gives the memory pass its pixels; only that pass loads them."""

    def images_at(index: npt.NDArray[np.int64]) -> npt.NDArray[np.generic]:
        from certsmooth.artefacts.records import read_record
        from certsmooth.experiment.steps.data import DataChoice, load_part

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


def _plan(options: argparse.Namespace, params: Params) -> None:
    from certsmooth.experiment.steps.plan import make_plan

    check_integer("--devices", options.devices, minimum=1)
    check_number("--hours", options.hours, above=0)
    measure_on = _device(options) if options.measure else None
    text = make_plan(
        params, results=options.results, devices=options.devices, limit=options.hours, measure_on=measure_on
    )
    print(text, end="")


def _device(options: argparse.Namespace) -> torch.device:
    """Return the device to compute on; where there are GPUs, one that no other process computes on."""
    import torch

    from certsmooth._internal.devices import leased_gpu

    if options.threads is not None:
        check_integer("--threads", options.threads, minimum=1)
        torch.set_num_threads(options.threads)
    # A build of torch without CUDA must not wait for a GPU that it cannot use.
    if options.device in ("auto", "cuda") and torch.version.cuda is not None:
        options.held.enter_context(leased_gpu())
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device: {options.device!r} cannot be used ({reason}); try cpu or cuda") from error
    return torch.device(options.device)


_VERBS: Mapping[str, tuple[Verb, str]] = {
    "check": (_check, "Check every key and value of params.yaml."),
    "data": (_data, "Fetch a data set and record what it is: shape, sizes, fingerprints."),
    "train": (_train, "Train one base classifier; goes on after the last finished epoch if it was killed."),
    "label": (_label, "Label the unlabelled images by a classifier's predictions, for self-training."),
    "sample": (_sample, "Count the classes of noisy copies of each image; goes on with the next image."),
    "certify": (_certify, "Turn counts into certificates: prediction and radius of each image."),
    "attack": (_attack, "Attack images that were sampled, and count the classes at what the attack found."),
    "order-cost": (_order_cost, "Compute what the memory costs a run, by the order of arrival."),
    "break-certificates": (_break_certificates, "Look inside certified balls for points of another class."),
    "table": (_table, "Compare methods: a table (Markdown, CSV, JSON) and its figure (SVG, PNG)."),
    "theory": (_theory, "Write what IDRS shows without data: Table 1 and Figures 2, 3, 11, 12 and 13."),
    "toy": (_toy, "Draw the toy experiment of IDRS in the plane: Figures 1 and 5 to 9."),
    "high-dimension": (_high_dimension, "Write what IDRS would certify in high dimension from given certificates."),
    "plan": (_plan, "Print what the experiment will cost: jobs, and hours by measured throughput."),
}
_ON_DATA = ("data", "train", "label", "sample", "certify", "attack", "order-cost", "break-certificates")
_ON_COUNTS = ("certify", "attack", "order-cost", "break-certificates")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="certsmooth",
        description="Train, smooth and certify image classifiers by randomized smoothing. Each verb is one step of the "
        "workflow (see Snakefile); all read params.yaml.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--params", type=Path, default=Path("params.yaml"), help="configuration (default: %(default)s)")
    parsers = parser.add_subparsers(required=True, metavar="VERB")
    verbs = {}
    for name, (function, text) in _VERBS.items():
        verbs[name] = parsers.add_parser(name, help=text, description=text, parents=[common])
        verbs[name].set_defaults(verb=function)

    def add(names: Sequence[str], option: str, **settings: Any) -> None:  # noqa: ANN401 - as add_argument
        for name in names:
            verbs[name].add_argument(option, **settings)

    _add_run(add)
    add(["train"], "--start", type=Path, help="checkpoint to start from, if the training says so")
    add(["train"], "--pseudo-labels", type=Path, help="from `certsmooth label`, if the training has a teacher")
    add(["train"], "--log", required=True, type=Path, help="CSV with one line per epoch")
    add(["sample"], "--shard", type=int, default=0, help="which shard, from 0 (default: %(default)s)")
    add(["sample"], "--shards", type=int, default=1, help="of how many (default: %(default)s)")
    add(["attack"], "--table", required=True, help="a key of attacks in params.yaml")
    add(["attack"], "--attack", required=True, help="a key of that table's attacks")
    add(["order-cost", "break-certificates"], "--table", required=True, help="a key of soundness in params.yaml")
    add(["table"], "name", help="a key of tables, attacks, idrs or soundness")
    add(["plan"], "--measure", action="store_true", help="measure throughput first, and keep it for later plans")
    add(
        ["plan"], "--devices", type=int, default=1, help="GPUs, or CPU cores, for the wall clock (default: %(default)s)"
    )
    add(["plan"], "--hours", type=float, default=8.0, help="what a job may take, for shards (default: %(default)s)")
    verbs["plan"].set_defaults(threads=1)  # as the jobs of the workflow
    results = ("table", "theory", "toy", "high-dimension", "plan")
    add(results, "--results", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    return parser


def _add_run(add: Callable[..., None]) -> None:
    """Add what says which run a step is about, and where its files are."""
    add(_ON_DATA, "--dataset", required=True, help="a key of datasets")
    add(_ON_DATA, "--output", required=True, type=Path, help="file to write")
    on_run = _ON_DATA[1:]
    add(on_run, "--data", required=True, type=Path, help="record of the data set, from `certsmooth data`")
    add(on_run, "--sigma", required=True, type=float, help="noise level, in pixel coordinates [0, 1]")
    add(on_run, "--seed", required=True, type=int, help="training seed")
    add(["train", "label"], "--training", required=True, help="a key of trainings")
    add(["sample", *_ON_COUNTS], "--method", required=True, help="a key of methods")
    variant = "values of the options that are lists: iterations=100"
    add(["train", "sample", *_ON_COUNTS], "--variant", default="default", help=variant)
    add(["sample", "certify"], "--part", required=True, choices=runs.PARTS, help="which images")
    model = "base classifier, from `certsmooth train`"
    add(["label", "sample", *_ON_COUNTS], "--checkpoint", required=True, type=Path, help=model)
    add(_ON_COUNTS, "--counts", required=True, type=Path, nargs="+", help="counts of all shards, in order")
    on_device = ("train", "label", "sample", "attack", "break-certificates")
    add(
        [*on_device, "plan"], "--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)"
    )
    add(on_device, "--threads", type=int, help="CPU threads (default: all)")


if __name__ == "__main__":
    sys.exit(main())
