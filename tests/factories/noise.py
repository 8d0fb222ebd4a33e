"""The laws of the noise, and what a sigma policy may draw."""

import torch
from scipy import stats

LAWS = {"gaussian": stats.norm(), "uniform": stats.uniform(-1, 2)}
"""Of each member of certsmooth.science.noise at scale 1."""


def random_draw(samples, images, norm="l2"):
    """Return what draws normal or (l1) uniform noise, [samples, *images], of each step its own."""

    def draw(step):
        generator = torch.Generator().manual_seed(1000 + step)
        if norm == "l1":
            return 2 * torch.rand(samples, *images.shape, generator=generator, dtype=images.dtype) - 1
        return torch.randn(samples, *images.shape, generator=generator, dtype=images.dtype)

    return draw


def quantiles(n, images, norm="l2"):
    """Return noise that integrates over a normal or (l1) uniform variable almost exactly: its quantiles."""
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    points = torch.special.ndtri(levels) if norm == "l2" else 2 * levels - 1
    return points.view(n, 1, 1).expand(n, *images.shape)
