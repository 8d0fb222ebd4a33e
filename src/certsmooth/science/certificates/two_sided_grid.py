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
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from certsmooth._internal.checks import check_alpha, store_integer
from certsmooth.science.certificates import Bound, Norm, Smoothing
from certsmooth.science.certificates._two_sided import best_of_splits


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """T-CERTIFY's largest radius over a grid of splits, each at level alpha / grid.

    Attributes:
        grid: G, the number of splits: p_A is bounded with the shares 1/G, 2/G, ..., 1 (10 in the paper).
    """

    grid: int = 10

    noise: ClassVar[str] = "gaussian"
    norm: ClassVar[Norm] = "l2"
    max_semi_elasticity: ClassVar[float | None] = 0.0

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

        With probability at least 1 - alpha per image, g is the returned class everywhere in the open l2 ball.
        """
        alpha = check_alpha(alpha)
        return best_of_splits(selection, estimation, smoothing, alpha=alpha / self.grid, grid=self.grid)
