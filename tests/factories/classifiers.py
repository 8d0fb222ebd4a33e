"""Base classifiers whose smoothed versions are known."""

import torch
from torch import nn

WEIGHT = torch.tensor([[2.0, -1.0, 0.5, 0.0], [-1.0, 1.5, 0.0, 1.0], [0.0, 0.3, -2.0, 1.0]])
"""Of a `RowLinear` with three classes, for images of four pixels."""


class RowLinear(nn.Module):
    """Linear scores by elementwise operations alone: those of a row do not depend, in any bit, on the other rows."""

    def __init__(self, weight, bias=None):
        super().__init__()
        weight = torch.as_tensor(weight, dtype=torch.float32)  # [classes, pixels]
        self.register_buffer("weight", weight)
        self.register_buffer("bias", torch.zeros(len(weight)) if bias is None else torch.as_tensor(bias))

    def forward(self, images):
        rows = images.flatten(1)
        scores = self.bias.expand(len(rows), -1)
        for pixel in range(rows.shape[1]):
            scores = scores + rows[:, pixel, None] * self.weight[:, pixel]
        return scores


class CoupledRows(RowLinear):
    """Near ties that the last bit of a score decides, which depends on every row of the batch.

    So near that it may be rounding: no dependence of rows on each other that is refused.
    """

    def forward(self, images):
        scores = super().forward(images)
        scores = scores - scores.mean(0)
        bits = scores.contiguous().view(torch.int32).sum(1) % scores.shape[1]
        return 1 + 1e-5 * nn.functional.one_hot(bits, scores.shape[1])


def half_space(direction, offset):
    """Class 1 where <direction, x> > offset, else class 0."""
    direction = torch.as_tensor(direction, dtype=torch.float32)
    return RowLinear(torch.stack([-direction, direction]), torch.tensor([offset, -offset], dtype=torch.float32))


class Interval(nn.Module):
    """A differentiable class 1 around 0 in one dimension."""

    def forward(self, x):
        score = 6 * (1 - x[:, 0].abs())
        return torch.stack([-score, score], dim=1)


def modes(model):
    """Return which modules are in training mode."""
    return [module.training for module in model.modules()]
