"""Train one base classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from certsmooth._internal.options import make
from certsmooth._internal.seeds import derive_seed
from certsmooth._internal.storage import exclusive
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import read_record
from certsmooth.artefacts.training_state import StateFile
from certsmooth.errors import CheckpointError
from certsmooth.experiment.base_classifier import model_of
from certsmooth.experiment.build import build
from certsmooth.experiment.specs import TrainSpec
from certsmooth.experiment.steps.data import load_part, without_fold
from certsmooth.experiment.steps.label import with_pseudo_labels
from certsmooth.experiment.steps.routed import with_routes
from certsmooth.science import models
from certsmooth.science.datasets import Split
from certsmooth.science.models import BaseClassifier, DenoiserSpec, numerics
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.training.loop import train
from certsmooth.science.training.recipe import Recipe


def train_model(spec: TrainSpec, *, results: Path, device: torch.device) -> None:
    """Train a base classifier and write its checkpoint; a killed run goes on after its last finished epoch.

    Args:
        spec: what to train.
        results: the folder of the results; the log, one line per epoch (CSV), lies beside the checkpoint.
        device: where to train.

    Raises:
        DataError: the data, or the labels of a teacher, are missing, damaged, or of something else.
        CheckpointError: so is the checkpoint to start from, or another run is writing this one.
    """
    chosen, sigma_policy, noise = spec.objective, spec.policy, spec.noise
    if chosen is None or sigma_policy is None or noise is None:
        raise CheckpointError(f"{spec.name}: is the file {spec.given}; nothing of it can be trained")
    output = results / spec.path
    record = read_record(results / spec.data.path, spec=spec.data.identity)
    training, validation = (load_part(spec.data, part, record) for part in ("training", "validation"))
    seen = without_fold(training, spec.fold)
    used, weights = _examples(seen, spec, record, results)
    policy: SigmaPolicy = build("sigma", sigma_policy, sigma=spec.sigma, key=f"trainings.{spec.training}.policy")
    if policy.uses_training_images:
        policy = policy.fit(seen.images, seen.labels)
    with exclusive(output, error=CheckpointError):
        state = output.with_name(f".{output.name}.state")
        classifier = _initial(spec, record, results)
        with numerics(spec.numeric_type):  # the backward pass in the arithmetic of the forward pass
            train(
                classifier,
                used,
                weights=weights,
                objective=build("objectives", chosen, key=f"trainings.{spec.training}.objective"),
                sigma=policy,
                recipe=make(Recipe, spec.recipe, f"datasets.{spec.data.dataset}.recipe"),
                noise=noise,
                seed=derive_seed(spec.seed, "training"),
                device=device,
                validation=validation if spec.routes is None else None,  # its labels are no experts
                keeper=StateFile(state, results / spec.log_path),
                progress=True,
            )
        header = checkpoint.CheckpointHeader(
            model=classifier.spec,
            spec=spec.identity,
            sigma=spec.sigma,
            dataset_fingerprint=training.fingerprint,
            images=len(used),
            images_fingerprint=used.fingerprint,
            pixel_range=record["pixel_range"] and tuple(record["pixel_range"]),
            device=device.type,
            made_by=made_by(),
        )
        checkpoint.save(output, classifier, header)
        state.unlink(missing_ok=True)


def _examples(
    seen: Split, spec: TrainSpec, record: Mapping[str, Any], results: Path
) -> tuple[Split, npt.NDArray[np.float64]]:
    """Return what is trained on, and the weight of each image in the loss."""
    if spec.routes is not None:
        return with_routes(seen, spec.routes, record, results=results)
    used = seen if spec.labels is None else with_pseudo_labels(seen, spec.labels, record, results=results)
    return used, np.where(np.arange(len(used)) < len(seen), 1.0, spec.label_weight)


def _initial(spec: TrainSpec, record: Mapping[str, Any], results: Path) -> BaseClassifier:
    """Return the classifier as it is before the first epoch."""
    key = f"datasets.{spec.data.dataset}"
    classes = record["num_classes"] if spec.routes is None else len(spec.routes.experts)
    model = model_of(spec, image_shape=record["image_shape"], num_classes=classes, key=key)
    if spec.denoiser is not None:
        model = replace(model, denoiser=DenoiserSpec(spec.denoiser.name, spec.denoiser.options))
    classifier = models.build(model, seed=derive_seed(spec.seed, "initialisation"))
    if spec.start is not None:
        checkpoint.start_from(results / spec.start.path, classifier, expect={"spec": spec.start.identity})
    elif spec.start_file is not None:
        checkpoint.start_from(Path(spec.start_file), classifier)
    return classifier
