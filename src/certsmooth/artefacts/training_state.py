"""The state of a training run after each epoch, and its log: a killed run goes on as if nothing had happened.

It ends with the same bytes as one that was not killed, on the same kind of device with the same number of CPU threads
and the same version of torch. The state stays after the last epoch, and the same call of
`certsmooth.science.training.train` then returns at once: remove it when the model is stored elsewhere.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from torch import Tensor

from certsmooth._internal.storage import atomic_write
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.provenance import versions
from certsmooth.artefacts.tensors import read_tensors, serialized, write_tensors
from certsmooth.errors import CheckpointError
from certsmooth.science.training.loop import Keep, Keeper
from certsmooth.science.training.run import EpochLog, TrainingRun

FORM = Form("training state 2", "delete it to train from the beginning", CheckpointError)


@dataclass(frozen=True)
class StateFile(Keeper):
    """Keeps the state of a run in a file, and its log in another.

    Attributes:
        path: the state's file (safetensors); its folder must exist.
        log_path: the log's file (comma-separated values, columns of `EpochLog`); its folder is made.
    """

    path: Path
    log_path: Path

    def place(self) -> str:
        """Return the path of the state's file."""
        return str(self.path)

    def resume(self, run: TrainingRun) -> tuple[list[EpochLog], Keep]:
        """Bring a run into the stored state, if that is of this very run; see `Keeper.resume`."""
        known = definition(run)
        log = load_state(self.path, known, run)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        write_log(self.log_path, log)

        def keep(log: Sequence[EpochLog]) -> None:
            save_state(self.path, known, run, log)
            write_log(self.log_path, log)

        return log, keep


def definition(run: TrainingRun) -> str:
    """Return a hash of everything that the result of a run depends on; call it before the weights change."""
    weights = dict(run.model.named_parameters()) | dict(run.model.named_buffers())
    content = {
        "certsmooth": versions()["certsmooth"],
        "recipe": asdict(run.recipe),
        "objective": repr(run.objective),
        "policy": repr(run.policy),
        "noise": run.noise.member_name(),
        "seed": run.seed,
        "device": run.device.type,
        "training": run.training.fingerprint,
        "example_weights": hashlib.sha256(run.weights.tobytes()).hexdigest(),
        "validation": run.validation and run.validation.fingerprint,
        "model": str(run.model),
        # What a base classifier's printed modules do not show: normalisation and arithmetic.
        "spec": repr(getattr(run.model, "spec", None)),
        "weights": hashlib.sha256(serialized(weights)).hexdigest(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save_state(path: Path, definition: str, run: TrainingRun, log: Sequence[EpochLog]) -> None:
    """Write the state after an epoch; ``path`` holds the old or the new one, whenever the run is killed.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in run.model.state_dict().items()} | {"sigma": run.sigma}
    for index, values in run.optimizer.state_dict()["state"].items():
        for key, value in values.items():
            # What is not a tensor (SGD without momentum: None) is what the optimiser starts with.
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
    write_tensors(path, FORM, tensors, {"definition": definition, "log": [asdict(row) for row in log]})


def load_state(path: Path, definition: str, run: TrainingRun) -> list[EpochLog]:
    """Bring model, optimiser and sigma of a run into the stored state, and return the log so far; [] if there is none.

    A state of another run is renamed, with a warning that says so, and not used.

    Raises:
        CheckpointError: the file is corrupt or not a training state.
    """
    if not path.exists():
        return []
    tensors, content = read_tensors(path, FORM)
    if content["definition"] != definition:
        aside = path.with_name(f"{path.name}.{content['definition'][:12]}")
        path.replace(aside)
        warnings.warn(
            f"{path}: belongs to another run (other data, model, options or seed); "
            f"set aside as {aside.name}, training starts from the beginning",
            stacklevel=3,
        )
        return []
    run.model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    run.sigma.copy_(tensors["sigma"])
    stored = run.optimizer.state_dict()
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            stored["state"].setdefault(int(index), {})[key] = tensor
    run.optimizer.load_state_dict(stored)
    return [EpochLog(**row) for row in content["log"]]


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
