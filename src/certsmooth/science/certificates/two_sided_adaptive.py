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
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Int

from certsmooth.science.certificates import Bound, Certificate, Smoothing
from certsmooth.science.certificates._two_sided import best_of_splits, bound_at_split


@dataclass(frozen=True, kw_only=True)
class TwoSidedAdaptiveCertificate(Certificate):
    """T-CERTIFY's largest radius over a grid of splits, each at level alpha.

    Attributes:
        grid: G, the number of splits: p_A is bounded with the shares 1/G, 2/G, ..., 1 of alpha (10 in the paper); at
            the share 1, p_B is 1 - p_A as in CERTIFY.
    """

    grid: Annotated[int, Ge(1)] = 10

    max_semi_elasticity: ClassVar[float | None] = None
    may_stop: ClassVar[bool] = True

    def _certify(
        self, selection: Int[np.ndarray, "N k"], estimation: Int[np.ndarray, "N k"], smoothing: Smoothing, alpha: float
    ) -> Bound:
        split = partial(bound_at_split, selection, estimation, smoothing, alpha=alpha)
        return best_of_splits(lambda share: split(share=share), self.grid)
