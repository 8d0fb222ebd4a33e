"""Checkpoints: the weights of a base classifier and how they came about, in one safetensors file.

The file's metadata hold one JSON record: the format's version, the header, and a SHA-256 of the whole file
(computed with zeros in the place of the checksum). Equal content gives equal bytes, and nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from certsmooth._internal.checks import store_integer, store_number
from certsmooth._internal.storage import atomic_write, decode_record
from certsmooth.artefacts.identity import check_identity
from certsmooth.artefacts.provenance import MadeBy
from certsmooth.errors import CheckpointError, ConfigError
from certsmooth.science.models import BaseClassifier, ModelSpec, build

FORMAT_VERSION = 2

_KEY = "certsmooth"
_NO_CHECKSUM = "0" * 64
# The record as it stands in the file, a JSON string inside JSON, up to the checksum.
_CHECKSUM_FOLLOWS = f'"{_KEY}":"{{\\"sha256\\":\\"'.encode()


@dataclass(frozen=True, kw_only=True)
class CheckpointHeader(MadeBy):
    """What a checkpoint was made for, made from and made by.

    Attributes:
        model: the base classifier's architecture, shapes, normalisation and arithmetic.
        spec: what was trained, as JSON holds it: data set, sigma, seed, objective, sigma policy, recipe, ...
        sigma: the sigma0 of the training noise, in pixel coordinates [0, 1]; 0 for training without noise.
        dataset_fingerprint: of the training split, without images that a classifier labelled.
        images: that it was trained on.
        images_fingerprint: of those.
        pixel_range: of the data set; None for toy data without one.
        device: the kind of device that it was trained on.

    Raises:
        ConfigError: sigma is negative or not finite, or there are no images.
    """

    model: ModelSpec
    spec: dict[str, Any]
    sigma: float
    dataset_fingerprint: str
    images: int
    images_fingerprint: str
    pixel_range: tuple[float, float] | None
    device: str

    def __post_init__(self) -> None:
        store_number(self, "sigma", minimum=0)
        store_integer(self, "images", minimum=1)


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
    tensors = {name: _stored(tensor) for name, tensor in classifier.network.state_dict().items()}
    data = _encode(path, tensors, dataclasses.asdict(header))
    with atomic_write(path, error=CheckpointError) as file:
        file.write(data)


def load(
    path: Path,
    *,
    expect: Mapping[str, object] | None = None,
    device: torch.device | str = "cpu",
    trainable: bool = False,
) -> tuple[BaseClassifier, CheckpointHeader]:
    """Read a checkpoint.

    Args:
        path: the file.
        expect: what it must have been made for: fields of the header, each whole.
        device: where the classifier goes.
        trainable: return float32 weights in training mode, to go on training, instead of the frozen program.

    Returns:
        The classifier, frozen unless ``trainable``, and the header.

    Raises:
        CheckpointError: the file cannot be read, is truncated, altered, foreign or of another format version,
            holds tensors that do not fit the architecture, or was made for something else; names the file and
            the entry.
    """
    data = _read(path)
    header = _decode(path, data)
    right = json.loads(json.dumps(dict(expect or {})))
    found = json.loads(json.dumps(dataclasses.asdict(header)))
    check_identity(path, found, right, remedy="made for something else; train again", error=CheckpointError)
    try:
        classifier = build(header.model, seed=0)
    except ConfigError as cause:
        raise CheckpointError(f"{path}: {cause}") from cause
    _fill(path, classifier.network, safetensors.torch.load(data))
    return (classifier if trainable else classifier.freeze()).to(device), header


def read_header(path: Path) -> CheckpointHeader:
    """Read what a checkpoint was made for and made from.

    Raises:
        CheckpointError: the file cannot be read, is truncated, altered, foreign or of another format version.
    """
    return _decode(path, _read(path))


def start_from(
    path: Path, classifier: BaseClassifier, *, expect: Mapping[str, object] | None = None
) -> CheckpointHeader:
    """Give a classifier the weights of a checkpoint, to train on from there (pre-training).

    Where the two differ in the number of classes, tensors whose shape depends on it stay as they are. Normalisation
    and arithmetic are those of the classifier.

    Args:
        path: the file.
        classifier: trainable, changed in place.
        expect: what the checkpoint must have been made for, as in `load`.

    Returns:
        The header of the checkpoint.

    Raises:
        CheckpointError: as `load`, or it has another architecture or image shape; names both.
    """
    loaded, header = load(path, expect=expect, trainable=True)
    for field in ("architecture", "image_shape"):
        found, wanted = getattr(header.model, field), getattr(classifier.spec, field)
        if found != wanted:
            raise CheckpointError(f"{path}: {field} is {found!r}; a start for this training must have {wanted!r}")
    target, source = classifier.network.state_dict(), loaded.network.state_dict()
    fitting = {name: tensor for name, tensor in source.items() if tensor.shape == target[name].shape}
    classifier.network.load_state_dict({**target, **fitting})
    return header


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as cause:
        raise CheckpointError(f"{path}: cannot be read: {cause.strerror or cause}") from cause


def _stored(tensor: Tensor) -> Tensor:
    """Return a tensor as it is stored, whatever device, type and memory format it had."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(device="cpu", dtype=dtype).contiguous()


def _encode(path: Path, tensors: dict[str, Tensor], header: Mapping[str, object]) -> bytes:
    """Return the bytes of a file."""
    try:
        ordered = json.loads(json.dumps(header, sort_keys=True, allow_nan=False))
    except (TypeError, ValueError) as cause:
        raise CheckpointError(f"{path}: the header cannot be stored as JSON: {cause}") from cause
    # The checksum comes first, where it can be found without parsing. One metadata key, because safetensors
    # writes several in no fixed order.
    record = {"sha256": _NO_CHECKSUM, "format_version": FORMAT_VERSION, "header": ordered}
    text = json.dumps(record, separators=(",", ":"))
    data: bytes = safetensors.torch.save(tensors, metadata={_KEY: text})
    at = data.index(_CHECKSUM_FOLLOWS) + len(_CHECKSUM_FOLLOWS)
    return data[:at] + hashlib.sha256(data).hexdigest().encode() + data[at + len(_NO_CHECKSUM) :]


def _decode(path: Path, data: bytes) -> CheckpointHeader:
    """Return the header of a file whose bytes are intact."""
    record = _record(path, data)
    version = record.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format version {version!r}; this certsmooth reads {FORMAT_VERSION}")
    at = data.find(_CHECKSUM_FOLLOWS) + len(_CHECKSUM_FOLLOWS)
    stored = data[at : at + len(_NO_CHECKSUM)].decode(errors="replace")
    found = hashlib.sha256(data[:at] + _NO_CHECKSUM.encode() + data[at + len(_NO_CHECKSUM) :]).hexdigest()
    if stored != found:
        raise CheckpointError(f"{path}: truncated or altered: its SHA-256 is {found}, it says {stored}")
    text = json.dumps(record.get("header"))
    return decode_record(CheckpointHeader, text, source=f"{path}: header", error=CheckpointError)


def _record(path: Path, data: bytes) -> dict[str, Any]:
    """Return the JSON record in a file's metadata.

    A safetensors file starts with the length of its header, 8 bytes, and the header, JSON.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    if len(data) < 8 or len(data) < end:
        raise CheckpointError(f"{path}: not a safetensors file, or truncated: {len(data)} bytes, header to {end}")
    try:
        metadata = json.loads(data[8:end])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise CheckpointError(f"{path}: not a safetensors file with metadata: {cause!r}") from cause
    try:
        record = json.loads(metadata[_KEY])
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise CheckpointError(f"{path}: not a checkpoint: metadata {_KEY!r} are missing or corrupt") from cause
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: not a checkpoint: metadata {_KEY!r} hold {type(record).__name__}")
    return record


def _fill(path: Path, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a network, if they are exactly the ones that it has."""
    wanted = network.state_dict()
    missing, unexpected = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    if missing or unexpected:
        raise CheckpointError(f"{path}: tensors missing: {sorted(missing)}, unexpected: {sorted(unexpected)}")
    for name, tensor in sorted(tensors.items()):
        found, right = (tensor.dtype, tuple(tensor.shape)), (wanted[name].dtype, tuple(wanted[name].shape))
        if found != right:
            raise CheckpointError(f"{path}: tensor {name} is {found}; the architecture has {right}")
    network.load_state_dict(tensors)
