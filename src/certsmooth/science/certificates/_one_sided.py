"""What the certificates share that bound the probability of the selected class alone: p_B = 1 - p_A.

The class must be selected on other samples than those that estimate its probability. Given the selection, the
count of the selected class among independent samples is binomial, so the bound of Clopper and Pearson fails
with probability at most alpha. The count of the class that happens to lead among the *same* samples is not:
it is a maximum of k counts, and the bound may then fail with a probability of up to k alpha.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from certsmooth.science.certificates import Bound, Norm, Smoothing, check_counts, concluded, selected_class, taken_off


class OneSided(ABC):
    """A certificate that is a radius for a lower bound on the probability of the selected class, or abstention."""

    noise: ClassVar[str] = "gaussian"
    norm: ClassVar[Norm] = "l2"
    max_semi_elasticity: ClassVar[float | None] = 0.0

    @abstractmethod
    def radius(self, p_a_lower: Float[np.ndarray, " N"], smoothing: Smoothing) -> Float[np.ndarray, " N"]:
        """Return the certified radii, float64, rounded down; 0 where p_a_lower <= 1/2.

        Args:
            p_a_lower: lower bound on the probability of the selected class, in [0, 1).
            smoothing: the noise, checked by `certsmooth.science.certificates.check_counts`.

        Raises:
            ConfigError: the certificate needs to know more of the smoothing.
        """

    def __call__(
        self,
        selection: Int[np.ndarray, "N k"],
        estimation: Int[np.ndarray, "N k"],
        smoothing: Smoothing,
        *,
        alpha: float,
    ) -> Bound:
        """Certify N images.

        For each image, with probability at least 1 - alpha over the samples: if ``predict`` is a class, then g, which
        smooths at every x' with the sigma of x', is that class everywhere in the open ball of that radius. That holds
        for every sigma(x) that ``max_semi_elasticity`` allows. It abstains if p_a_lower <= 1/2. Radii are rounded down.

        Args:
            selection: class counts of the samples that select the class: the most frequent one, the smallest
                class index among equals.
            estimation: class counts of the samples, drawn independently of the others, that bound its probability.
            smoothing: the noise.
            alpha: the probability of error per image, in (0, 1).

        Raises:
            ConfigError: an argument is not valid; the message names it.
        """
        check_counts(selection, estimation, smoothing)
        selected, lower = selected_class(selection, estimation, alpha=alpha)
        p_a_lower = taken_off(lower, smoothing.distance())
        radius = self.radius(p_a_lower, smoothing)
        if smoothing.grid is not None and smoothing.semi_elasticity:  # the noise of the whole ball may cost more
            p_a_lower = taken_off(lower, smoothing.distance(radius))
            radius = self.radius(p_a_lower, smoothing)
        return concluded(selected, radius, p_a_lower, 1.0 - p_a_lower, smoothing, norm=self.norm)
