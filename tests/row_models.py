"""Base classifiers for tests of the sampling."""

import torch
from torch import nn


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
    """A row's scores depend on every row of its batch, and on the last bits of their sum."""

    def forward(self, images):
        scores = super().forward(images)
        return scores - scores.mean(0)


def half_space(direction, offset):
    """Class 1 where <direction, x> > offset, else class 0."""
    direction = torch.as_tensor(direction, dtype=torch.float32)
    return RowLinear(torch.stack([-direction, direction]), torch.tensor([offset, -offset], dtype=torch.float32))
