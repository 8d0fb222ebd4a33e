"""T-CERTIFY (ADRE, Algorithm 2 and Proposition 1) with a split of alpha that is fixed beforehand.

CERTIFY bounds p_A, the probability of the selected class A, and takes p_B = 1 - p_A for the largest probability of
the others. Here the counts bound both. Let a + b = alpha; given A, both bounds are of samples independent of it:

- L, the lower bound of Clopper and Pearson on p_A at level a, from N_A of n samples (or, as for U, that of
  `theory.sequential` where n depends on what the samples showed: the argument is the same);
- U, their upper bound at level b for the *largest* count among the other classes; and never more than 1 - L.

Theorem. Let g be the smoothed classifier of a constant sigma. With probability at least 1 - alpha over the samples:
if L > U, then g(x + d) = A for every d with ||d||_2 < sigma / 2 (Phi^-1(L) - Phi^-1(U)).

Proof. P(p_A < L) <= a. Let B be the most probable class besides A; which one is not known, but it does not depend on
the samples. The bound grows with the count, so U is at least B's own bound, which lies below p_B with probability at
most b (and where p_A >= L, also p_B <= 1 - p_A <= 1 - L). So p_A >= L and p_c <= U for every c other than A, with
probability at least 1 - a - b = 1 - alpha. By the lemma of Neyman and Pearson (see `cohen`) the probability of A at
x + d is at least Phi(Phi^-1(L) - ||d|| / sigma), and by the same lemma that of c is at most
Phi(Phi^-1(U) + ||d|| / sigma); below the radius, the first is larger.

Against the paper:

- Its equation 14 takes for U the p at which the binomial tails of all other classes sum to b. The sum is not needed:
  only the tail of B, one fixed class, has to be at most b. The largest single tail reaches b at a smaller p, so U
  is never above equation 14's. (Its proof takes tails at the random p for probabilities of error; what it
  claims is true by the argument above.)
- It abstains if L <= 1/2. The theorem needs L > U alone, so that classes that lead without a majority are certified.
- U <= 1 - L, so that the radius is never below that of `cohen` at level a.
- It takes the largest radius over several splits of the same counts; see `two_sided_adaptive` and `two_sided_grid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Lt
from jaxtyping import Int

from certsmooth.science.certificates import Bound, Certificate, Smoothing
from certsmooth.science.certificates._two_sided import bound_at_split


@dataclass(frozen=True, kw_only=True)
class TwoSidedCertificate(Certificate):
    """T-CERTIFY at one split: radius = sigma / 2 (Phi^-1(p_a_lower) - Phi^-1(p_b_upper)), or abstention.

    Attributes:
        split: the share of alpha that bounds p_A, in (0, 1); the rest bounds p_B. It matters little: from 0.1 to
            0.9, the mean radius changes by less than 1 % (see docs/two_sided.md).
    """

    split: Annotated[float, Gt(0), Lt(1)] = 0.5

    may_stop: ClassVar[bool] = True

    def _certify(
        self, selection: Int[np.ndarray, "N k"], estimation: Int[np.ndarray, "N k"], smoothing: Smoothing, alpha: float
    ) -> Bound:
        return bound_at_split(selection, estimation, smoothing, alpha=alpha, share=self.split)
