"""Train one base classifier."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from certsmooth._internal.seeds import derive_seed
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import read_record
from certsmooth.artefacts.training_state import train_resumably
from certsmooth.experiment.steps.data import DataChoice, load_part
from certsmooth.experiment.steps.label import UnlabelledChoice, with_pseudo_labels
from certsmooth.science.models import ModelSpec, build, numerics
from certsmooth.science.objectives import TrainingObjective
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.training import Recipe

if TYPE_CHECKING:
    from certsmooth.experiment.runs import ModelRun


def train_model(
    run: ModelRun,
    *,
    choice: DataChoice,
    record: Path,
    spec: ModelSpec,
    objective: TrainingObjective,
    policy: SigmaPolicy,
    recipe: Recipe,
    noise: str = "gaussian",
    description: dict[str, Any],
    device: torch.device,
    start: Path | None,
    pseudo_labels: tuple[UnlabelledChoice, Path] | None,
    output: Path,
    log: Path,
) -> None:
    """Train a base classifier and write its checkpoint; a killed run goes on after its last finished epoch.

    Args:
        run: which one; its sigma and seed go into the checkpoint.
        choice: which data.
        record: their record.
        spec: the base classifier.
        objective: what is minimised.
        policy: sigma of each training example.
        recipe: how.
        noise: a member of certsmooth.science.noise: that of the training.
        description: names and options of objective, policy and recipe, for the checkpoint's header.
        device: where to train.
        start: a checkpoint whose weights to start from; None for random ones.
        pseudo_labels: unlabelled images and the labels of `experiment.steps.label`, to be trained on as well.
        output: the checkpoint (safetensors).
        log: one line per epoch (CSV).
    """
    content = read_record(record)
    training, validation = (load_part(choice, part, content) for part in ("training", "validation"))
    used = training
    if pseudo_labels is not None:
        unlabelled, labels = pseudo_labels
        used = with_pseudo_labels(training, unlabelled=unlabelled, record=content, labels=labels)
    if policy.uses_training_images:
        policy = policy.fit(training.images, training.labels)
    output.parent.mkdir(parents=True, exist_ok=True)
    state = output.with_name(f".{output.name}.state")
    classifier = build(spec, seed=derive_seed(run.seed, "initialisation"))
    if start is not None:
        checkpoint.start_from(start, classifier)
    with numerics(spec.numeric_type):  # the backward pass in the arithmetic of the forward pass
        train_resumably(
            classifier,
            used,
            validation,
            objective=objective,
            policy=policy,
            recipe=recipe,
            noise=noise,
            seed=derive_seed(run.seed, "training"),
            device=device,
            state_path=state,
            log_path=log,
        )
    header = checkpoint.CheckpointHeader(
        model=spec,
        pixel_range=content["pixel_range"] and tuple(content["pixel_range"]),
        sigma=run.sigma,
        training=description
        | {
            "recipe": asdict(recipe),
            "noise": noise,
            "device": device.type,
            "images": len(used),
            "images_fingerprint": used.fingerprint,
        },
        dataset=run.dataset,
        dataset_fingerprint=training.fingerprint,
        seed=run.seed,
        **vars(made_by()),
    )
    checkpoint.save(output, classifier, header)
    state.unlink(missing_ok=True)  # another run, which waited for this one, may have done so
