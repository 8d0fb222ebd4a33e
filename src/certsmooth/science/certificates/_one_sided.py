"""What the certificates share that bound the probability of the selected class alone: p_B = 1 - p_A.

The class must be selected on other samples than those that estimate its probability. Given the selection, the
count of the selected class among independent samples is binomial, so the bound of Clopper and Pearson fails
with probability at most alpha; and where the number of samples depends on what they show, that of
`theory.sequential` does. The count of the class that happens to lead among the *same* samples is not:
it is a maximum of k counts, and the bound may then fail with a probability of up to k alpha.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from certsmooth.science.certificates import Bound, Certificate, Smoothing, concluded, selected_class, taken_off


@dataclass(frozen=True)
class OneSided(Certificate):
    """A certificate that is a radius for a lower bound on the probability of the selected class, or abstention.

    It abstains if that bound is at most 1/2.
    """

    may_stop: ClassVar[bool] = True

    @abstractmethod
    def radius(self, p_a_lower: Float[np.ndarray, " N"], smoothing: Smoothing) -> Float[np.ndarray, " N"]:
        """Return the certified radii, float64, rounded down; 0 where p_a_lower <= 1/2.

        Args:
            p_a_lower: lower bound on the probability of the selected class, in [0, 1).
            smoothing: the noise, checked by `certsmooth.science.certificates.check_counts`.

        Raises:
            ConfigError: the certificate needs to know more of the smoothing.
        """

    def _certify(
        self, selection: Int[np.ndarray, "N k"], estimation: Int[np.ndarray, "N k"], smoothing: Smoothing, alpha: float
    ) -> Bound:
        selected, lower = selected_class(selection, estimation, smoothing.trials, alpha=alpha)
        p_a_lower = taken_off(lower, smoothing.distance())
        radius = self.radius(p_a_lower, smoothing)
        if smoothing.grid is not None and smoothing.semi_elasticity:  # the noise of the whole ball may cost more
            p_a_lower = taken_off(lower, smoothing.distance(radius))
            radius = self.radius(p_a_lower, smoothing)
        return concluded(selected, radius, p_a_lower, 1.0 - p_a_lower, smoothing, norm=self.norm)
