"""What a training run does besides its objective and its sigma policy: optimiser, schedule, augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt

from certsmooth._internal.options import Member
from certsmooth.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Recipe(Member):
    """A training recipe. Epochs count from 0.

    Attributes:
        epochs: passes over the training split, >= 1.
        batch_size: examples per step, >= 1; the last batch of an epoch may be smaller.
        learning_rate: at epoch 0, > 0.
        optimizer: ``sgd`` with momentum, or ``adamw`` (beta_2 = 0.999).
        momentum: of ``sgd``; beta_1 of ``adamw``; in [0, 1).
        weight_decay: on all parameters, >= 0.
        schedule: of the learning rate, by epoch e: ``constant``; ``step``, times ``factor`` at each milestone;
            ``cosine``, times (1 + cos(pi (e - w) / (epochs - w))) / 2 after w = ``warmup_epochs``.
        warmup_epochs: in each of these the learning rate is (e + 1) / warmup_epochs of the first; below ``epochs``.
        milestones: increasing epochs, each in 1 .. epochs - 1; for ``step`` only.
        factor: of ``step``, in (0, 1).
        label_smoothing: share of each label that is spread evenly over all classes where the objective takes the
            cross entropy with it, in [0, 1); attacks see the label itself.
        augmentation: any of ``resized_crop`` (8 to 100 % of the area, with sides in a ratio of 3/4 to 4/3, at a
            uniform place, resized to the old size), ``crop`` (pad with zeros by ``padding`` on each side, cut the old
            size out at a uniform place) and ``flip`` (left to right with probability 1/2), in this order; images [b, c,
            h, w] only.
        padding: pixels, >= 1; for ``crop`` only.
        adaptive_from_epoch: epochs before this one use the policy's constant sigma0 (DDRS, Section 4.1: 50
            epochs of K = 0); from this one on the policy chooses the sigma of each batch (DDRS, Algorithm 2). A policy
            that does not depend on the model chooses once, before the first epoch, for the images without augmentation.
    """

    epochs: Annotated[int, Ge(1)]
    batch_size: Annotated[int, Ge(1)]
    learning_rate: Annotated[float, Gt(0)]
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    schedule: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[Annotated[int, Ge(1)], ...] = ()
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1
    warmup_epochs: Annotated[int, Ge(0)] = 0
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    augmentation: tuple[Literal["resized_crop", "crop", "flip"], ...] = ()
    padding: Annotated[int, Ge(1)] = 4
    adaptive_from_epoch: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.augmentation)) < len(self.augmentation):
            raise ConfigError(f"augmentation: {self.augmentation}; each name at most once")
        if self.warmup_epochs and self.warmup_epochs >= self.epochs:
            raise ConfigError(f"warmup_epochs: {self.warmup_epochs}; must be below epochs, {self.epochs}")
        self._check_milestones()

    def _check_milestones(self) -> None:
        ordered = tuple(sorted(set(self.milestones)))
        if self.milestones != ordered or (ordered and ordered[-1] >= self.epochs):
            right = f"increasing epochs in 1 .. {self.epochs - 1}"
            raise ConfigError(f"milestones: {self.milestones}; must be {right}")
        if (self.schedule == "step") != bool(self.milestones):
            right = "at least one epoch" if self.schedule == "step" else "empty"
            raise ConfigError(f"milestones: {self.milestones}; must be {right} for schedule {self.schedule!r}")

    def check_images(self, image_shape: Sequence[int]) -> None:
        """Raise unless images of a shape can be augmented as the recipe says.

        Raises:
            ConfigError: they cannot.
        """
        if self.augmentation and len(image_shape) != 3:
            raise ConfigError(f"augmentation: {self.augmentation}; must be () for data of shape {list(image_shape)}")

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        if epoch < self.warmup_epochs:
            return self.learning_rate * (epoch + 1) / self.warmup_epochs
        if self.schedule == "cosine":
            done = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
            return self.learning_rate * (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * self.factor ** sum(milestone <= epoch for milestone in self.milestones)

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of the recipe, at the learning rate of epoch 0."""
        rate, decay = self.learning_rate, self.weight_decay
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=self.momentum, weight_decay=decay)
        return torch.optim.AdamW(parameters, lr=rate, betas=(self.momentum, 0.999), weight_decay=decay)
