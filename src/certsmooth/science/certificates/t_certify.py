"""T-CERTIFY to the letter: ADRE, Algorithm 2 with equation 14.

For each a of the grid alpha/G, 2 alpha/G, ..., alpha:

- p_A is the lower bound of Clopper and Pearson at level a on the probability of the selected class A;
- p_B is the smallest p at which the tails of all other classes together, sum_c P(Binomial(n, p) <= N_c), are at most
  alpha - a (equation 14). At a = alpha nothing is left for them, and p_B is 1 - p_A: the paper's experiments say that
  the radius is then that of CERTIFY;
- the radius is sigma / 2 (Phi^-1(p_A) - Phi^-1(p_B)) if p_A > 1/2, else 0.

The largest of these radii is returned, or abstention if none is positive. (p_B is capped at 1 - p_A here, which changes
no radius: what it could raise at one a is at most the radius of CERTIFY at level a, and that of a = alpha is larger.)

The counts choose a, which Proposition 1 of the paper takes as given: the guarantee is ``none``. What is known of the
error of a choice among G splits stands in `two_sided_adaptive`; this p_B is never below the one there (the largest
single tail reaches alpha - a at a smaller p than the sum of all), and abstention only removes errors, so that the same
bound, below 2 alpha, holds. `two_sided` is the form that is proved at level alpha; it needs no p_A > 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Float, Int
from scipy.special import bdtr

from certsmooth.science.certificates import Bound, Certificate, Smoothing
from certsmooth.science.certificates._two_sided import best_of_splits, bound_at_split
from certsmooth.science.theory.bounds import clopper_pearson_upper

_ROUNDING = 1e-9
"""Relative, in p: more than what the error of the binomial tails moves the root of their sum by."""


@dataclass(frozen=True, kw_only=True)
class TCertifyCertificate(Certificate):
    """T-CERTIFY as published: the largest radius over a grid of splits of alpha, for classes with a majority.

    Attributes:
        grid: G, the number of splits; 10 in the paper.
    """

    grid: Annotated[int, Ge(1)] = 10

    max_semi_elasticity: ClassVar[float | None] = None

    def _certify(
        self, selection: Int[np.ndarray, "N k"], estimation: Int[np.ndarray, "N k"], smoothing: Smoothing, alpha: float
    ) -> Bound:
        split = partial(
            bound_at_split, selection, estimation, smoothing, alpha=alpha, others_upper=all_tails_upper, majority=True
        )
        return best_of_splits(lambda share: split(share=share), self.grid)


def all_tails_upper(
    others: Int[np.ndarray, "N k"], trials: Int[np.ndarray, " N"], *, alpha: float
) -> Float[np.ndarray, " N"]:
    """Return p_B of ADRE, equation 14: the p at which the lower tails of all others sum to alpha, rounded up.

    Args:
        others: counts of the other classes, and 0 for the selected class, which is none of them.
        trials: samples of each image.
        alpha: what is left for p_B, in (0, 1).
    """
    # In order, so that the sum is rounded alike whatever the classes are called; one zero is the selected class's.
    counts, classes = -np.sort(-others, axis=1)[:, :-1], others.shape[1] - 1
    low = clopper_pearson_upper(counts[:, 0], trials, alpha=alpha)
    if classes == 1:
        return low
    from scipy.optimize.elementwise import find_root  # here, as it takes half a second

    # One tail alone reaches alpha before the sum does; and where each is alpha / classes, the sum is at most alpha.
    high = clopper_pearson_upper(counts[:, 0], trials, alpha=alpha / classes)
    low, high = low * (1 - 2 * _ROUNDING), np.minimum(high * (1 + 2 * _ROUNDING), 1.0)

    def excess(p: Float[np.ndarray, " M"], row: Int[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
        difference: Float[np.ndarray, " M"] = bdtr(counts[row], trials[row, None], p[:, None]).sum(axis=1) - alpha
        return difference

    root = find_root(excess, (low, high), args=(np.arange(len(trials)),))
    return np.minimum(np.maximum(root.bracket[0], root.bracket[1]) * (1 + _ROUNDING), 1.0)
