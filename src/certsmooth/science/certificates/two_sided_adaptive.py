"""T-CERTIFY (ADRE, Algorithm 2) as the paper has it: the largest radius over a grid of splits, each at full alpha.

The paper's Proposition 1 is about one split, fixed before the counts are seen (`two_sided`). Here the counts choose the
split, and the probability that one of several certificates is wrong can be larger than that of each. So this one has
guarantee ``none`` at level alpha.

What can be proved: bounds of Clopper and Pearson at smaller levels are looser, so if any bound on p_A is wrong, the one
with the largest share is, and if any bound on p_B is wrong, the one with the smallest share is. With the shares
1/G, ..., 1 the certificate is thus wrong with probability at most alpha + (1 - 1/G) alpha < 2 alpha. In the cases of
docs/two_sided.md it was never wrong more often than alpha.

The bounds are those of `two_sided`, of which the one on p_B is tighter than the paper's; its error is therefore at
least that of the paper's form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from certsmooth._internal.checks import store_integer
from certsmooth.science.certificates import Bound, Norm, Smoothing
from certsmooth.science.certificates._two_sided import best_of_splits


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """T-CERTIFY's largest radius over a grid of splits, each at level alpha.

    Attributes:
        grid: G, the number of splits: p_A is bounded with the shares 1/G, 2/G, ..., 1 of alpha (10 in the paper); at
            the share 1, p_B is 1 - p_A as in CERTIFY.
    """

    grid: int = 10

    noise: ClassVar[str] = "gaussian"
    norm: ClassVar[Norm] = "l2"
    max_semi_elasticity: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        store_integer(self, "grid", minimum=1)

    def __call__(
        self,
        selection: Int[np.ndarray, "N k"],
        estimation: Int[np.ndarray, "N k"],
        smoothing: Smoothing,
        *,
        alpha: float,
    ) -> Bound:
        """Certify N images; the arguments and errors are those of `two_sided.Certificate`.

        The probability of error per image is below 2 alpha for certain; that it is at most alpha is not proved.
        """
        return best_of_splits(selection, estimation, smoothing, alpha=alpha, grid=self.grid)
