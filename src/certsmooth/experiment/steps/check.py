"""Check that what params.yaml asks for can start here: files that must be there, and models that fit the images."""

from __future__ import annotations

from pathlib import Path

from certsmooth._internal.options import make
from certsmooth._internal.registry import member
from certsmooth.errors import ConfigError
from certsmooth.experiment import runs
from certsmooth.experiment.base_classifier import model_of
from certsmooth.experiment.build import build as build_member
from certsmooth.experiment.build import under
from certsmooth.experiment.config import GivenTraining, Params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.steps.data import load_data
from certsmooth.science.models import ModelSpec, build, check_shape
from certsmooth.science.training.recipe import Recipe


def check_start(params: Params) -> None:
    """Check what the base classifiers of all tables and figures need; other entries of params.yaml may lack theirs.

    Raises:
        ConfigError: a source or another file is not there, the architecture or the recipe does not take the images, or
            a training starts from a file, or is one, that is no checkpoint for it; the key is named.
    """
    models = runs.all_models(params)
    specs = {dataset: _check_dataset(params, dataset) for dataset in dict.fromkeys(run.dataset for run in models)}
    for dataset, training in dict.fromkeys((run.dataset, run.training) for run in models):
        if training in params.our_trainings:
            _check_training(params, dataset, training, specs[dataset])
    for run in models:
        if (given := params.given_trainings.get(run.training)) is not None:
            _check_given(run, given, specs[run.dataset])
    shown = [(run.method, run.file) for table in params.tables for run in runs.published_runs(params, table)]
    shown += [(name, file) for name, _, file in runs.high_dimension_files(params)]
    for method, file in shown:
        _check_there(f"methods.{method}.certificates", file)


def _check_dataset(params: Params, dataset: str) -> ModelSpec:
    """Check a data set's source and its architecture, and return the base classifier."""
    chosen, key = params.datasets[dataset], f"datasets.{dataset}"
    if chosen.source is not None:
        _check_there(f"{key}.source", chosen.source)
    data = Experiment(params).data(dataset)
    form = getattr(member("datasets", data.member), "PUBLISHED", None)
    if form is None or chosen.source is None:  # nothing is read: the data are made, or come by download
        form = under(f"{key}.source", load_data, data)
    spec = model_of(chosen, image_shape=form.image_shape, num_classes=form.num_classes, key=key)
    under(f"{key}.architecture", check_shape, spec)
    return spec


def _check_training(params: Params, dataset: str, name: str, spec: ModelSpec) -> None:
    entry, training = params.datasets[dataset], runs.resolved_training(params, dataset, name)
    recipe = make(Recipe, runs.recipe(params, dataset, name), f"datasets.{dataset}.recipe")
    under(f"datasets.{dataset}.recipe: for training {name!r}", recipe.check_images, spec.image_shape)
    if training.denoiser is not None:
        denoiser = build_member("denoisers", training.denoiser, key=f"trainings.{name}.denoiser")
        under(f"trainings.{name}.denoiser: for dataset {dataset!r}", denoiser.check_shape, spec.image_shape)
    if training.teacher is not None and entry.unlabelled is not None and entry.unlabelled.source is not None:
        _check_there(f"datasets.{dataset}.unlabelled.source", entry.unlabelled.source)
    if training.start is not None and training.start.checkpoint is not None:
        from certsmooth.artefacts import checkpoint  # here, as it loads torch

        path, classifier = Path(training.start.checkpoint), build(spec, seed=0)
        under(f"trainings.{name}.start.checkpoint", checkpoint.start_from, path, classifier)


def _check_given(run: runs.ModelRun, given: GivenTraining, spec: ModelSpec) -> None:
    from certsmooth.experiment.steps.given import load_given  # here, as it loads torch

    key, file = f"trainings.{run.training}.given", given.file(run.sigma, run.seed)
    _check_there(key, file)
    architecture = given.architecture or spec.architecture
    under(key, load_given, Path(file), architecture, spec.image_shape, spec.num_classes)


def _check_there(key: str, file: str) -> None:
    if not Path(file).exists():
        raise ConfigError(f"{key}: {file!r}; no such file or folder; must be there for what params.yaml asks for")
