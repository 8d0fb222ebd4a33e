"""The command line: one verb per step of the workflow; the rules of the workflow call these verbs and nothing else.

A verb names what it makes as its folder does: ``certsmooth train digits/gaussian/sigma=0.25/seed=0/default``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from certsmooth._internal.checks import check_choice, check_integer, check_number
from certsmooth._internal.extras import optional_libraries
from certsmooth._internal.lazy import load_when_used
from certsmooth._internal.out_of_memory import is_out_of_memory
from certsmooth.errors import CertsmoothError, ConfigError
from certsmooth.experiment import runs
from certsmooth.experiment.config import EmpiricalTable, SoundnessTable, read_params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.specs import Batch, Spec

if TYPE_CHECKING:
    import torch

S = TypeVar("S", bound=Spec)
Verb = Callable[[argparse.Namespace, Experiment], None]

# Steps are imported when they are called: a verb that needs no torch starts without it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return 0, 2 after an error that is the user's to mend, or 130 after an interrupt."""
    options = _parser().parse_args(arguments)
    try:
        with ExitStack() as options.held, optional_libraries():
            options.run(options)
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


def _with_experiment(verb: Verb, options: argparse.Namespace) -> None:
    verb(options, Experiment(read_params(options.params)))


def _check(options: argparse.Namespace, experiment: Experiment) -> None:
    load_when_used("torch")
    from certsmooth.experiment.library import naming_files
    from certsmooth.experiment.members import check_members
    from certsmooth.experiment.steps.check import check_start

    with naming_files(options.params):
        check_members(experiment.params)
        check_start(experiment.params)
    asked = {demand.run for demand in experiment.demands}
    numbers = {
        "table": len(experiment.params.tables),
        "data set": len({run.dataset for run in asked}),
        "method": len({run.method for run in asked}),
        "base classifier": len(experiment.models()),
        "certification": len(asked),
    }
    found = ", ".join(f"{number:,} {name}{'' if number == 1 else 's'}" for name, number in numbers.items())
    print(f"{options.params}: {found}: ok")


def _data(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.data import record_data

    check_choice("data set", options.name, experiment.params.datasets)
    step = experiment.params.datasets[options.name].step
    record_data(experiment.data(options.name), results=options.results, step=step)


def _train(options: argparse.Namespace, experiment: Experiment) -> None:
    spec = experiment.train(_model_run(options.name, experiment))
    if spec.given is not None:
        from certsmooth.experiment.steps.given import take_given

        take_given(spec, results=options.results)
        return
    from certsmooth.experiment.steps.train import train_model

    train_model(spec, results=options.results, device=_device(options))


def _import(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.import_checkpoint import import_checkpoint

    check_choice("--dataset", options.dataset, experiment.params.datasets)
    found = import_checkpoint(
        options.file,
        options.output,
        data=experiment.data(options.dataset),
        architecture=options.architecture,
        normalisation=options.normalisation,
        prefix=options.prefix,
        sigma=check_number("--sigma", options.sigma, minimum=0),
        images=check_integer("--images", options.images, minimum=10),
        accepted=options.accept_accuracy,
        trusted=experiment.params.trusted,
        device=_device(options),
    )
    print(found, end="")


def _label(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.label import label_images

    spec = experiment.labels(_model_run(options.name, experiment))
    label_images(spec, results=options.results, device=_device(options))


def _route(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.route import route_images

    route_images(experiment.routes(*_routers(options.name, experiment)), results=options.results)


def _sample(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.sample import sample_shard

    batch = experiment.sample_batch(*_batch(options.name))
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", options.shard)
    if found is None:
        raise ConfigError(f"--shard: {options.shard!r}; must be a number and how many there are, as 0/4")
    shard, shards = map(int, found.groups())
    sample_shard(batch, shard=shard, shards=shards, results=options.results, device=_device(options))


def _certify(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.certify import certify_batch

    certify_batch(experiment.certify_batch(*_batch(options.name)), results=options.results)


def _attack(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.attack import attack_batch

    tables = experiment.params.of_kind(EmpiricalTable)
    check_choice("--table", options.table, tables)
    check_choice("--attack", options.attack, tables[options.table].attacks)
    batch = _row(options, partial(experiment.attacks, options.table, options.attack))
    attack_batch(options.table, batch, results=options.results, device=_device(options))


def _order_cost(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.order_cost import cost_orders

    check_choice("--table", options.table, experiment.params.of_kind(SoundnessTable))
    batch = _row(options, partial(experiment.orders, options.table))
    cost_orders(options.table, batch, results=options.results)


def _break_certificates(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.break_certificates import break_batch

    check_choice("--table", options.table, experiment.params.of_kind(SoundnessTable))
    batch = _row(options, partial(experiment.breakings, options.table))
    break_batch(options.table, batch, results=options.results, device=_device(options))


def _table(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.table import make_table

    check_choice("table", options.name, experiment.params.tables)
    print(make_table(experiment, options.name, results=options.results))


def _theory(options: argparse.Namespace, _: Experiment) -> None:
    from certsmooth.experiment.steps.theory import write_theory

    write_theory(options.results)


def _toy(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.toy import make_toy_figures

    make_toy_figures(experiment, results=options.results)


def _pictures(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.pictures import make_pictures

    make_pictures(experiment, results=options.results)


def _high_dimension(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.high_dimension import make_high_dimension

    make_high_dimension(experiment, results=options.results)


def _ledger(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.ledger import derive, make_ledger

    if options.logs is not None:
        print(derive(options.logs, results=options.results).described())
    print(make_ledger(experiment, results=options.results))


def _page(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.steps.page import make_page

    print(make_page(experiment, results=options.results))


def _plan(options: argparse.Namespace, experiment: Experiment) -> None:
    from certsmooth.experiment.plan import BENCHMARKS, make_plan

    check_integer("--devices", options.devices, minimum=1)
    check_number("--hours", options.hours, above=0)
    limits = {"devices": options.devices, "limit": options.hours}
    table = None if options.table is None else Path(options.table).name.removesuffix(".md")
    if table is not None:
        check_choice("table", table, experiment.params.tables)
    print(make_plan(experiment, results=options.results, benchmarks=BENCHMARKS, table=table, **limits), end="")


def _certify_images(options: argparse.Namespace) -> None:
    from certsmooth.experiment.steps.certify_images import certify_images

    found = certify_images(
        options.checkpoint,
        options.images,
        sigma=options.sigma,
        samples=(options.n0, options.n),
        alpha=options.alpha,
        seed=options.seed,
        size=options.size,
        trusted=options.trust,
        output=options.output,
        device=_device(options),
    )
    print(found, end="")


_MODEL = re.compile(
    r"(?P<dataset>[^/]+)/(?P<training>[^/]+)/sigma=(?P<sigma>[^/]+)/seed=(?P<seed>[0-9]+)/(?P<grid>[^/]+)"
)
_BATCH = re.compile(r"(?P<dataset>[^/]+)/(?P<method>[^/]+)/seed=(?P<seeds>[0-9]+(\+[0-9]+)*)")


def _model_run(name: str, experiment: Experiment) -> runs.ModelRun:
    found = _MODEL.fullmatch(name)
    if found is None:
        raise ConfigError(f"{name!r}: no base classifier; must be as digits/gaussian/sigma=0.25/seed=0/default")
    dataset, training, params = found["dataset"], found["training"], experiment.params
    check_choice("data set", dataset, params.datasets)
    check_choice("training", training, params.trainings)
    known = runs.model_grid_points(params, dataset, training)
    grid = runs.find_grid_point(known, found["grid"], key=f"{training}: grid point")
    try:
        sigma = float(found["sigma"])
    except ValueError as error:
        raise ConfigError(f"{name!r}: sigma {found['sigma']!r}; must be a number") from error
    return runs.ModelRun(dataset, training, check_number("sigma", sigma, minimum=0), int(found["seed"]), grid)


def _routers(name: str, experiment: Experiment) -> tuple[str, str, int]:
    """Return data set, training and seed of the routers that a name is about."""
    found, params = _BATCH.fullmatch(name), experiment.params
    if found is None or "+" in found["seeds"]:
        raise ConfigError(f"{name!r}: no router's training with a seed; must be as digits/router/seed=0")
    check_choice("data set", found["dataset"], params.datasets)
    check_choice("training", found["method"], [each for each in params.our_trainings if params.routes_of(each)])
    return found["dataset"], found["method"], int(found["seeds"])


def _batch(name: str) -> tuple[str, str, tuple[int, ...]]:
    found = _BATCH.fullmatch(name)
    if found is None:
        raise ConfigError(f"{name!r}: no runs of a method; must be as digits/cohen/seed=0 or digits/cohen/seed=1+2")
    seeds = tuple(map(int, found["seeds"].split("+")))
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"{name!r}: a seed twice; must differ")
    return found["dataset"], found["method"], seeds


def _row(options: argparse.Namespace, of_table: Callable[[str, str], Batch[S]]) -> Batch[S]:
    """Return what is made for a row of a table."""
    dataset, method, seeds = _batch(options.name)
    batch = of_table(dataset, method)
    if batch.seeds != seeds:
        raise ConfigError(f"{options.name}: the table has {batch.name}; must be that")
    return batch


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
    "train": (
        _train,
        "Train one base classifier, or take a given one; goes on after the last finished epoch if it was killed.",
    ),
    "import": (_import, "Make a checkpoint of weights that another program trained, if they classify as they should."),
    "label": (_label, "Label the unlabelled images by a classifier's predictions, for self-training."),
    "route": (_route, "Label the training images for a router: which expert has the largest radius at each."),
    "sample": (_sample, "Count the classes of noisy copies of each image; goes on with the next image."),
    "certify": (_certify, "Turn counts into certificates: prediction and radius of each image."),
    "attack": (_attack, "Attack images that were sampled, and count the classes at what the attack found."),
    "order-cost": (_order_cost, "Compute what the memory costs runs, by the order of arrival."),
    "break-certificates": (_break_certificates, "Look inside certified balls for points of another class."),
    "table": (_table, "Compare methods: a table (Markdown, CSV, JSON) and its figure (SVG, PNG)."),
    "theory": (_theory, "Write what IDRS shows without data: Table 1 and Figures 2, 3 and 11 to 14."),
    "toy": (_toy, "Draw the toy experiment of IDRS in the plane: Figures 1 and 5 to 9."),
    "pictures": (_pictures, "Draw test images at their smallest and largest sigma(x): Figure 6 of DDRS."),
    "high-dimension": (_high_dimension, "Write what IDRS would certify in high dimension from given certificates."),
    "ledger": (_ledger, "List every published number beside the authors' files and ours, with a verdict on each."),
    "page": (_page, "Show the tables that are there, curves and images as one page, index.html."),
    "plan": (_plan, "Print what the experiment costs: jobs, and hours of those like which some were run."),
}
_NAMES = {
    ("data",): "a key of datasets",
    ("train", "label"): "base classifier: DATASET/TRAINING/sigma=SIGMA/seed=SEED/GRID, as digits/gaussian/sigma=0.25/"
    "seed=0/default; GRID: values of the options that are lists",
    ("sample", "certify"): "runs: DATASET/METHOD/seed=SEEDS, as digits/cohen/seed=0 or digits/cohen/seed=1+2",
    ("attack", "order-cost", "break-certificates"): "a row of the table: DATASET/METHOD/seed=SEED",
    ("route",): "a router's training: DATASET/TRAINING/seed=SEED, as digits/router/seed=0",
    ("table",): "a key of tables",
}


_MODEL_EXAMPLE, _RUN_EXAMPLE = "digits/gaussian/sigma=0.25/seed=0/default", "digits/cohen/seed=0"
_EXAMPLES = {
    "data": "digits",
    "train": _MODEL_EXAMPLE,
    "import": "theirs.pth.tar --dataset cifar10-resnet110 --sigma 0.25 --output published/peer0.25.safetensors",
    "label": "digits-half-labelled/standard/sigma=0.25/seed=0/default",
    "route": "digits/router/seed=0",
    "sample": f"{_RUN_EXAMPLE} --shard 0/4",
    "certify": _RUN_EXAMPLE,
    "attack": f"{_RUN_EXAMPLE} --table empirical --attack pgd",
    "order-cost": "digits/cohen-ds/seed=0 --table soundness",
    "break-certificates": f"{_RUN_EXAMPLE} --table soundness",
    "table": "table1",
    "ledger": "--logs ../shared/reference/logs",
    "plan": "results/table1.md --devices 4",
    "certify-images": "published/peer0.25.safetensors photos --sigma 0.25 --size 32 --output pictures",
}
"""What follows a verb in the example of its help."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="certsmooth",
        description="Train, smooth and certify image classifiers by randomized smoothing. Each verb is one step of the "
        "workflow (see Snakefile); all read params.yaml, and find and leave their files in the folder of the results.",
    )
    parser.add_argument("--version", action="version", version=f"certsmooth {version('certsmooth')}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--params", type=Path, default=Path("params.yaml"), help="configuration (default: %(default)s)")
    common.add_argument("--results", type=Path, default=Path("results"), help="folder (default: %(default)s)")
    parsers = parser.add_subparsers(required=True, metavar="VERB")
    verbs = {}
    for name, (function, text) in _VERBS.items():
        verbs[name] = parsers.add_parser(name, **_told(name, text), parents=[common])
        verbs[name].set_defaults(run=partial(_with_experiment, function))
    text = "Certify image files by a checkpoint alone, and print a table; needs no params.yaml."
    verbs["certify-images"] = parsers.add_parser("certify-images", **_told("certify-images", text))
    verbs["certify-images"].set_defaults(run=_certify_images)

    def add(names: Sequence[str], option: str, **settings: Any) -> None:  # noqa: ANN401 - as add_argument
        for name in names:
            verbs[name].add_argument(option, **settings)

    for names, text in _NAMES.items():
        add(names, "name", help=text)
    add(["sample"], "--shard", default="0/1", help="which, from 0, of how many (default: %(default)s)")
    add(["attack"], "--table", required=True, help="a key of tables, of the kind empirical")
    add(["attack"], "--attack", required=True, help="a key of that table's attacks")
    add(["order-cost", "break-certificates"], "--table", required=True, help="a key of tables, of the kind soundness")
    _add_import(partial(add, ["import"]))
    _add_certify_images(partial(add, ["certify-images"]))
    on_device = ("train", "import", "label", "sample", "attack", "break-certificates", "certify-images")
    add(on_device, "--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
    add(on_device, "--threads", type=int, help="CPU threads (default: all)")
    logs = "folder of per-image files that authors released: derive published numbers from them first, and print those "
    logs += "that they do not give (default: the derived values that come with the package)"
    add(["ledger"], "--logs", type=Path, metavar="FOLDER", help=logs)
    add(["plan"], "table", nargs="?", help="a key of tables, or results/NAME.md: its jobs alone (default: of all)")
    add(["plan"], "--devices", type=int, default=1, help="GPUs, or cores, for the wall clock (default: %(default)s)")
    add(["plan"], "--hours", type=float, default=8.0, help="what a job may take, for shards (default: %(default)s)")
    return parser


def _told(verb: str, text: str) -> dict[str, Any]:
    example = f"example: certsmooth {verb} {_EXAMPLES.get(verb, '')}"
    whole_lines = argparse.RawDescriptionHelpFormatter  # that an example can be copied
    return {"help": text, "description": text, "epilog": example, "formatter_class": whole_lines}


def _add_import(add: Callable[..., None]) -> None:
    add("file", type=Path, help="a state_dict: of torch.save (.pt, .pth, .pth.tar), or safetensors")
    add("--dataset", required=True, help="a key of datasets: on whose test images it is measured")
    add("--sigma", type=float, required=True, help="of the noise that it was trained with; 0 for none")
    add("--output", type=Path, required=True, help="the checkpoint, for trainings.NAME.given")
    add("--architecture", help="a name, or JSON as of params.yaml (default: the one whose tensors these are)")
    text = "none, cifar10, imagenet, or means/stds as 0.5,0.5,0.5/0.25,0.25,0.25 (default: that of its program)"
    add("--normalisation", help=text)
    add("--prefix", default="", help="what to take from the start of the tensors' names, as model.")
    add("--images", type=int, default=1000, help="test images to measure it on (default: %(default)s)")
    text = (
        "take it in spite of a warning, if this is the accuracy that its authors report and that is measured, as 0.42"
    )
    add("--accept-accuracy", type=float, help=text)


def _add_certify_images(add: Callable[..., None]) -> None:
    add("checkpoint", type=Path, help="of certsmooth")
    add("images", type=Path, nargs="+", help="PNG or JPEG files, or folders of such")
    add("--sigma", type=float, required=True, help="of the noise, in pixels from 0 to 1")
    add("--n0", type=int, default=100, help="samples that select the class (default: %(default)s)")
    add("--n", type=int, default=1000, help="samples that bound its probability (default: %(default)s)")
    text = "each certificate is wrong with at most this probability (default: %(default)s)"
    add("--alpha", type=float, default=0.001, help=text)
    add("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    add("--size", type=int, help="resize the shorter side to this, and cut out the middle of the network's size")
    add("--output", type=Path, metavar="FOLDER", help="for a picture of each: the image, with noise, and its counts")
    text = "a package whose code may run, for a network that is imported from one (docs/security.md)"
    add("--trust", action="append", default=[], metavar="PACKAGE", help=text)


if __name__ == "__main__":
    sys.exit(main())
