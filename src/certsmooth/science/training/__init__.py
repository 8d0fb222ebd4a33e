"""Training of base classifiers: one loop for every objective and every sigma policy."""

from certsmooth.science.training.log import EpochLog
from certsmooth.science.training.loop import Keep, Keeper, TrainingResult, train
from certsmooth.science.training.recipe import Recipe

__all__ = ["EpochLog", "Keep", "Keeper", "Recipe", "TrainingResult", "train"]
