"""A toy problem of two classes in any dimension, one of them in a narrow cone (IDRS, Appendices A.1 and A.5).

Class 0 lies in a cone with its vertex at the origin; class 1 is spherically symmetric around the origin,
without the points in that cone. Both have their highest density at the origin. The papers leave open, and
this module chooses:

- the axis of the cone is the first coordinate;
- the direction of a point is uniform in its class's part of the sphere (in two dimensions: a uniform angle in
  its sector, as A.1 says), independent of its distance from the origin, and both classes have the same
  distances;
- the distance is scale * sqrt(dimension * q) with q chi-square distributed with one degree of freedom. A.1
  asks for the root of a "suitable" chi-square variable, A.5 for a sharper peak than the normal
  distribution's: with as many degrees of freedom as dimensions the distribution would be that one, with fewer
  the density has a pole at the origin, and one degree leaves the distances their widest relative spread in
  every dimension. The factor sqrt(dimension) keeps them in proportion to smoothing noise, whose norm is about
  sigma * sqrt(dimension);
- the defaults are an angle of 15 degrees and the scale 7: in two dimensions, the true cone smoothed with
  sigma 0.5 is then right about 94 times in 100 (by simulation), as Table 5 reports of the paper's network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float

from certsmooth._internal.checks import LARGEST_SEED
from certsmooth.errors import ConfigError
from certsmooth.science.datasets import Dataset, DatasetMember, Split, array_split

CONE, REST = 0, 1
"""The labels."""

_MAX_NUMBERS = 2**28  # of a split; 2 GB while it is made


@dataclass(frozen=True)
class Cones(DatasetMember):
    """The toy problem with its settings; the defaults are those of A.1.

    Attributes:
        dimension: of the points, 2 or more.
        half_angle: between the cone's axis and its surface, in radians, greater than 0 and less than pi/2.
        scale: root of the mean squared distance from the origin, divided by sqrt(dimension); greater than 0.
        train_per_class: number of training points of each class.
        test_per_class: number of test points of each class.
        seed: of the points, 0 or more.

    Raises:
        ConfigError: a value is out of range.
    """

    dimension: Annotated[int, Ge(2)] = 2
    half_angle: Annotated[float, Gt(0), Lt(math.pi / 2)] = math.pi / 12
    scale: Annotated[float, Gt(0)] = 7.0
    train_per_class: Annotated[int, Ge(1)] = 500
    test_per_class: Annotated[int, Ge(1)] = 100
    seed: Annotated[int, Ge(0), Le(LARGEST_SEED)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("train_per_class", "test_per_class"):
            if (numbers := 2 * self.dimension * getattr(self, key)) > _MAX_NUMBERS:
                found = f"{key}: {getattr(self, key)} in {self.dimension} dimensions"
                raise ConfigError(f"{found} makes {numbers} numbers; must be at most {_MAX_NUMBERS}")

    def load(self, *, source: Path | None, download: Path) -> Dataset:
        """Make the toy problem; a point is float32 [dimension], unbounded. Nothing is downloaded.

        Raises:
            ConfigError: a source was given.
        """
        if source is not None:
            raise ConfigError(f"cones: source = {str(source)!r}; must be empty, the points are made from a seed")
        return Dataset(
            name="cones",
            description=f"cones in {self.dimension} dimensions, half-angle {self.half_angle:.4g} radians, "
            f"scale {self.scale:g}, {self.train_per_class} training and {self.test_per_class} test points "
            f"per class, seed {self.seed}",
            image_shape=(self.dimension,),
            num_classes=2,
            pixel_range=None,
            train=lambda: _make(self, split=0, per_class=self.train_per_class),
            test=lambda: _make(self, split=1, per_class=self.test_per_class),
        )


def _make(options: Cones, *, split: int, per_class: int) -> Split:
    # Each split has its own stream: the training points do not depend on how many test points there are.
    rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(split,)))
    directions = np.concatenate(
        [
            cone_directions(per_class, options.dimension, options.half_angle, rng=rng),
            rest_directions(per_class, options.dimension, options.half_angle, rng=rng),
        ]
    )
    distances = options.scale * math.sqrt(options.dimension) * np.sqrt(rng.chisquare(1, 2 * per_class))
    points = (distances[:, None] * directions).astype(np.float32)
    labels = np.repeat([CONE, REST], per_class)
    order = rng.permutation(2 * per_class)
    return array_split(points[order], labels[order], name="cones", num_classes=2, pixel_range=None)


def cone_directions(n: int, dimension: int, half_angle: float, *, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """Draw unit vectors uniformly among those at most ``half_angle`` from the first axis.

    The angle phi has a density proportional to sin(phi)**(dimension - 2), so t = sin(phi)**2 has one
    proportional to t**((dimension - 3) / 2) / sqrt(1 - t) on [0, sin(half_angle)**2]. The power is drawn by
    inversion and the root by rejection, which accepts at least a part cos(half_angle). The inverse of the
    whole distribution function, an incomplete beta function, would underflow in a few hundred dimensions.

    Args:
        n: number of vectors.
        dimension: 2 or more.
        half_angle: in radians, less than pi/2.
        rng: source of randomness.
    """
    largest = math.sin(half_angle) ** 2
    t = np.empty(n)
    todo = np.arange(n)
    while len(todo) > 0:
        drawn = largest * rng.random(len(todo)) ** (2 / (dimension - 1))
        accepted = rng.random(len(todo)) * np.sqrt(1 - drawn) <= math.cos(half_angle)
        t[todo[accepted]] = drawn[accepted]
        todo = todo[~accepted]
    around = _sphere(n, dimension - 1, rng=rng)
    return np.concatenate([np.sqrt(1 - t)[:, None], np.sqrt(t)[:, None] * around], axis=1)


def rest_directions(n: int, dimension: int, half_angle: float, *, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """Draw unit vectors uniformly among those more than ``half_angle`` from the first axis, by rejection.

    As ``half_angle`` is less than pi/2, at least half of the vectors are accepted. Args are those of `cone_directions`.
    """
    directions = _sphere(n, dimension, rng=rng)
    while (inside := directions[:, 0] >= math.cos(half_angle)).any():
        directions[inside] = _sphere(int(inside.sum()), dimension, rng=rng)
    return directions


def _sphere(n: int, dimension: int, *, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw unit vectors uniformly."""
    normal = rng.standard_normal((n, dimension))
    norms: npt.NDArray[np.float64] = np.linalg.norm(normal, axis=1, keepdims=True)
    return normal / norms
