"""The l1 certificate of uniform noise where the truth is known."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from certsmooth.errors import ConfigError
from certsmooth.science.certificates import ABSTAIN, guarantee, l1
from certsmooth.science.theory.bounds import clopper_pearson_lower
from factories import GRID, certify_two_classes

ALPHA = 0.01


def every_outcome(n, *, selected=0, half_width=0.5):
    """The certificates of all n + 1 outcomes of the estimation, class 0 being drawn k = 0 .. n times."""
    settings = {"sigma": half_width, "selected": selected, "dimension": 3, "alpha": ALPHA}
    return certify_two_classes(l1.L1Certificate(), np.arange(n + 1), n, **settings)


def exact_error(n, p, half_width):
    """The larger probability, given the selected class, that a certificate is wrong.

    f is class 0 on one side of a hyperplane orthogonal to an axis. At the distance s from it, class 0 has probability
    p = (half_width + s) / (2 half_width); so g changes half_width (2 p - 1) away.
    """
    p, half_width = Fraction(p), Fraction(half_width)
    weights = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    wrong = [
        [Fraction(r) > half_width * (2 * p - 1) for r in every_outcome(n, half_width=float(half_width)).radius],
        every_outcome(n, selected=1, half_width=float(half_width)).radius > 0,
    ]
    return max(sum((w for w, is_wrong in zip(weights, some, strict=True) if is_wrong), Fraction(0)) for some in wrong)


@pytest.mark.parametrize("n", [5, 20, 100])
@pytest.mark.parametrize("p", [0.5, 0.5001, 0.55, 0.6, 0.75, 0.9, 0.99, 0.9999])
def test_a_certificate_is_wrong_with_probability_at_most_alpha_exactly(n, p):
    assert exact_error(n, p, 0.3) <= Fraction(ALPHA)


@pytest.mark.parametrize(("n", "k"), [(20, 17), (100, 64), (100, 100)])
def test_the_bound_on_the_error_is_attained(n, k):
    worst = float(clopper_pearson_lower(k, n, alpha=ALPHA)) - 1e-12
    assert Fraction(ALPHA) * Fraction(999_999, 1_000_000) < exact_error(n, worst, 0.3) <= Fraction(ALPHA)


def test_the_radius_is_the_formula_rounded_down():
    bound = every_outcome(1000, half_width=0.3)
    for p, radius, predict in zip(bound.p_a_lower, bound.radius, bound.predict, strict=True):
        exact = max(Fraction(0), Fraction(0.3) * (2 * Fraction(float(p)) - 1))
        assert exact * (1 - Fraction(1, 2**51)) <= Fraction(float(radius)) <= exact
        assert predict == (0 if p > 0.5 else ABSTAIN)


def test_it_is_about_uniform_noise_of_constant_width():
    certificate = l1.L1Certificate()
    assert (certificate.noise, certificate.norm) == ("uniform", "l1")
    assert guarantee(certificate, 0.0, GRID) == "global"
    assert guarantee(certificate, 1e-9, GRID) == "none"
    with pytest.raises(ConfigError, match=r"^sigma: "):
        every_outcome(10, half_width=-1.0)
