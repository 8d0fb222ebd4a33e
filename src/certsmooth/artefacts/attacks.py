"""Class counts at attacked images, on disk: as `certsmooth.artefacts.counts`, a row per image, samples and radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from certsmooth.artefacts.counts import CountsTable
from certsmooth.artefacts.envelope import Form


@dataclass(frozen=True)
class AttackCounts(CountsTable):
    """Class counts of the smoothed classifier's PREDICT at N attacked images.

    Attributes:
        index: int64 [N], position of the image in its data set's split.
        label: int64 [N], the true class.
        samples: int64 [N], noise samples that the attack saw; 0 for none.
        epsilon: float64 [N], the largest l2 norm that the attack was allowed; 0: not attacked, ``samples`` is then 0.
        distance: float64 [N], the l2 norm of the perturbation, in pixel coordinates [0, 1].
        sigma: float64 [N], the noise level used at the attacked image.
        counts: int64 [N, k], class counts under noise that the attack has not seen.
        batch_size: int64 [N], rows per forward pass.
    """

    form: ClassVar[Form] = Form("attacks 3", "make it again")

    label: Int[np.ndarray, " N"]
    samples: Int[np.ndarray, " N"]
    epsilon: Float[np.ndarray, " N"]
    distance: Float[np.ndarray, " N"]
    sigma: Float[np.ndarray, " N"]
    counts: Int[np.ndarray, "N k"]
    batch_size: Int[np.ndarray, " N"]
