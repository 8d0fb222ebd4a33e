"""The certificate of IDRS (Theorems 2.2 to 3.2): Gaussian noise of an r-semi-elastic sigma(x), l2 radius.

The theorem, its proof and all rounding are in `theory.worst_case`: if class A has probability at least p > 1/2 at
x, and |log sigma(x') - log sigma(x)| <= r ||x' - x||, then A has probability above 1/2 at every x' closer than
`semi_elastic_radius`, with the sigma of x'. For r = 0 that is the certificate `cohen`.

The bound on p_A is that of `cohen`: given the selection, the count of the selected class among the independent
estimation samples, all drawn with sigma(x), is binomial.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from certsmooth.science.certificates import Smoothing, known_semi_elasticity
from certsmooth.science.certificates._one_sided import OneSided
from certsmooth.science.theory.worst_case import semi_elastic_radius


@dataclass(frozen=True)
class SemiElasticCertificate(OneSided):
    """IDRS: the worst case over all regions and all sigma(x') that r allows, or abstention."""

    max_semi_elasticity: ClassVar[float | None] = inf

    def radius(self, p_a_lower: Float[np.ndarray, " N"], smoothing: Smoothing) -> Float[np.ndarray, " N"]:
        """Return `certsmooth.science.theory.worst_case.semi_elastic_radius`.

        Raises:
            ConfigError: the semi-elasticity is not known.
        """
        return semi_elastic_radius(
            p_a_lower,
            smoothing.sigma,
            known_semi_elasticity(smoothing),
            smoothing.dimension,
            constant_within=smoothing.constant_within,
            rounding=smoothing.rounding,
        )
