"""Until it is decided whether one radius is certified.

Voracek (NeurIPS 2024) asks the same of a confidence sequence; here n is bounded, and what n_max has no chance to
certify is given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge
from jaxtyping import Bool

from certsmooth.science.stopping import Prospect, StoppingRule, decided


@dataclass(frozen=True)
class StopAtRadius(StoppingRule):
    """Stop when the radius is certified, or will hardly be.

    Attributes:
        radius: in the certificate's norm and pixel coordinates [0, 1].
    """

    radius: Annotated[float, Ge(0)]

    @property
    def asked(self) -> tuple[float, ...]:
        """The radius."""
        return (self.radius,)

    def decided(self, prospect: Prospect) -> Bool[np.ndarray, " N"]:
        """Return of which images the radius is decided."""
        return decided(self.asked, prospect, self.chance)
