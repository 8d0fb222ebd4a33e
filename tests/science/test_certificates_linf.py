"""The l-infinity radius that another radius implies."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from certsmooth.science.certificates import linf_radius


@given(radius=st.floats(1e-12, 1e6), dimension=st.integers(1, 200_000))
def test_the_cube_lies_in_the_ball_and_is_the_largest(radius, dimension):
    l2, l1 = (linf_radius(np.array([radius]), norm=norm, dimension=dimension)[0] for norm in ("l2", "l1"))
    assert (
        Fraction(l2) ** 2 * dimension
        <= Fraction(radius) ** 2
        < (Fraction(l2) * (1 + Fraction(1, 10**14))) ** 2 * dimension
    )
    assert Fraction(l1) * dimension <= Fraction(radius) < Fraction(l1) * (1 + Fraction(1, 10**14)) * dimension


def test_an_abstention_stays_one():
    np.testing.assert_array_equal(linf_radius(np.array([0.0]), norm="l2", dimension=784), [0.0])
