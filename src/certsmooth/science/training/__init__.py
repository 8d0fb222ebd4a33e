"""Training of base classifiers: one loop for every objective and every sigma policy."""

from certsmooth.science.training.loop import Keep, Keeper, TrainingResult, train
from certsmooth.science.training.recipe import Recipe
from certsmooth.science.training.run import EpochLog

__all__ = ["EpochLog", "Keep", "Keeper", "Recipe", "TrainingResult", "train"]
