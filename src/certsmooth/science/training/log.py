"""The log of a training run."""

from __future__ import annotations

from dataclasses import dataclass


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
