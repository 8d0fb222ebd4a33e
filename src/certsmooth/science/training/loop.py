"""The training loop: DDRS Algorithm 2 with any objective; a fixed sigma is the case of a constant policy."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from certsmooth._internal.out_of_memory import is_out_of_memory
from certsmooth._internal.storage import exclusive
from certsmooth.errors import CertsmoothError, CheckpointError
from certsmooth.science.datasets import Split
from certsmooth.science.objectives import TrainingObjective
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.training.recipe import Recipe
from certsmooth.science.training.run import Run
from certsmooth.science.training.state import EpochLog, load_state, save_state, write_log


@dataclass(frozen=True)
class TrainingResult:
    """What training made.

    Attributes:
        model: the model that was given, trained, in evaluation mode, on the device.
        sigma: float64 [n] on the CPU, the carried sigma of each training example; sigma0 for a fixed policy.
        log: one row per epoch.
    """

    model: nn.Module
    sigma: Float[Tensor, " n"]
    log: tuple[EpochLog, ...]


def train(
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
        model: images in, logits out, with its initial weights (they are part of what identifies the run); it
            is moved to the device and trained in place.
        training: images to train on; kept on the device if they are an array.
        validation: images to measure accuracy on after each epoch; they do not change the training.
        objective: a frozen dataclass, see `certsmooth.science.objectives`.
        policy: a frozen dataclass, see `certsmooth.science.sigma`.
        recipe: the rest of the run's options.
        seed: of order, augmentation and noise.
        device: where to train.
        noise: a member of certsmooth.science.noise: that of the objective, the policy and the validation.
        state_path: the state's file (safetensors); its folder is made.
        log_path: the log's file (comma-separated values, columns of `EpochLog`); its folder is made.
        progress: show a bar on the standard error stream.

    Raises:
        ConfigError: no such noise, or augmentation of something that is not an image.
        CheckpointError: the stored state is corrupt, or cannot be written, or another run is writing it.
        CertsmoothError: memory runs out, or the loss or the model's output is not finite; the stored state of the
            last finished epoch stays.
    """
    run = Run(
        model=model,
        training=training,
        validation=validation,
        objective=objective,
        policy=policy,
        recipe=recipe,
        noise=noise,
        seed=seed,
        device=torch.device(device),
        state_path=state_path,
    )
    with exclusive(state_path, error=CheckpointError), _deterministic_cudnn():
        log = _train(run, log_path, progress=progress)
    return TrainingResult(model.eval(), run.sigma.cpu(), tuple(log))


def _train(run: Run, log_path: Path, *, progress: bool) -> list[EpochLog]:
    """Train the epochs that the stored state lacks, and return the log."""
    definition, recipe = run.definition(), run.recipe
    log = load_state(run.state_path, definition=definition, model=run.model, optimizer=run.optimizer, sigma=run.sigma)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    write_log(log_path, log)
    batches = math.ceil(len(run.training) / recipe.batch_size)
    with tqdm(
        total=recipe.epochs * batches,
        initial=len(log) * batches,
        unit="batch",
        file=sys.stderr,
        disable=not progress,
    ) as bar:
        for epoch in range(len(log), recipe.epochs):
            with _memory_for(run, epoch):
                row = run.epoch(epoch, bar.update)
            log.append(row)
            bar.set_postfix(epoch=epoch, loss=row.loss, accuracy=row.validation_accuracy)
            save_state(
                run.state_path,
                definition=definition,
                model=run.model,
                optimizer=run.optimizer,
                sigma=run.sigma,
                log=log,
            )
            write_log(log_path, log)
    return log


@contextmanager
def _memory_for(run: Run, epoch: int) -> Iterator[None]:
    """Say what to change if memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        size, reason = run.recipe.batch_size, str(error).splitlines()[:1]
        raise CertsmoothError(
            f"epoch {epoch}: out of memory on {run.device} ({''.join(reason) or 'no memory left'}): run it again "
            f"with more, to go on, or make recipe.batch_size, {size}, smaller, which is another training"
        ) from error


@contextmanager
def _deterministic_cudnn() -> Iterator[None]:
    """Let cuDNN use deterministic algorithms only, without a search for the fastest; then as it was before.

    The global torch.use_deterministic_algorithms stays as the user set it.
    """
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before
