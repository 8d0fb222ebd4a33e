"""The state of a training run after each epoch, and its log: a killed run goes on as if nothing had happened."""

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

from certsmooth._internal.storage import atomic_write, exclusive
from certsmooth.artefacts.provenance import versions
from certsmooth.errors import CheckpointError
from certsmooth.science.datasets import Split
from certsmooth.science.objectives import TrainingObjective
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.training.log import EpochLog
from certsmooth.science.training.loop import Keep, Keeper, TrainingResult, train
from certsmooth.science.training.recipe import Recipe
from certsmooth.science.training.run import TrainingRun

_KIND = "certsmooth training state 1"


def train_resumably(
    model: nn.Module,
    training: Split,
    validation: Split,
    *,
    objective: TrainingObjective,
    policy: SigmaPolicy,
    recipe: Recipe,
    seed: int,
    device: torch.device | str,
    noise: str = "gaussian",
    state_path: Path,
    log_path: Path,
    progress: bool = True,
) -> TrainingResult:
    """Train a base classifier, going on after the last finished epoch if a state of this very run is stored.

    The state is written after each epoch. A run that was killed and started again ends with the same bytes as
    one that was not, on the same kind of device with the same number of CPU threads and the same version of
    torch. The state stays after the last epoch, and the same call then returns at once: remove it when the
    model is stored elsewhere.

    Args:
        model: as `certsmooth.science.training.loop.train`, and so the rest; its initial weights are part of what
            identifies the run.
        training: images to train on.
        validation: images to measure accuracy on.
        objective: what is minimised.
        policy: sigma of each example.
        recipe: the rest of the run's options.
        seed: of order, augmentation and noise.
        device: where to train.
        noise: a member of certsmooth.science.noise.
        state_path: the state's file (safetensors); its folder is made.
        log_path: the log's file (comma-separated values, columns of `EpochLog`); its folder is made.
        progress: show a bar on the standard error stream.

    Raises:
        ConfigError: no such noise, or augmentation of something that is not an image.
        CheckpointError: the stored state is corrupt, or cannot be written, or another run is writing it.
        CertsmoothError: memory runs out, or the loss or the model's output is not finite; the stored state of the
            last finished epoch stays.
    """
    with exclusive(state_path, error=CheckpointError):
        return train(
            model,
            training,
            objective=objective,
            sigma=policy,
            recipe=recipe,
            seed=seed,
            device=device,
            noise=noise,
            validation=validation,
            keeper=StateFile(state_path, log_path),
            progress=progress,
        )


@dataclass(frozen=True)
class StateFile(Keeper):
    """Keeps the state of a run in a file, and its log in another."""

    path: Path
    log_path: Path

    def place(self) -> str:
        """Return the path of the state's file."""
        return str(self.path)

    def resume(self, run: TrainingRun) -> tuple[list[EpochLog], Keep]:
        """Bring a run into the stored state, if that is of this very run; see `Keeper.resume`."""
        known, model, optimizer, sigma = definition(run), run.model, run.optimizer, run.sigma
        log = load_state(self.path, definition=known, model=model, optimizer=optimizer, sigma=sigma)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        write_log(self.log_path, log)

        def keep(log: Sequence[EpochLog]) -> None:
            save_state(self.path, definition=known, model=model, optimizer=optimizer, sigma=sigma, log=log)
            write_log(self.log_path, log)

        return log, keep


def definition(run: TrainingRun) -> str:
    """Return a hash of everything that the result of a run depends on; call it before the weights change."""
    content = {
        "certsmooth": versions()["certsmooth"],
        "recipe": asdict(run.recipe),
        "objective": repr(run.objective),
        "policy": repr(run.policy),
        "noise": run.noise.member_name(),
        "seed": run.seed,
        "device": run.device.type,
        "training": run.training.fingerprint,
        "validation": run.validation and run.validation.fingerprint,
        "model": str(run.model),
        # What a base classifier's printed modules do not show: normalisation and arithmetic.
        "spec": repr(getattr(run.model, "spec", None)),
        "weights": digest(dict(run.model.named_parameters()) | dict(run.model.named_buffers())),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
