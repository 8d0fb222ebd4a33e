"""Until it is decided which of some radii are certified: the certified accuracies of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge
from jaxtyping import Bool

from certsmooth.errors import ConfigError
from certsmooth.science.stopping import Prospect, StoppingRule, decided


@dataclass(frozen=True)
class StopAtRadii(StoppingRule):
    """Stop when each radius is certified, or will hardly be.

    Certified accuracy at other radii, and the average certified radius, are then below what n_max samples give.

    Attributes:
        radii: in the certificate's norm and pixel coordinates [0, 1].
    """

    radii: tuple[Annotated[float, Ge(0)], ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.radii:
            raise ConfigError("radii: none; must be one or more")

    @property
    def asked(self) -> tuple[float, ...]:
        """The radii."""
        return self.radii

    def decided(self, prospect: Prospect) -> Bool[np.ndarray, " N"]:
        """Return of which images all radii are decided."""
        return decided(self.radii, prospect, self.chance)
