"""The training loop: DDRS Algorithm 2 with any objective; a fixed sigma is the case of a constant policy."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from certsmooth._internal.checks import check_seed
from certsmooth._internal.out_of_memory import is_out_of_memory
from certsmooth._internal.registry import member
from certsmooth.errors import CertsmoothError, ConfigError
from certsmooth.science.datasets import Split
from certsmooth.science.inputs import Arrays, as_policy, as_split, device_of
from certsmooth.science.models import BaseClassifier, numerics
from certsmooth.science.objectives import TrainingObjective
from certsmooth.science.objectives.gaussian import GaussianAugmentation
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.training.recipe import Recipe
from certsmooth.science.training.run import EpochLog, TrainingRun


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


Keep = Callable[[Sequence[EpochLog]], None]
"""Stores the state of a run after an epoch; it is given the log so far."""


class Keeper(ABC):
    """Where the state of a run is kept after each epoch, so that a killed run can go on."""

    @abstractmethod
    def place(self) -> str:
        """Return where that is, for people."""

    @abstractmethod
    def resume(self, run: TrainingRun) -> tuple[list[EpochLog], Keep]:
        """Bring a run into the state that is kept, if there is one.

        Args:
            run: as it starts; its model, optimiser and sigma may be changed in place.

        Returns:
            The log so far, and what keeps the state from then on.

        Raises:
            CheckpointError: the state is corrupt.
        """


def train(
    model: nn.Module,
    training: Split | Arrays,
    *,
    weights: Float[np.ndarray, " n"] | None = None,
    objective: TrainingObjective | None = None,
    sigma: SigmaPolicy | float,
    recipe: Recipe,
    seed: int,
    device: torch.device | str | None = None,
    noise: str = "gaussian",
    validation: Split | Arrays | None = None,
    keeper: Keeper | None = None,
    progress: bool = False,
) -> TrainingResult:
    """Train a base classifier for smoothing (DDRS, Algorithm 2, with any objective).

    The same call gives the same weights, on the same kind of device with the same number of CPU threads and the same
    version of torch.

    Args:
        model: images in, logits out, with its initial weights; it is moved to the device and trained in place.
        training: images to train on, [n, *shape], uint8 (divided by 255) or float32 in [0, 1], and labels [n], in
            0 .. k - 1; or a split of `certsmooth.science.datasets`. They are kept on the device if they are an array.
        weights: of the examples in the loss, at least 0; None for 1 each.
        objective: see `certsmooth.science.objectives`; None for `GaussianAugmentation` (Cohen et al. 2019).
        sigma: of each example: a number, which means `FixedSigma`, or a sigma policy; pixel coordinates. One that
            depends on the training images is fitted to them, unless it is.
        recipe: the rest of the run's options.
        seed: of order, augmentation and noise.
        device: where to train; None for where the model is.
        noise: a member of certsmooth.science.noise: that of the objective, the policy and the validation.
        validation: images to measure accuracy on after each epoch, as ``training``; they do not change the training.
        keeper: where the state is kept after each epoch; None for nowhere.
        progress: show a bar on the standard error stream.

    Returns:
        The trained model, each example's sigma and the log.

    Raises:
        ConfigError: no such noise, or augmentation of something that is not an image, or sigma or weights are no such
            thing.
        DataError: images or labels are not as above.
        CheckpointError: the kept state is corrupt, or cannot be written.
        CertsmoothError: memory runs out, or the loss or the model's output is not finite; what is kept stays.

    Example:
        >>> train(model, (images, labels), sigma=0.25, recipe=recipe, seed=0)  # doctest: +SKIP
    """
    split = as_split("training", training)
    given = np.ones(len(split)) if weights is None else weights
    if given.shape != split.labels.shape or not (np.isfinite(given) & (given >= 0)).all():
        raise ConfigError(f"weights: shape {given.shape}; must be {len(split)} finite numbers >= 0, one per image")
    policy = as_policy(sigma)
    run = TrainingRun(
        model=model,
        training=split,
        weights=given,
        validation=None if validation is None else as_split("validation", validation),
        objective=objective or GaussianAugmentation(),
        policy=policy if policy.is_fitted else policy.fit(split.images, split.labels),
        recipe=recipe,
        noise=member("noise", noise)(),
        seed=check_seed("seed", seed),
        device=device_of(model, torch.device("cpu")) if device is None else torch.device(device),
    )
    arithmetic = numerics(model.spec.numeric_type) if isinstance(model, BaseClassifier) else nullcontext()
    with arithmetic, _deterministic_cudnn():  # the backward pass in the arithmetic of the forward pass
        log = _train(run, keeper, progress=progress)
    return TrainingResult(model.eval(), run.sigma.cpu(), tuple(log))


def _train(run: TrainingRun, keeper: Keeper | None, *, progress: bool) -> list[EpochLog]:
    """Train the epochs that the kept state lacks, and return the log."""
    log, keep = keeper.resume(run) if keeper is not None else ([], None)
    epochs, batches = run.recipe.epochs, math.ceil(len(run.training) / run.recipe.batch_size)
    with tqdm(
        total=epochs * batches, initial=len(log) * batches, unit="batch", file=sys.stderr, disable=not progress
    ) as bar:
        for epoch in range(len(log), epochs):
            with _explained(run, keeper, epoch):
                row = run.epoch(epoch, bar.update)
            log.append(row)
            bar.set_postfix(epoch=epoch, loss=row.loss, accuracy=row.validation_accuracy)
            if keep is not None:
                keep(log)
    return log


@contextmanager
def _explained(run: TrainingRun, keeper: Keeper | None, epoch: int) -> Iterator[None]:
    """Say at the end of an error what there is to go back to, and what to change if memory runs out."""
    try:
        yield
    except CertsmoothError as error:
        kept = "no epoch was finished, so there is no state to go back to"
        if keeper is None:
            kept = "no state was kept"
        elif epoch > 0:
            kept = f"the state after epoch {epoch - 1} is kept in {keeper.place()}"
        raise type(error)(f"{error}; {kept}; try a smaller learning rate") from error
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
