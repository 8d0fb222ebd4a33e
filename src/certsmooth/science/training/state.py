"""The state of a run after each epoch, and its log: a killed run goes on as if nothing had happened."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from certsmooth._internal.storage import atomic_write
from certsmooth.errors import CheckpointError

_KIND = "certsmooth training state 1"


@dataclass(frozen=True)
class EpochLog:
    """One row of the log.

    Attributes:
        epoch: from 0.
        learning_rate: of the epoch.
        loss: mean of the objective over the training examples, while the weights changed.
        validation_accuracy: fraction of the validation split that is right under one noise sample at sigma0,
            the same noise at every epoch.
        sigma_mean: of the carried sigma of all training examples after the epoch.
        sigma_min: likewise.
        sigma_max: likewise.
        seconds: wall clock, training and validation.
    """

    epoch: int
    learning_rate: float
    loss: float
    validation_accuracy: float
    sigma_mean: float
    sigma_min: float
    sigma_max: float
    seconds: float


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of names, types, shapes and bytes of tensors; 64 hexadecimal digits."""
    result = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        result.update(f"{name};{tensor.dtype};{tuple(tensor.shape)};".encode())
        result.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return result.hexdigest()


def save_state(
    path: Path,
    *,
    definition: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sigma: Float[Tensor, " n"],
    log: Sequence[EpochLog],
) -> None:
    """Write the state after an epoch; ``path`` holds the old or the new one, whenever the run is killed.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()} | {"sigma": sigma}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            # What is not a tensor (SGD without momentum: None) is what the optimiser starts with.
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    rows = json.dumps([asdict(row) for row in log])
    checksum = _checksum(tensors, definition, rows)
    metadata = {"kind": _KIND, "definition": definition, "log": rows, "digest": checksum}
    with atomic_write(path, error=CheckpointError) as file:
        file.write(safetensors.torch.save(tensors, metadata))


def load_state(
    path: Path,
    *,
    definition: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sigma: Float[Tensor, " n"],
) -> list[EpochLog]:
    """Bring model, optimiser and sigma into the stored state, and return the log so far; [] if there is none.

    A state of another run is renamed, with a warning that says so, and not used.

    Raises:
        CheckpointError: the file is corrupt or not a training state.
    """
    if not path.exists():
        return []
    tensors, metadata = _read(path)
    if metadata["definition"] != definition:
        aside = path.with_name(f"{path.name}.{metadata['definition'][:12]}")
        path.replace(aside)
        warnings.warn(
            f"{path}: belongs to another run (other data, model, options or seed); "
            f"set aside as {aside.name}, training starts from the beginning",
            stacklevel=3,
        )
        return []
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    sigma.copy_(tensors["sigma"])
    stored = optimizer.state_dict()
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            stored["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(stored)
    return [EpochLog(**row) for row in json.loads(metadata["log"])]


def write_log(path: Path, log: Sequence[EpochLog]) -> None:
    """Write the log as comma-separated values with one header line.

    Raises:
        CertsmoothError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochLog)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in log)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    remedy = "delete it to train from the beginning"
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            # The copies do not depend on the file, which the next epoch replaces.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as cause:
        raise CheckpointError(f"{path}: corrupt training state ({cause}); {remedy}") from cause
    if metadata.get("kind") != _KIND:
        found = metadata.get("kind", "no kind")
        raise CheckpointError(f"{path}: {found!r}, must be {_KIND!r}; {remedy}")
    if metadata.get("digest") != _checksum(tensors, metadata.get("definition", ""), metadata.get("log", "")):
        raise CheckpointError(f"{path}: corrupt training state (wrong checksum); {remedy}")
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor], definition: str, log: str) -> str:
    return hashlib.sha256(f"{digest(tensors)};{definition};{log}".encode()).hexdigest()
