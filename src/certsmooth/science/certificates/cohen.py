"""The certificate of Cohen, Rosenfeld and Kolter (ICML 2019): Gaussian noise of a constant sigma, l2 radius.

Theorem 1 there, in the form that CERTIFY uses (p_B = 1 - p_A). Let f be a classifier, e ~ N(0, sigma^2 I),
and g(x) the class that f(x + e) is most likely to return. If P(f(x + e) = c) >= p > 1/2, then g(x + d) = c
for every d with ||d||_2 < sigma Phi^-1(p).

Proof. Among all regions of N(x, sigma^2 I)-probability at least p, the lemma of Neyman and Pearson names the
one with the least probability under N(x + d, sigma^2 I): the half-space where the likelihood ratio, a
function of <d, z> alone, favours x. It has probability Phi(Phi^-1(p) - ||d|| / sigma) there, which is above
1/2 exactly if ||d|| < sigma Phi^-1(p). So f(x + d + e) returns c with probability above 1/2, more than any
other class.

The statement is about one g, that is one sigma. If sigma depends on x, then g(x + d) smooths with another
sigma and nothing follows: `max_semi_elasticity` is 0.

p is bounded from samples as `certsmooth.science.certificates._one_sided` says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from certsmooth._internal.checks import check_alpha
from certsmooth.science.certificates import ABSTAIN, Smoothing, check_count_rows, check_enough
from certsmooth.science.certificates._one_sided import OneSided
from certsmooth.science.theory.bounds import binomial_p_value
from certsmooth.science.theory.worst_case import constant_radius


@dataclass(frozen=True)
class CohenCertificate(OneSided):
    """CERTIFY of Cohen et al.: radius = sigma Phi^-1(p_a_lower), or abstention."""

    def radius(self, p_a_lower: Float[np.ndarray, " N"], smoothing: Smoothing) -> Float[np.ndarray, " N"]:
        """Return sigma Phi^-1(p_a_lower), rounded down."""
        return constant_radius(p_a_lower, smoothing.sigma)


def predict(counts: Int[np.ndarray, "N k"], *, alpha: float) -> npt.NDArray[np.int64]:
    """Predict the class of N images without a radius: PREDICT of Cohen et al.

    The two most frequent classes are compared by the exact two-sided test that they are equally likely. With
    probability at least 1 - alpha per image, the answer is g(x) or abstention (their Proposition 1).

    Args:
        counts: class counts of the samples.
        alpha: the probability of error per image, in (0, 1).

    Returns:
        The most frequent class, or -1 where the test does not reject at level alpha.

    Raises:
        ConfigError: an argument is not valid; the message names it.
    """
    alpha = check_alpha(alpha)
    check_count_rows("counts", counts)
    first = counts.argmax(axis=1)
    second, most = np.partition(counts, -2, axis=1)[:, -2:].T
    p_value = binomial_p_value(most, most + second)
    return np.where(p_value <= alpha, first, ABSTAIN).astype(np.int64)


def check_can_predict(*, n: int, alpha: float) -> None:
    """Raise unless n samples can show enough for `predict`: it must not abstain where all are of one class.

    Args:
        n: samples.
        alpha: the probability of error per image.

    Raises:
        ConfigError: it abstains whatever the samples show; the message says which n is enough.
    """
    check_enough(lambda n: bool(predict(np.array([[n, 0]]), alpha=alpha)[0] != ABSTAIN), n=n, alpha=alpha)
