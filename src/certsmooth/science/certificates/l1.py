"""The l1 certificate of uniform noise (Yang et al., ICML 2020; DDRS, Section 4.4).

Theorem. Let f be a classifier, e uniform on the cube [-lambda, lambda]^d, and g(x) the class that f(x + e) is most
likely to return, p_A its probability and p_B the largest of the others. Then g(x + d) = g(x) for every d with
||d||_1 < lambda (p_A - p_B).

Proof. The cubes around x and x + d overlap in the share prod_i max(0, 1 - |d_i| / (2 lambda)) of their volume, which is
at least 1 - sum_i |d_i| / (2 lambda) (expand the product, or Weierstrass; where a factor is 0 the right side is not
positive). The probability of any region thus differs between the two by at most t = ||d||_1 / (2 lambda). At x + d the
class of x has at least p_A - t and any other at most p_B + t; the first is larger if 2 t < p_A - p_B.

It is tight: with f a half-space orthogonal to an axis, t is attained for both at once. Bounds L on p_A and
1 - L on p_B give lambda (2 L - 1).

The statement is about one lambda: where it depends on x, nothing follows, as for `cohen`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from certsmooth.science.certificates import Norm, Smoothing
from certsmooth.science.certificates._one_sided import OneSided


@dataclass(frozen=True)
class L1Certificate(OneSided):
    """Uniform noise on [-lambda, lambda]^d, lambda its sigma: l1 radius = lambda (2 p_a_lower - 1), or abstention."""

    noise: ClassVar[str] = "uniform"
    norm: ClassVar[Norm] = "l1"

    def radius(self, p_a_lower: Float[np.ndarray, " N"], smoothing: Smoothing) -> Float[np.ndarray, " N"]:
        """Return lambda (2 p_a_lower - 1), rounded down."""
        gap = 2.0 * np.maximum(p_a_lower, 0.5) - 1.0  # exact: a float in [1/2, 1), doubled, less 1
        radius: Float[np.ndarray, " N"] = np.maximum(np.nextafter(smoothing.sigma.astype(np.float64) * gap, -1.0), 0.0)
        return radius
