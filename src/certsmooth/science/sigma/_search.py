"""What policies share that search for the sigma of an image by asking the base classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt

from certsmooth.errors import ConfigError
from certsmooth.science.sigma import SigmaPolicy


@dataclass(frozen=True, kw_only=True)
class Search(SigmaPolicy):
    """Base of these policies; nothing is known of how much their sigma(x) changes with x.

    Attributes:
        sigma: sigma_0, in pixel coordinates [0, 1], in [lower, upper].
        lower: smallest sigma; what is below is projected to it.
        upper: largest sigma.
    """

    sigma: Annotated[float, Gt(0)]
    lower: Annotated[float, Gt(0)] = 0.01
    upper: Annotated[float, Gt(0)] = 2.0

    uses_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower >= self.upper:
            raise ConfigError(f"lower: {self.lower}; must be below upper, which is {self.upper}")
        if not self.lower <= self.sigma <= self.upper:
            bounds = f"[{self.lower}, {self.upper}]"
            raise ConfigError(f"sigma: {self.sigma}; must be in [lower, upper] = {bounds}")

    @property
    def sigma0(self) -> float:
        """sigma_0."""
        return self.sigma
