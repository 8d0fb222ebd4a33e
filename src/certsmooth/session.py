"""The memory of a session: certificates that later answers must agree with (DDRS, Section 3.5)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from certsmooth.errors import DataError
from certsmooth.memory import memory_pass


class Memory:
    """What a data-dependent classifier certified so far, in the order in which it came.

    Certificates that went through one memory have disjoint balls where their predictions differ. They hold within
    that memory and its order only: another session may answer otherwise.

    Attributes:
        points: float32 [m, d], flattened images.
        predict: int64 [m], their classes; -1 where the classifier abstained.
        radius: float64 [m], their certified radii.
    """

    def __init__(self) -> None:
        self.points: Float[np.ndarray, "m d"] = np.empty((0, 0), dtype=np.float32)
        self.predict: Int[np.ndarray, " m"] = np.empty(0, dtype=np.int64)
        self.radius: Float[np.ndarray, " m"] = np.empty(0, dtype=np.float64)

    def enter(
        self, points: Float[np.ndarray, "b d"], predict: Int[np.ndarray, " b"], radius: Float[np.ndarray, " b"]
    ) -> tuple[Int[np.ndarray, " b"], Float[np.ndarray, " b"]]:
        """Make answers agree with the memory and remember them, one after the other.

        Args:
            points: float32, flattened images.
            predict: their classes; -1 is left as it is.
            radius: their certified radii.

        Returns:
            Classes and radii after the memory pass (`certsmooth.memory.memory_pass`).

        Raises:
            DataError: points of another dimension than those before.
        """
        new = self._answer(points, predict, radius)
        self.points = np.concatenate([self.points.reshape(-1, points.shape[1]), points])
        self.predict = np.concatenate([self.predict, new[0]])
        self.radius = np.concatenate([self.radius, new[1]])
        return new

    def recall(self, points: Float[np.ndarray, "b d"], predict: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """Return the class of the remembered ball that holds a point, else its own; nothing is remembered.

        Args:
            points: float32, flattened images.
            predict: their classes; -1 is left as it is.

        Raises:
            DataError: points of another dimension than those before.
        """
        # A ball of radius 0 is empty: these points take the classes of the balls they lie in, and change nothing else.
        return self._answer(points, predict, np.zeros(len(points)))[0]

    def _answer(
        self, points: Float[np.ndarray, "b d"], predict: Int[np.ndarray, " b"], radius: Float[np.ndarray, " b"]
    ) -> tuple[Int[np.ndarray, " b"], Float[np.ndarray, " b"]]:
        m = len(self.predict)
        if m and points.shape[1] != self.points.shape[1]:
            raise DataError(f"points of {points.shape[1]} dimensions; the memory holds {self.points.shape[1]}")
        # What is remembered has disjoint balls already: the pass leaves it as it is.
        result = memory_pass(
            np.concatenate([self.points.reshape(-1, points.shape[1]), points]),
            np.concatenate([self.predict, predict]),
            np.concatenate([self.radius, radius]),
            order=np.arange(m + len(points)),
        )
        return result.predict[m:], result.radius[m:]
