"""The certificate of IDRS (Theorems 2.2 to 3.2): Gaussian noise of an r-semi-elastic sigma(x), l2 radius.

The theorem, its proof and all rounding are in `theory.worst_case`: if class A has probability at least p > 1/2 at
x, and |log sigma(x') - log sigma(x)| <= r ||x' - x||, then A has probability above 1/2 at every x' closer than
`semi_elastic_radius`, with the sigma of x'. For r = 0 that is the certificate `cohen`.

**Thresholds.** The authors' program computes xi by the non-central chi-square, which overflows where sigma(x') is
close to sigma(x). So it takes sigma(x') / sigma(x) to be at most sigma_t or at least 1 / sigma_t at every distance
(Appendix D), with sigma_t = threshold + 0.001 log10(p_B): 0.9993 + ... for CIFAR-10 and 0.9988 + ... for MNIST. Nothing
overflows here; ``threshold`` shows what that costs. It is sound: more noise levels are guarded against than the
semi-elasticity allows (`semi_elastic_radius`, ``least_change``).

The bound on p_A is that of `cohen`: given the selection, the count of the selected class among the independent
estimation samples, all drawn with sigma(x), is binomial.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Le
from jaxtyping import Float

from certsmooth.science.certificates import Smoothing, known_semi_elasticity
from certsmooth.science.certificates._one_sided import OneSided
from certsmooth.science.theory.worst_case import semi_elastic_radius


@dataclass(frozen=True)
class SemiElasticCertificate(OneSided):
    """IDRS: the worst case over all regions and all sigma(x') that r allows, or abstention.

    Attributes:
        threshold: in (0.5, 1], of the authors' bound on sigma(x') / sigma(x); None for none.
    """

    max_semi_elasticity: ClassVar[float | None] = inf

    threshold: Annotated[float, Gt(0.5), Le(1)] | None = None

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
            least_change=self._least_change(p_a_lower),
        )

    def _least_change(self, p_a_lower: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Return -log(sigma_t); 0 without a threshold."""
        if self.threshold is None:
            return np.zeros_like(p_a_lower)
        p_b = np.maximum(1.0 - p_a_lower, np.finfo(np.float64).tiny)
        return -np.log(np.minimum(self.threshold + 0.001 * np.log10(p_b), 1.0))
