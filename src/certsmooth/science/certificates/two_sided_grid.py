"""T-CERTIFY (ADRE, Algorithm 2): the largest radius over a grid of splits, with alpha divided over the grid.

Each of G splits is used at level alpha / G. Each certificate is then wrong with probability at most alpha / G (see
`two_sided`), all of them together hold with probability at least 1 - alpha, and so does the one that is chosen after
seeing the counts.

It never beats `two_sided` with split 1/2, for G >= 2: every bound on p_A is at a level of at most alpha / G, and so is
every bound on p_B; bounds of Clopper and Pearson at smaller levels are looser, so one split that has
alpha / 2 >= alpha / G for each is at least as good as each of the grid. It is here because the paper searches over a
grid.
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
class TwoSidedGridCertificate(Certificate):
    """T-CERTIFY's largest radius over a grid of splits, each at level alpha / grid.

    Attributes:
        grid: G, the number of splits: p_A is bounded with the shares 1/G, 2/G, ..., 1 (10 in the paper).
    """

    grid: Annotated[int, Ge(1)] = 10

    may_stop: ClassVar[bool] = True

    def _certify(
        self, selection: Int[np.ndarray, "N k"], estimation: Int[np.ndarray, "N k"], smoothing: Smoothing, alpha: float
    ) -> Bound:
        split = partial(bound_at_split, selection, estimation, smoothing, alpha=alpha / self.grid)
        return best_of_splits(lambda share: split(share=share), self.grid)
