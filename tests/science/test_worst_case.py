"""xi and the radius against independent evaluations: scipy's distributions, 40-digit integrals, and simulation."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import chi2, ncx2

from certsmooth.errors import ConfigError
from certsmooth.science.theory.worst_case import constant_radius, semi_elastic_radius, xi

P = np.array([0.501, 0.6, 0.9, 0.99, 0.99993, 1 - 1e-9])


def by_noncentral_chi_square(
    distance: float, sigma0: float, sigma1: float, dimension: int, p: np.ndarray
) -> np.ndarray:
    """IDRS, Theorem 2.3, as it is written: two non-central chi-squares, or their complements."""
    unit = (distance / (sigma0**2 - sigma1**2)) ** 2
    cdf, quantile = (ncx2.cdf, ncx2.ppf) if sigma1 < sigma0 else (ncx2.sf, ncx2.isf)
    square = quantile(1 - p, dimension, sigma0**2 * unit)
    return np.asarray(cdf(square * (sigma0 / sigma1) ** 2, dimension, sigma1**2 * unit))


def precise_tail(m: mp.mpf, t: mp.mpf, k: mp.mpf, dimension: int, mean: mp.mpf, rho: mp.mpf) -> mp.mpf:
    """P(t z_1 - k (|z|^2 - N) >= m), z ~ N(mean e_1, rho^2 I): an integral over |(z_2, ..., z_N)| / rho."""

    def given_rest(chi: mp.mpf) -> mp.mpf:
        square = t**2 - 4 * k * (m + k * (rho**2 * chi**2 - dimension))
        if square <= 0:
            return mp.mpf(k < 0)
        a, b = sorted(((t + sign * mp.sqrt(square)) / (2 * k) - mean) / rho for sign in (-1, 1))
        return mp.ncdf(b) - mp.ncdf(a) if k > 0 else mp.ncdf(a) + mp.ncdf(-b)

    if dimension == 1:
        return given_rest(mp.mpf(0))
    half = mp.mpf(dimension - 1) / 2
    constant = (1 - half) * mp.log(2) - mp.loggamma(half)

    def integrand(chi: mp.mpf) -> mp.mpf:
        power = (dimension - 2) * mp.log(chi) if dimension > 2 else mp.mpf(0)
        return mp.exp(constant + power - chi**2 / 2) * given_rest(chi)

    middle = mp.sqrt(dimension - 1)
    points = [max(mp.mpf(0), middle - 9) + i * (middle + 9 - max(mp.mpf(0), middle - 9)) / 6 for i in range(7)]
    edge = (t**2 / (4 * k) - m + k * dimension) / (k * rho**2)  # where the two roots meet
    if edge > 0 and points[0] < mp.sqrt(edge) < points[-1]:
        points = sorted([*points, mp.sqrt(edge)])
    return mp.quad(integrand, points, maxdegree=5)


@pytest.mark.parametrize("dimension", [2, 3, 10, 100, 784, 3072])
@pytest.mark.parametrize("change", [-3.0, -1.0, -0.3, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("distance", [0.0, 0.1, 0.6])
def test_xi_is_the_formula_of_idrs_where_scipy_can_evaluate_it(dimension: int, change: float, distance: float) -> None:
    sigma0, sigma1 = 0.5, 0.5 * np.exp(change / np.sqrt(dimension))
    expected = by_noncentral_chi_square(distance, sigma0, sigma1, dimension, P)
    np.testing.assert_allclose(xi(distance, sigma0, sigma1, dimension, P), expected, atol=1e-9, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dimension", "t", "log_rho", "scores"),
    [
        (1, 0.7, -0.3, 0.3),
        (1, 0.5, -9.0, 0.3),
        (1, 1.5, 0.5, 1.0),
        (2, 0.5, 0.2, -0.5),
        (3, 1.0, -0.5, 0.3),
        (784, 1.0, 0.03, 0.5),
        (3072, 0.5, -0.01, -1.0),
        (150_528, 1.0, -0.001, 1.5),
        (150_528, 0.3, 0.003, 0.0),
        (150_528, 1e-7, 1e-9, 1.0),
        (10**6, 1e-3, 1e-3, 2.0),
    ],
)
def test_xi_is_a_40_digit_integral(dimension: int, t: float, log_rho: float, scores: float) -> None:
    rho = float(np.exp(log_rho))
    with mp.workdps(40):
        distance, ratio = mp.mpf(t), mp.mpf(rho)
        k = (1 - ratio**2) / 2
        mean = distance**2 * (1 - k) + 2 * k**2 * dimension  # of the second law, and below its deviation
        m = mean + scores * ratio**2 * mp.sqrt((ratio * distance) ** 2 + 2 * dimension * k**2)
        budget = precise_tail(m, distance, k, dimension, mp.mpf(0), mp.mpf(1))
        expected = float(precise_tail(m, distance, k, dimension, distance, ratio))
        p = float(1 - budget)
    assert 0 < p < 1 and 0.01 < expected < 0.99
    assert float(xi(t, 1.0, rho, dimension, p)) == pytest.approx(expected, abs=2e-12)  # 1e-12 is due to p's rounding


@pytest.mark.parametrize("dimension", [1, 2, 7, 784, 150_528])
@pytest.mark.parametrize("change", [-5.0, -0.5, 0.5, 5.0])
def test_at_distance_0_xi_is_central_chi_square(dimension: int, change: float) -> None:
    rho = np.exp(change / np.sqrt(2 * dimension))
    cdf, quantile = (chi2.cdf, chi2.ppf) if rho < 1 else (chi2.sf, chi2.isf)
    expected = cdf(quantile(1 - P, dimension) / rho**2, dimension)
    np.testing.assert_allclose(xi(0.0, 0.25, 0.25 * rho, dimension, P), expected, rtol=1e-8)


@pytest.mark.parametrize(("t", "change"), [(1.0, -0.002), (0.5, 0.003), (2.0, 0.0005)])
def test_xi_is_what_sampling_gives_at_imagenet_size(t: float, change: float) -> None:
    dimension, draws, p = 150_528, 2_000_000, 0.99
    rng = np.random.default_rng(1)
    rho = np.exp(change)
    k = -np.expm1(2 * change) / 2

    def sample(shift: float, scale: float) -> np.ndarray:
        first, rest = shift + scale * rng.standard_normal(draws), scale**2 * rng.chisquare(dimension - 1, draws)
        return np.asarray(t * first - k * (first**2 + rest - dimension))

    threshold = np.quantile(sample(0, 1), p)
    found = (sample(t, rho) >= threshold).mean()
    # standard error: that of the second sample, and of the quantile, through d xi / dp = the likelihood ratio
    steps = xi(t, 1.0, rho, dimension, [p, p + 1e-5])
    error = np.hypot(0.5, np.sqrt(p * (1 - p)) * (steps[0] - steps[1]) / 1e-5) / np.sqrt(draws)
    assert abs(found - steps[0]) < 4 * error < 0.02


def test_xi_tends_to_the_half_space() -> None:
    distance, sigma = np.linspace(0.0, 2.0, 9)[:, None], 0.5
    half_space = ndtr(distance / sigma - ndtri(P))
    np.testing.assert_allclose(xi(distance, sigma, sigma, 3072, P), half_space, rtol=1e-12)
    for dimension in (1, 3072, 10**7):
        for exponent in (-1e-14, -1e-11, 1e-14, 1e-11):
            near = xi(distance, sigma, sigma * np.exp(exponent), dimension, P)
            np.testing.assert_allclose(near, half_space, rtol=1e-6)


@settings(deadline=None, max_examples=100)
@given(
    dimension=st.integers(1, 10**6),
    t=st.floats(0, 8),
    change=st.floats(-5, 5),
    p=st.floats(1e-6, 1 - 1e-6),
    scale=st.floats(1e-6, 10),
)
def test_xi_is_its_own_inverse_and_has_no_unit(dimension: int, t: float, change: float, p: float, scale: float) -> None:
    sigma1 = float(np.exp(change / np.sqrt(2 * dimension)))
    there = float(xi(t, 1.0, sigma1, dimension, p))
    assert 1 - p <= there * (1 + 1e-11) and there <= 1
    assert float(xi(scale * t, scale, scale * sigma1, dimension, p)) == pytest.approx(there, rel=1e-10)
    if 1e-6 < there < 1 - 1e-6:  # seen from the other point, the complement of the worst region is the worst
        assert float(xi(t, sigma1, 1.0, dimension, there)) == pytest.approx(p, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(dimension=st.integers(1, 10**6), t=st.floats(0, 5), change=st.floats(-4, 4), p=st.floats(0.01, 0.9999))
def test_xi_is_monotone(dimension: int, t: float, change: float, p: float) -> None:
    """In the distance, in p, and, on either side of 1/2, in the noise (IDRS, Theorem 3.1)."""
    sigma1 = np.exp(change / np.sqrt(2 * dimension))
    assert (np.diff(xi(t * np.array([0.5, 0.9, 1, 1.1, 2]), 1.0, sigma1, dimension, p)) >= -1e-13).all()
    assert (np.diff(xi(t, 1.0, sigma1, dimension, p * np.array([1, 0.999, 0.9, 0.5]))) >= -1e-13).all()
    above = xi(t, 1.0, sigma1 ** np.array([0, 0.3, 0.7, 0.99, 1]), dimension, max(p, 0.51)) >= 0.5
    assert (np.diff(above.astype(int)) >= 0).all()


@settings(deadline=None, max_examples=100)
@given(
    dimension=st.integers(1, 10**7),
    logs=st.tuples(st.floats(-300, 300), st.floats(-300, 300), st.floats(-300, 300)),
    p=st.one_of(st.floats(0, 1), st.floats(0, 1e-3), st.sampled_from([0.0, 5e-324, 1e-30, 1 - 2.0**-53, 1.0])),
)
def test_xi_is_a_probability_whatever_the_arguments(dimension: int, logs: tuple[float, float, float], p: float) -> None:
    distance, sigma0, sigma1 = (10.0**log for log in logs)
    for a in (0.0, distance, np.inf):
        assert 0 <= float(xi(a, sigma0, sigma1, dimension, p)) <= 1
        assert float(xi(a, sigma0, sigma1, dimension, 0.0)) == 1
        assert float(xi(a, sigma0, sigma1, dimension, 1.0)) == 0


def worst_xi(radius: np.ndarray, p: np.ndarray, sigma: np.ndarray, r: float, dimension: int, c: float) -> np.ndarray:
    """The larger xi of the two extreme noise levels at that distance."""
    exponent = r * np.maximum(radius - c, 0)
    return np.maximum(*(xi(radius, sigma, sigma * np.exp(sign * exponent), dimension, p) for sign in (-1, 1)))


@pytest.mark.parametrize("dimension", [1, 2, 3, 784, 3072, 150_528, 10**7])
@pytest.mark.parametrize("r", [1e-6, 0.01, 0.3, 1000.0])
@pytest.mark.parametrize("c", [0.0, 0.05])
def test_radius_is_certified_and_the_largest_such(dimension: int, r: float, c: float) -> None:
    sigma = np.array([0.12, 0.5, 1.0])[:, None]
    p = np.array([0.51, 0.7, 0.99, 1 - 1e-6, 1 - 1e-12])
    radius = semi_elastic_radius(p, sigma, r, dimension, constant_within=c)
    cohen = constant_radius(p, sigma)
    assert (radius >= np.minimum(cohen, c)).all() and (radius <= cohen).all()
    assert (worst_xi(radius, p, sigma, r, dimension, c) < 0.5).all()
    beyond = radius * (1 + 1e-9)
    # a step that rounding can resolve: the noise there must have changed
    shown = (beyond >= cohen) | (radius > c * (1 + 1e-6)) | (radius * 1e-9 * r > 1e-12)
    assert shown.mean() > 0.5
    assert (worst_xi(np.minimum(beyond, cohen * (1 + 1e-9)), p, sigma, r, dimension, c)[shown] >= 0.5).all()


@pytest.mark.parametrize("r", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("dimension", [2, 100, 784])
def test_radius_is_that_of_a_direct_scan(dimension: int, r: float) -> None:
    sigma, p, steps = 0.5, 0.99, 100
    grid = np.linspace(0, sigma * ndtri(p), steps + 1)[1:]
    level = [
        max(
            by_noncentral_chi_square(a, sigma, sigma * np.exp(sign * r * a), dimension, np.array(p)) for sign in (-1, 1)
        )
        for a in grid
    ]
    last = int(np.argmax([value >= 0.5 for value in level])) - 1 if max(level) >= 0.5 else steps - 1
    radius = float(semi_elastic_radius(p, sigma, r, dimension))
    assert grid[0] * last <= radius <= grid[min(last + 1, steps - 1)]
    assert last > 2


@pytest.mark.slow
@pytest.mark.parametrize(("dimension", "r"), [(2, 0.5), (150_528, 0.01)])
def test_xi_is_below_one_half_at_the_radius_in_25_digits(dimension: int, r: float) -> None:
    """The threshold of which P1 is 1/2 leaves more than 1 - p under the first law, by what rounding down gives up."""
    p = 0.999
    radius = float(semi_elastic_radius(p, 0.25, r, dimension))
    excess = []
    with mp.workdps(25):
        t = mp.mpf(radius) / mp.mpf(0.25)
        for sign in (-1, 1):
            rho = mp.exp(sign * mp.mpf(r) * mp.mpf(radius))
            k = (1 - rho**2) / 2
            mean = t**2 * (1 - k) + 2 * k**2 * dimension

            def over(m: mp.mpf, k: mp.mpf = k, rho: mp.mpf = rho) -> mp.mpf:
                return precise_tail(m, t, k, dimension, t, rho) - mp.mpf(1) / 2

            median = mp.findroot(over, (mean, mean + mp.mpf(10) ** -4), solver="secant", tol=1e-32)
            excess.append(precise_tail(median, t, k, dimension, mp.mpf(0), mp.mpf(1)) / (1 - mp.mpf(p)) - 1)
    assert 0 < min(excess) < 1e-10


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(
    dimension=st.one_of(st.integers(1, 10), st.integers(1, 10**6)),
    logs=st.tuples(st.floats(-6, 1), st.floats(-9, 3), st.floats(-8, 1)),
    odds=st.lists(st.floats(-12, -0.302), min_size=2, max_size=6),
)
def test_radius_is_at_most_cohens_and_falls_with_r(
    dimension: int, logs: tuple[float, float, float], odds: list[float]
) -> None:
    sigma, r, c = (10.0**log for log in logs)
    p = np.sort(1 - 10.0 ** np.array(odds))
    slack = 1 + 1e-11 + 4e-12 / (p - 0.5)  # what rounding down may have cost
    cohen = constant_radius(p, sigma)
    with_c = semi_elastic_radius(p, sigma, r, dimension, constant_within=c)
    radius = semi_elastic_radius(p, sigma, r, dimension)
    assert np.isfinite(radius).all() and (radius >= 0).all() and (radius <= cohen).all()
    assert (radius[:-1] <= radius[1:] * slack[1:]).all()
    assert (semi_elastic_radius(p, sigma, r * 1.2, dimension) <= radius * slack).all()
    assert (radius <= with_c * slack).all() and (with_c <= cohen).all()
    assert (with_c >= np.minimum(c, cohen)).all()
    # Theorem 2.4: where sigma has changed by more than this, nothing is certified
    square = np.exp(-2 * r * radius)
    assert (dimension * (np.log(square) + 1 - square) >= 2 * np.log1p(-p) * (1 + 1e-9) - 1e-9).all()


def test_constant_sigma_is_cohens_certificate() -> None:
    sigma, p = np.array([0.12, 0.25, 3.0])[:, None], np.concatenate([P, [0.0, 0.3, 0.5, 1.0]])
    cohen = constant_radius(p, sigma)
    np.testing.assert_allclose(cohen, sigma * ndtri(np.maximum(p, 0.5)), rtol=1e-13)
    assert (cohen[:, :6] < sigma * ndtri(P)).all() and (cohen[:, 6:9] == 0).all()
    for r, c in ((0.0, 0.0), (0.0, 1.0), (0.5, np.inf), (np.inf, np.inf), (7.0, 100.0)):
        radius = semi_elastic_radius(p, sigma, r, 3072, constant_within=c)
        assert (radius[:, :-1] == cohen[:, :-1]).all()
    assert (semi_elastic_radius(p, sigma, np.inf, 3072, constant_within=0.1) == np.minimum(cohen, 0.1)).all()
    assert (semi_elastic_radius([0.0, 0.5], 0.5, 0.1, 3072) == 0).all()
    assert semi_elastic_radius(1.0, 0.5, 0.1, 3072) == np.inf  # the worst region is empty


@pytest.mark.parametrize("dimension", [1, 3072])
@pytest.mark.parametrize("rounding", [10.0, 49.9, 50.0, 1e3, np.inf])
def test_only_the_constant_ball_is_left_where_sigma_may_jump_far(dimension: int, rounding: float) -> None:
    p, c = np.array([0.7, 0.999, 1 - 2.0**-53]), np.array([0.0, 0.1])[:, None]
    radius = semi_elastic_radius(p, 0.5, 0.1, dimension, constant_within=c, rounding=rounding)
    if rounding > 40 or dimension > 1:
        np.testing.assert_array_equal(radius, np.broadcast_to(c, radius.shape))
    assert (radius >= c).all() and (radius <= constant_radius(p, 0.5)).all()


def test_radius_tends_to_cohens_as_r_falls_and_to_the_constant_ball_as_r_grows() -> None:
    p, sigma = np.array([0.9, 0.999]), 0.5
    cohen = constant_radius(p, sigma)
    np.testing.assert_allclose(semi_elastic_radius(p, sigma, 1e-12, 150_528), cohen, rtol=1e-10)
    np.testing.assert_allclose(semi_elastic_radius(p, sigma, 1e30, 150_528, constant_within=0.25), 0.25, rtol=1e-12)


def test_curse_of_dimensionality_in_closed_form() -> None:
    """T is nearly normal in many dimensions: R = sigma z / sqrt(1 + 2 N r^2 sigma^2), up to 1 / sqrt(N)."""
    p, sigma, dimension = np.array([0.8, 0.99, 1 - 1e-6]), 0.5, 10**7
    for r in (1e-5, 1e-4, 1e-2, 10.0):
        expected = sigma * ndtri(p) / np.sqrt(1 + 2 * dimension * (r * sigma) ** 2)
        np.testing.assert_allclose(semi_elastic_radius(p, sigma, r, dimension), expected, rtol=3e-3)


def test_rows_are_independent() -> None:
    rng = np.random.default_rng(0)
    p, sigma, c = 1 - 10 ** rng.uniform(-9, -0.4, 700), rng.uniform(0.1, 1, 700), rng.choice([0, 0.1, np.inf], 700)
    together = semi_elastic_radius(p, sigma, 0.02, 3072, constant_within=c)
    for i in range(0, 700, 70):
        alone = semi_elastic_radius(p[i], sigma[i], 0.02, 3072, constant_within=c[i])
        assert together[i] == pytest.approx(float(alone), rel=1e-10)
    assert semi_elastic_radius(0.9, 0.5, 0.1, 10).shape == () and xi(0.1, 0.5, 0.4, 10, 0.9).shape == ()
    assert semi_elastic_radius(np.zeros((0,)), 0.5, 0.1, 10).shape == (0,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("p_a_lower", 1.0000001),
        ("p_a_lower", -1e-9),
        ("p_a_lower", np.nan),
        ("sigma", 0.0),
        ("sigma", np.inf),
        ("sigma", np.nan),
        ("semi_elasticity", -0.1),
        ("semi_elasticity", np.nan),
        ("dimension", 0),
        ("dimension", 2.5),
        ("dimension", True),
        ("constant_within", -1.0),
        ("constant_within", np.nan),
        ("least_change", -1.0),
        ("least_change", np.nan),
    ],
)
def test_radius_refuses_bad_input(name: str, value: float) -> None:
    good = {"p_a_lower": 0.9, "sigma": 0.5, "semi_elasticity": 0.1, "dimension": 10, "constant_within": 0.0}
    with pytest.raises(ConfigError, match=f"^{name}: {value!r}; must be"):
        semi_elastic_radius(**{**good, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("distance", -1.0),
        ("distance", np.nan),
        ("sigma0", 0.0),
        ("sigma1", np.inf),
        ("sigma1", -1.0),
        ("dimension", 0),
        ("dimension", 3.0),
        ("p_a_lower", np.nan),
        ("p_a_lower", 2.0),
    ],
)
def test_xi_refuses_bad_input(name: str, value: float) -> None:
    good = {"distance": 0.1, "sigma0": 0.5, "sigma1": 0.4, "dimension": 10, "p_a_lower": 0.9}
    with pytest.raises(ConfigError, match=f"^{name}: {value!r}; must be"):
        xi(**{**good, name: value})
