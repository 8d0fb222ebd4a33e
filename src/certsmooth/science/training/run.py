"""One training run: what happens in an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from certsmooth._internal.modes import evaluation
from certsmooth._internal.seeds import derive_seed
from certsmooth.errors import CertsmoothError, ModelError
from certsmooth.science.datasets import Split
from certsmooth.science.noise import Noise
from certsmooth.science.objectives import Batch, TrainingObjective
from certsmooth.science.sigma import DrawNoise, SigmaPolicy
from certsmooth.science.training.batches import augment, image_source
from certsmooth.science.training.recipe import Recipe

_SIGMA_BATCH = 1000


@dataclass(frozen=True)
class EpochLog:
    """One row of the log.

    Attributes:
        epoch: from 0.
        learning_rate: of the epoch.
        loss: mean of the objective over the training examples, while the weights changed.
        validation_accuracy: fraction of the validation split that is right under one noise sample at sigma0,
            the same noise at every epoch; None without such a split.
        sigma_mean: of the carried sigma of all training examples after the epoch.
        sigma_min: likewise.
        sigma_max: likewise.
        seconds: wall clock, training and validation.
    """

    epoch: int
    learning_rate: float
    loss: float
    validation_accuracy: float | None
    sigma_mean: float
    sigma_min: float
    sigma_max: float
    seconds: float


@dataclass(kw_only=True, eq=False)
class TrainingRun:
    """One run: its options, its data on the device, and what changes from batch to batch.

    The arguments are those of `certsmooth.science.training.train`.
    """

    model: nn.Module
    training: Split
    weights: Float[np.ndarray, " n"]
    validation: Split | None
    objective: TrainingObjective
    policy: SigmaPolicy
    recipe: Recipe
    noise: Noise
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        self.model.to(self.device)
        self.read = image_source(self.training, self.device)
        self.read_validation = None if self.validation is None else image_source(self.validation, self.device)
        self.weight = torch.tensor(self.weights, dtype=torch.float32, device=self.device)
        self.labels = torch.tensor(self.training.labels, device=self.device)
        self.optimizer = self.recipe.make_optimizer(self.model.parameters())
        self.sigma = torch.full_like(self.labels, self.policy.sigma0, dtype=torch.float64)

    def epoch(self, epoch: int, advance: Callable[[], object]) -> EpochLog:
        """Train one epoch, validate, and return the log's row; ``advance`` is called after each batch."""
        started = time.perf_counter()
        rate = self.recipe.learning_rate_at(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if epoch == 0 and not self.policy.uses_model:
            self._set_sigma(epoch)
        self.model.train()
        loss = self._update(epoch, advance)
        return EpochLog(
            epoch=epoch,
            learning_rate=rate,
            loss=loss,
            validation_accuracy=self._validate(epoch),
            sigma_mean=self.sigma.mean().item(),
            sigma_min=self.sigma.min().item(),
            sigma_max=self.sigma.max().item(),
            seconds=time.perf_counter() - started,
        )

    def _update(self, epoch: int, advance: Callable[[], object]) -> float:
        shuffle = self._generator("order", epoch, device=torch.device("cpu"))
        order = torch.randperm(len(self.training), generator=shuffle).to(self.device)
        augmentation, generator = self._generator("augmentation", epoch), self._generator("noise", epoch)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        previous, batch = torch.zeros(()), 0
        for batch, positions in enumerate(torch.split(order, self.recipe.batch_size)):
            images = self.read(positions)
            self.recipe.check_images(images.shape[1:])
            images = augment(images, self.recipe.augmentation, padding=self.recipe.padding, generator=augmentation)
            try:
                sigma = self._sigma(images, positions, epoch, batch)
                draw = partial(self._standard_noise, images, generator)
                examples = Batch(images, self.labels[positions], sigma, draw, epoch, self.recipe.label_smoothing)
                loss = (self.weight[positions] * self.objective(self.model, examples)).mean()
            except ModelError as error:
                raise ModelError(f"epoch {epoch}, batch {batch}: {error}") from error
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()
            # One batch late, so that the device has the next batch to work on while its loss is read.
            self._check_loss(previous, epoch, batch - 1)
            previous = loss.detach()
            total += previous * len(positions)
            advance()
        self._check_loss(previous, epoch, batch)
        return total.item() / len(self.training)

    def _sigma(
        self, images: Float[Tensor, " b *shape"], positions: Int[Tensor, " b"], epoch: int, batch: int
    ) -> Float[Tensor, " b"]:
        """Return the sigma of each example of a batch, and carry it to the next epoch (DDRS, Section 3.6)."""
        if epoch >= self.recipe.adaptive_from_epoch and self.policy.uses_model:
            draw = self._draw(images, epoch, batch)
            self.sigma[positions] = self.policy(self.model, images, self.sigma[positions], draw)
        return self.sigma[positions]

    def _set_sigma(self, epoch: int) -> None:
        """Set the sigma of every example for good, by its image without augmentation: it depends on nothing else."""
        for batch, positions in enumerate(torch.split(torch.arange(len(self.sigma), device=self.device), _SIGMA_BATCH)):
            images = self.read(positions)
            self.sigma[positions] = self.policy(
                self.model, images, self.sigma[positions], self._draw(images, epoch, batch)
            )

    def _draw(self, images: Float[Tensor, " b *shape"], epoch: int, batch: int) -> DrawNoise:
        def draw(step: int) -> Float[Tensor, "n b *shape"]:
            return self._standard_noise(images, self._generator("sigma", epoch, batch, step), self.policy.samples)

        return draw

    def _standard_noise(
        self, images: Float[Tensor, " b *shape"], generator: Generator, samples: int
    ) -> Float[Tensor, "m b *shape"]:
        noise = images.new_empty(samples, *images.shape)
        self.noise.from_generator(generator, noise)
        return noise

    def _validate(self, epoch: int) -> float | None:
        split, read = self.validation, self.read_validation
        if split is None or read is None:
            return None
        generator, labels = self._generator("validation"), torch.tensor(split.labels, device=self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        is_finite = torch.ones((), dtype=torch.bool, device=self.device)
        with evaluation(self.model), torch.no_grad():
            for batch in torch.split(torch.arange(len(split), device=self.device), self.recipe.batch_size):
                images = read(batch)
                noise = self._standard_noise(images, generator, 1)[0]
                logits = self.model(images + self.policy.sigma0 * noise)
                right += (logits.argmax(1) == labels[batch]).sum()
                is_finite &= logits.isfinite().all()
        if not is_finite.item():
            raise CertsmoothError(f"epoch {epoch}: validation logits are not finite")
        return right.item() / len(split)

    def _generator(self, *purpose: str | int, device: torch.device | None = None) -> Generator:
        return Generator(device or self.device).manual_seed(derive_seed(self.seed, *purpose))

    def _check_loss(self, loss: Float[Tensor, ""], epoch: int, batch: int) -> None:
        if not math.isfinite(loss.item()):
            where = f"epoch {epoch}, batch {batch}"
            raise CertsmoothError(f"{where}: loss is {loss.item()}; must be finite")
