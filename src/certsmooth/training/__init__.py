"""Training of base classifiers: one loop for every objective and every sigma policy."""

from certsmooth.training.loop import TrainingResult, train
from certsmooth.training.recipe import Recipe
from certsmooth.training.state import EpochLog

__all__ = ["EpochLog", "Recipe", "TrainingResult", "train"]
