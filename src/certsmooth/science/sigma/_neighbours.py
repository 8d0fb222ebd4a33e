"""The mean distance to the k nearest of many points: exact, in blocks.

Matrix products of float32 find candidates fast; the distances of the candidates come from direct differences in
float64. A bound on the rounding of the products proves that no other point is among the k nearest; where it cannot,
the distances to all points are computed. So what is returned does not depend on how the search went.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Shaped

from certsmooth.errors import ConfigError
from certsmooth.science.datasets import Images
from certsmooth.science.models import numerics

if TYPE_CHECKING:
    from torch import Tensor

EXTRA = 12
"""Candidates beyond k: the bound decides by the gap between the k-th distance and that of the last candidate."""

ROWS = 2048
"""Most points in a block, and most queries."""

TILE = 2**24
"""Bytes of a block of points in a matrix product; larger ones cost memory and gain nothing."""

DIRECT_TILE = 2**18
"""Bytes of a block of direct differences: it stays in a core's cache, and torch leaves it to one thread. Threads that
wait for each other after each of so short steps made it up to 20 times slower where other programs ran as well."""

_UNIT = 2.0**-24  # unit roundoff of float32
_TINY = 2.0**-125  # twice what underflow can cost a float32 product
_MAX_SQUARE = 1e30  # squared norms up to here cannot overflow in float32
_MAX_DIMENSION = 2**22  # the bound on a product's rounding, d units, stays well below 1


def read_points(images: Images) -> tuple[Shaped[Tensor, "n d"], tuple[int, ...]]:
    """Read images in blocks, so that files are decoded a few at a time.

    Returns:
        The images, flattened, in their own type; and the shape of one.

    Raises:
        ConfigError: they are neither uint8 nor float32.
    """
    first = np.asarray(images[np.arange(1)])
    if first.dtype not in (np.uint8, np.float32):
        raise ConfigError(f"images: of type {first.dtype}; must be uint8 or float32")
    points = torch.empty((len(images), first[0].size), dtype=torch.tensor(first).dtype)
    for rows in _blocks(len(images), _rows(4 * points.shape[1])):
        block = np.asarray(images[np.arange(rows.start, rows.stop)])
        points[rows] = torch.tensor(block).flatten(1)
    return points, first.shape[1:]


def pixels(points: Shaped[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    """Return points as a base classifier sees them: a new float32 tensor, uint8 divided by 255."""
    if points.dtype != torch.uint8:
        return points.clone()
    # By a tensor: CUDA multiplies by 1/255 instead where the divisor is a Python number.
    return points.to(torch.float32).div_(torch.tensor(255.0, device=points.device))


def flattened(images: Float[Tensor, " b *shape"], shape: tuple[int, ...]) -> Float[Tensor, "b d"]:
    """Return images as points.

    Raises:
        ConfigError: they are not floating point, or not of this shape, that of the training images.
    """
    if not images.is_floating_point():
        raise ConfigError(f"images: of type {images.dtype}; must be floating point, in [0, 1]")
    if tuple(images.shape[1:]) != shape:
        raise ConfigError(f"images: shape {list(images.shape)}; must be [b, {str(list(shape))[1:]}, as fitted")
    return images.flatten(1)


def spread(n: int, most: int) -> Int[Tensor, " m"]:
    """Return ``most`` positions out of n at equal intervals, or all if there are fewer."""
    count = min(n, most)
    return torch.arange(count) * n // count


class Neighbours:
    """Points, and distances to them.

    Args:
        points: uint8, which stands for its value divided by 255 and rounded to float32, as the images of a data set
            do; or float32.

    Raises:
        ConfigError: a coordinate is not finite, or too large to be squared; or there are more than 2**22 of them.
    """

    def __init__(self, points: Shaped[Tensor, "n d"]) -> None:
        if points.shape[1] > _MAX_DIMENSION:
            raise ConfigError(f"images: of {points.shape[1]} numbers; must be at most {_MAX_DIMENSION}")
        self.points = points
        self.rows = _rows(4 * points.shape[1])
        # gamma_(d + 5) of Higham, Accuracy and Stability of Numerical Algorithms, Section 3.1; see _candidates.
        roundings = (points.shape[1] + 5) * _UNIT
        self.gamma = roundings / (1 - roundings)
        # Sums go to memory that is there before: small tensors kept between large ones leave holes of a block's size.
        total = torch.zeros(points.shape[1], dtype=torch.float64, device=points.device)
        for rows in _blocks(len(points), self.rows):
            total += self.images(rows).sum(0, dtype=torch.float64)
        self.centre = (total / len(points)).float()
        self.half_squares = torch.empty(len(points), device=points.device)
        for rows in _blocks(len(points), self.rows):
            self.half_squares[rows] = _squares(self.images(rows).sub_(self.centre)) * ((1 - self.gamma) / 2)

    def __len__(self) -> int:
        return len(self.points)

    def mean_distances(self, x: Float[Tensor, "b d"], k: int) -> Float64[Tensor, " b"]:
        """Return the mean of the l2 distances to the k nearest points.

        The result for a row of x is the same, to the bit, whatever else is in the batch.

        Args:
            x: any floating type; points stay on its device from then on.
            k: at most the number of points.

        Raises:
            ConfigError: a coordinate is not finite, or too large to be squared.
        """
        if self.points.device != x.device:
            self.points, self.centre = self.points.to(x.device), self.centre.to(x.device)
            self.half_squares = self.half_squares.to(x.device)
        means = torch.empty(len(x), dtype=torch.float64, device=x.device)
        with torch.no_grad():
            for rows in _blocks(len(x), min(self.rows, _rows(8 * (k + EXTRA)))):
                means[rows] = _folded_sum(self._nearest(x[rows].double(), k)) / k
        return means

    def mean_distances_to_others(self, x: Float[Tensor, "b d"], k: int) -> Float64[Tensor, " b"]:
        """Return, for rows of x that are among the points, the mean of the l2 distances to the k nearest others.

        One of the points that equal the row, at distance 0, counts as the row itself; k is below the number of points.
        """
        return self.mean_distances(x, k + 1) * (k + 1) / k

    def _nearest(self, x: Float64[Tensor, "b d"], k: int) -> Float64[Tensor, "b k"]:
        """Return the distances to the k nearest points, ascending."""
        candidates, reach = self._candidates(x, min(k + EXTRA, len(self)))
        nearest = self._direct(x, candidates).topk(k, dim=1, largest=False).values
        # 1e-12 has room for the rounding of direct distances: points that tie but for rounding are all candidates.
        unclear = ~(nearest[:, -1] * (1 + 1e-12) <= reach)
        everything = torch.arange(len(self), device=x.device)[None]
        for i in unclear.nonzero().flatten().tolist():
            nearest[i] = self._direct(x[i : i + 1], everything).topk(k, dim=1, largest=False).values[0]
        return nearest

    def _candidates(self, x: Float64[Tensor, "b d"], kept: int) -> tuple[Int[Tensor, "b kept"], Float64[Tensor, " b"]]:
        """Return points that are nearest but for rounding, and a distance that no other point is below.

        With x', y' the centred x and y in float32, u the unit roundoff and g = gamma_(d + 5): a product errs by at
        most gamma_d |x'| |y'| <= gamma_d (|x'|^2 + |y'|^2) / 2 in any order of summation. So the score, which is
        (1 - g) |y'|^2 / 2 - x'.y' computed in float32, is at most |y'|^2 / 2 - x'.y' + g |x'|^2 / 2, and

            |x' - y'|^2 >= (1 - g) |x'|^2 + 2 score.

        Rounding x and y to x' and y' moves their distance by at most u (|x'| + |y'|) <= u (2 |x'| + |x' - y'|), but for
        u^2.
        """
        centred = (x - self.centre).float()
        squares = _squares(centred)
        if kept == len(self):
            return torch.arange(kept, device=x.device).expand(len(x), -1), torch.full_like(squares, torch.inf)
        scores, where = centred.new_empty((len(x), 0)), torch.empty((len(x), 0), dtype=torch.int64, device=x.device)
        # Reduced precision, which a caller may have allowed, would break the bound.
        with numerics("float32"), torch.autocast(x.device.type, enabled=False):
            for rows in _blocks(len(self), self.rows):
                block = torch.matmul(centred, self.images(rows).sub_(self.centre).T)
                torch.sub(self.half_squares[rows], block, out=block)
                best = block.topk(min(kept, block.shape[1]), dim=1, largest=False, sorted=False)
                scores = torch.cat([scores, best.values], 1)
                where = torch.cat([where, best.indices + rows.start], 1)
                scores, order = scores.topk(min(kept, scores.shape[1]), dim=1, largest=False, sorted=False)
                where = where.gather(1, order)
        lowest = (1 - self.gamma) * squares + 2 * scores.amax(1).double() - x.shape[1] * _TINY
        return where, lowest.clamp(min=0).sqrt() * (1 - 2 * _UNIT) - 3 * _UNIT * squares.sqrt()

    def _direct(self, x: Float64[Tensor, "b d"], where: Int[Tensor, "b m"]) -> Float64[Tensor, "b m"]:
        """Return the distances from each row of x to its points ``where``, by differences in float64."""
        found = torch.empty(where.numel(), dtype=torch.float64, device=x.device)
        columns = where.flatten()
        owners = torch.arange(len(x), device=x.device).repeat_interleave(where.shape[1])
        for pairs in _blocks(len(found), _rows(8 * x.shape[1], DIRECT_TILE)):
            difference = self.images(columns[pairs]).double()
            difference -= x.index_select(0, owners[pairs])
            found[pairs] = _folded_sum(difference.square_()).sqrt()
        return found.view(where.shape)

    def images(self, rows: slice | Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        """Return a new float32 tensor with some of the points."""
        return pixels(self.points[rows] if isinstance(rows, slice) else self.points.index_select(0, rows))


def _folded_sum(x: Float[Tensor, "*shape n"]) -> Float[Tensor, " *shape"]:
    """Return the sum over the last dimension, added up in an order that depends on n alone; x is overwritten.

    ``torch.sum`` promises no order; on CUDA it depends on the other dimensions as well.
    """
    n = x.shape[-1]
    while n > 1:
        half = (n + 1) // 2
        x[..., : n - half] += x[..., half:n]
        n = half
    return x[..., 0]


def _squares(x: Float[Tensor, "m d"]) -> Float64[Tensor, " m"]:
    squares = x.double().square_().sum(1)
    if not bool((squares < _MAX_SQUARE).all()):
        raise ConfigError("images: a pixel is not finite, or too large to be squared in float32")
    return squares


def _rows(size: int, tile: int = TILE) -> int:
    """Return how many rows of ``size`` bytes a block may have; a few even where they are larger than the tile."""
    return max(16, min(ROWS, tile // size))


def _blocks(n: int, rows: int) -> Iterator[slice]:
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))
