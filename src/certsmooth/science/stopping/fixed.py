"""All n samples of every image: the rule of CERTIFY (Cohen et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from certsmooth.science.sampling.counts import BLOCK
from certsmooth.science.stopping import Prospect, StoppingRule
from certsmooth.science.theory.sequential import FixedTrials, Trials


@dataclass(frozen=True)
class StopAtEnd(StoppingRule):
    """Nothing stops the estimation samples: their number, given the selection, is fixed, as most certificates need."""

    def trials(self, most: int) -> Trials:
        """Return that the number is fixed: what may stop is decided by the selection samples alone."""
        return FixedTrials()

    def next_look(self, n: int, most: int) -> int:
        """Return the end, after the first block."""
        return most if n else min(BLOCK, most)

    def decided(self, prospect: Prospect) -> Bool[np.ndarray, " N"]:
        """Return that none is."""
        return np.zeros(len(prospect.estimation), dtype=bool)
