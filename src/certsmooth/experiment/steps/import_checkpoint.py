"""Make a checkpoint of weights that another program trained."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from certsmooth._internal.checks import check_number
from certsmooth._internal.external import Architecture, check_trusted, read_architecture
from certsmooth._internal.registry import names
from certsmooth._internal.storage import exclusive, file_digest
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.checkpoint import CheckpointHeader
from certsmooth.artefacts.foreign import read_foreign
from certsmooth.artefacts.provenance import made_by
from certsmooth.errors import CheckpointError, ConfigError
from certsmooth.experiment.specs import DataSpec
from certsmooth.experiment.steps.data import load_data
from certsmooth.science import models
from certsmooth.science.audit.preprocessing import KNOWN, Tried, agrees, problem, try_ways
from certsmooth.science.datasets import Dataset
from certsmooth.science.models import BaseClassifier, ModelSpec, Normalisation
from certsmooth.science.models._layouts import Layout, as_ours


def import_checkpoint(
    path: Path,
    output: Path,
    *,
    data: DataSpec,
    architecture: str | None,
    normalisation: str | None,
    prefix: str,
    sigma: float,
    images: int,
    accepted: float | None,
    trusted: Collection[str],
    device: torch.device,
) -> str:
    """Read weights, measure what they classify correctly, and write a checkpoint if that is as it should be.

    Args:
        path: the file, see `certsmooth.artefacts.foreign`.
        output: the checkpoint.
        data: whose test images it is measured on, evenly spaced over the split.
        architecture: a name, or JSON as in params.yaml; None for ours whose tensors these are.
        normalisation: a name of `KNOWN`, or means/stds; None for what the file, or its program, says.
        prefix: of the tensors' names, to be taken away.
        sigma: of the training noise, in pixel coordinates [0, 1].
        images: how many.
        accepted: the accuracy that its authors report; None for not known.
        trusted: packages whose code may run.
        device: where to measure.

    Returns:
        What was measured, as a table in Markdown.

    Raises:
        CheckpointError: the file cannot be read, its tensors fit no such network, or the accuracy is too low, or would
            be higher with another preprocessing or order of classes; names what does not fit and what was tried.
        ConfigError: an option is wrong, or an architecture would run code that is not trusted.
        DataError: the images are not there.
    """
    state, dataset = read_foreign(path), load_data(data)
    classifier, layout = _fitted(path, state.tensors, _asked(architecture, trusted), dataset, prefix)
    spec = replace(classifier.spec, normalisation=_normalisation(normalisation, layout, dataset.image_shape))
    test = dataset.test()
    positions = np.unique(np.linspace(0, len(test) - 1, min(images, len(test))).astype(np.int64))
    labels = test.labels[positions]
    tried = try_ways(classifier.network, spec, test.batch(positions), labels, sigma=sigma, device=device)
    table = _table(tried, sigma, f"{len(labels)} test images of {data.dataset} ({dataset.description})")
    _check(path, tried, problem(tried, labels), accepted, table)
    measured = {"images": len(labels), "split": "test", "fingerprint": test.fingerprint, "accuracy": tried[0].accuracy}
    header = CheckpointHeader(
        model=spec,
        spec={"data": data.identity, "measured": {**measured, "sigma": sigma, "clean_accuracy": tried[0].clean}},
        sigma=sigma,
        dataset_fingerprint=None,
        images=None,
        images_fingerprint=None,
        pixel_range=dataset.pixel_range,
        device=None,
        made_by=made_by(),
        given={"sha256": file_digest(path), "file": path.name, "names_under": layout.under, "about": state.about},
    )
    with exclusive(output, error=CheckpointError):
        checkpoint.save(output, BaseClassifier(spec, classifier.network), header)
    return f"{output}: {spec.architecture}\n\n{table}"


def _asked(text: str | None, trusted: Collection[str]) -> Architecture | None:
    if text is None:
        return None
    try:
        asked = read_architecture(json.loads(text) if text.lstrip().startswith("{") else text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--architecture: {text!r}: {error}") from error
    check_trusted(asked, trusted, remedy="add {!r} to the list `trusted` of params.yaml")
    return asked


def _fitted(
    path: Path, tensors: Mapping[str, Tensor], asked: Architecture | None, dataset: Dataset, prefix: str
) -> tuple[BaseClassifier, Layout]:
    """Return the network with the weights; of several of ours that could be meant, the one that they fit."""
    wrong: dict[str, str] = {}
    for architecture in [asked] if asked is not None else names("models"):
        try:
            classifier = models.build(ModelSpec(architecture, dataset.image_shape, dataset.num_classes), seed=0)
            layout = as_ours(tensors, classifier.network.state_dict(), prefix=prefix)
        except (CheckpointError, ConfigError) as error:
            if asked is not None:
                raise CheckpointError(f"{path}: {architecture}: {error}") from error
            wrong[str(architecture)] = str(error)
            continue
        classifier.network.load_state_dict(layout.tensors)
        return classifier, layout
    shown = ", ".join(f"{name} {list(each.shape)}" for name, each in list(tensors.items())[:4])
    raise CheckpointError(
        f"{path}: {len(tensors)} tensors, {shown}, ...: of none of {', '.join(wrong)} for images "
        f"{list(dataset.image_shape)} and {dataset.num_classes} classes; --architecture NAME says what does not fit"
    )


def _normalisation(text: str | None, layout: Layout, image_shape: Sequence[int]) -> Normalisation | None:
    if text is None:
        if layout.normalisation is not None or not layout.under or image_shape[0] != 3:
            return layout.normalisation
        return KNOWN["cifar10" if max(image_shape[1:]) <= 64 else "imagenet"]
    if text in KNOWN:
        return KNOWN[text]
    try:
        mean, std = (tuple(map(float, part.split(","))) for part in text.split("/"))
    except ValueError as error:
        right = f"must be {', '.join(KNOWN)}, or means/stds as 0.5,0.5,0.5/0.25,0.25,0.25"
        raise ConfigError(f"--normalisation: {text!r}; {right}") from error
    return Normalisation(mean, std)


def _check(path: Path, tried: Sequence[Tried], wrong: str | None, accepted: float | None, table: str) -> None:
    if accepted is not None:
        check_number("--accept-accuracy", accepted, minimum=0, maximum=1)
        if not agrees(tried[0], accepted):
            raise CheckpointError(
                f"{path}: refused: accuracy {tried[0].clean:.1%}, with noise {tried[0].accuracy:.1%}; not the "
                f"{accepted:.1%} of --accept-accuracy\n\n{table}"
            )
    elif wrong is not None:
        raise CheckpointError(
            f"{path}: refused: probably wrong is {wrong}; change it (--normalisation, --architecture), or say which "
            f"accuracy its authors report (--accept-accuracy)\n\n{table}"
        )


def _table(tried: Sequence[Tried], sigma: float, what: str) -> str:
    lines = [f"Accuracy on {what}, with noise of sigma {sigma:g}:", ""]
    lines += ["| preprocessing | accuracy | after the best order of the classes |", "| --- | ---: | ---: |"]
    lines += [f"| {each.name} | {each.accuracy:.1%} | {each.reordered:.1%} |" for each in tried]
    return "\n".join([*lines, "", f"As chosen, without noise: {tried[0].clean:.1%}", ""])
