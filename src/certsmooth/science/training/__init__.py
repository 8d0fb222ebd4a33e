"""Training of base classifiers: one loop for every objective and every sigma policy."""

from certsmooth.science.training.loop import TrainingResult, train
from certsmooth.science.training.recipe import Recipe
from certsmooth.science.training.state import EpochLog

__all__ = ["EpochLog", "Recipe", "TrainingResult", "train"]
