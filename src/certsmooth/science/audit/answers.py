"""What an attack on certificates found: class counts inside the certified balls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

KINDS = ("own", "start", "lowest", "highest", "up", "down", "nearest", "random", "route", "expert", "route and expert")
"""Of candidates (`certsmooth.science.audit.break_certificates`); a result refers to them by their place here."""


@dataclass(frozen=True)
class Answers:
    """Class counts of PREDICT inside N certified balls, each at the candidate that promised most to break it.

    Attributes:
        index: int64 [N], position of the image in its data set's split.
        predict: int64 [N], the certified class, before any memory pass.
        radius: float64 [N], the certified radius, likewise; > 0.
        sigma: float64 [N], sigma(x).
        candidates: int64 [N], points tried in the ball.
        kind: int64 [N], that of the chosen one, in `KINDS`.
        distance: float64 [N], of the chosen one from the image, below the radius and in its norm.
        sigma_there: float64 [N], sigma(x') of the chosen one, that PREDICT smoothed with.
        counts: int64 [N, k], PREDICT's class counts, of noise that the search has not seen; none where a router
            abstained.
        batch_size: int64 [N], rows per forward pass.
    """

    index: Int[np.ndarray, " N"]
    predict: Int[np.ndarray, " N"]
    radius: Float[np.ndarray, " N"]
    sigma: Float[np.ndarray, " N"]
    candidates: Int[np.ndarray, " N"]
    kind: Int[np.ndarray, " N"]
    distance: Float[np.ndarray, " N"]
    sigma_there: Float[np.ndarray, " N"]
    counts: Int[np.ndarray, "N k"]
    batch_size: Int[np.ndarray, " N"]
