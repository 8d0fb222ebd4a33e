"""Until the radius is about what all samples would give: for the average certified radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt
from jaxtyping import Bool

from certsmooth.science.stopping import Prospect, StoppingRule


@dataclass(frozen=True)
class StopAtPrecision(StoppingRule):
    """Stop when n_max samples will hardly certify more than a given distance beyond the radius that is certified.

    Attributes:
        within: the distance, in the certificate's norm and pixel coordinates [0, 1].
    """

    within: Annotated[float, Gt(0)]

    def decided(self, prospect: Prospect) -> Bool[np.ndarray, " N"]:
        """Return which images have about their radius."""
        reached, reachable = prospect.radii(self.chance)
        return np.asarray(np.maximum(reachable, 0.0) - np.maximum(reached, 0.0) <= self.within) & (
            (reached >= 0) | (reachable < 0)
        )
