"""Checkpoints: the weights of a base classifier and how they came about, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from certsmooth._internal.checks import check_integer, check_number
from certsmooth._internal.external import check_trusted, packages_of
from certsmooth._internal.later import LATER, stated
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.provenance import MadeBy
from certsmooth.artefacts.tensors import read_tensors, write_tensors
from certsmooth.errors import CheckpointError, ConfigError
from certsmooth.science.models import BaseClassifier, ModelSpec, build

FORM = Form("checkpoint 3", "train again", CheckpointError)


@dataclass(frozen=True, kw_only=True)
class CheckpointHeader:
    """What a checkpoint was made for, made from and made by.

    Attributes:
        model: the base classifier's architecture, shapes, normalisation and arithmetic.
        spec: what was trained, as JSON holds it: data set, sigma, seed, objective, sigma policy, recipe, ...
        sigma: the sigma0 of the training noise, in pixel coordinates [0, 1]; 0 for training without noise.
        dataset_fingerprint: of the training split, without images that a classifier labelled. Of one that was trained
            elsewhere: of the data set that it stands for; None for that of none yet.
        images: that it was trained on; None if it was trained elsewhere.
        images_fingerprint: of those; None likewise.
        pixel_range: of the data set; None for toy data without one.
        device: the kind of device that it was trained on; None likewise.
        made_by: what trained it, or made this file.
        given: of one that was trained elsewhere, the file that it comes from: its SHA-256 and what is known of it.

    Raises:
        ConfigError: sigma is negative or not finite, or there are no images.
    """

    model: ModelSpec
    spec: dict[str, Any]
    sigma: float
    dataset_fingerprint: str | None
    images: int | None
    images_fingerprint: str | None
    pixel_range: tuple[float, float] | None
    device: str | None
    made_by: MadeBy
    given: dict[str, Any] | None = field(default=None, metadata={LATER: None})

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, minimum=0)
        if self.images is not None:
            check_integer("images", self.images, minimum=1)


def save(path: Path, classifier: BaseClassifier, header: CheckpointHeader) -> None:
    """Write a checkpoint; the file at ``path`` is replaced only by a complete one.

    Args:
        path: the file; its folder must exist.
        classifier: on any device. A frozen one may have rounded weights; training cannot go on from those.
        header: its ``model`` must be the classifier's.

    Raises:
        CheckpointError: the header describes another model, or the file cannot be written; names the path.
    """
    if header.model != classifier.spec:
        raise CheckpointError(f"{path}: the header is about {header.model}; the classifier is {classifier.spec}")
    state = classifier.network.state_dict()
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    write_tensors(path, FORM, tensors, stated(header))


def load(
    path: Path,
    *,
    expect: Mapping[str, object] | None = None,
    device: torch.device | str = "cpu",
    trainable: bool = False,
    trusted: Collection[str] = (),
) -> tuple[BaseClassifier, CheckpointHeader]:
    """Read a checkpoint.

    Args:
        path: the file.
        expect: what it must have been made for: fields of the header, each whole.
        device: where the classifier goes.
        trainable: return float32 weights in training mode, to go on training, instead of the frozen program.
        trusted: packages whose code may run, for an architecture that is imported from one.

    Returns:
        The classifier, frozen unless ``trainable``, and the header.

    Raises:
        CheckpointError: the file cannot be read, is truncated, altered, foreign or of another format version,
            holds tensors that do not fit the architecture, was made for something else, or is of an architecture that
            would be imported from a package that is not trusted; names the file and the entry.
    """
    tensors, content = read_tensors(path, FORM)
    header = FORM.decoded(CheckpointHeader, path, content)
    FORM.check(path, content, json.loads(json.dumps(dict(expect or {}))))
    try:
        check_trusted(header.model.architecture, trusted, remedy="say trusted=[{!r}]")
        classifier = build(header.model, seed=0)
    except ConfigError as cause:
        raise CheckpointError(f"{path}: {cause}") from cause
    FORM.check(path, {"tensors": _kinds(tensors)}, {"tensors": _kinds(classifier.network.state_dict())})
    classifier.network.load_state_dict(tensors)
    return (classifier if trainable else classifier.freeze()).to(device), header


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def start_from(
    path: Path, classifier: BaseClassifier, *, expect: Mapping[str, object] | None = None
) -> CheckpointHeader:
    """Give a classifier the weights of a checkpoint, to train on from there (pre-training).

    Where the two differ in the number of classes, tensors whose shape depends on it stay as they are. Normalisation
    and arithmetic are those of the classifier. A network behind a denoiser gets the weights of one without, whose
    normalisation must be the same.

    Args:
        path: the file.
        classifier: trainable, changed in place.
        expect: what the checkpoint must have been made for, as in `load`.

    Returns:
        The header of the checkpoint.

    Raises:
        CheckpointError: as `load`, or it has another architecture or image shape; names both.
    """
    trusted = packages_of(classifier.spec.architecture)
    loaded, header = load(path, expect=expect, trainable=True, trusted=trusted)
    network, model, same = classifier.network, classifier.spec, ["architecture", "image_shape", "denoiser"]
    if model.denoiser is not None and header.model.denoiser is None:
        network, model = network.get_submodule("classifier"), replace(model, denoiser=None)
        same.append("normalisation")  # it stays as it is, so no training could make up for another one
    for name in same:
        found, wanted = getattr(header.model, name), getattr(model, name)
        if found != wanted:
            raise CheckpointError(f"{path}: {name} is {found!r}; a start for this training must have {wanted!r}")
    target, source = network.state_dict(), loaded.network.state_dict()
    fitting = {name: tensor for name, tensor in source.items() if tensor.shape == target[name].shape}
    network.load_state_dict({**target, **fitting})
    return header
