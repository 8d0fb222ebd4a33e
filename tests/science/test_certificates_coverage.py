"""False certificates in simulations where the smoothed classifier is known: at most alpha, for every global one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import binom, ncx2

from certsmooth._internal import registry
from certsmooth.science.certificates import ABSTAIN, Smoothing, guarantee
from certsmooth.science.theory.bounds import clopper_pearson_lower
from factories import GRID

pytestmark = pytest.mark.slow

TIMES = 100_000
MEMBERS = registry.names("certificates")


def member(name):
    return registry.member("certificates", name)()


@dataclass(frozen=True)
class Case:
    """An image, the classifier around it, and how it is certified.

    probabilities: of the classes of f under noise at the image.
    answer: the class of g there.
    distance: to the nearest image that g gives another class.
    rate: semi-elasticity of sigma(x), which is constant ``within`` that distance and ``sigma`` at the image.
    """

    label: str
    noise: str
    norm: str
    probabilities: tuple[float, ...]
    answer: int
    distance: float
    sigma: float
    n: int
    alpha: float
    rate: float = 0.0
    within: float = 0.0
    dimension: int = 1
    n0: int = 9


def worst(k, n, alpha):
    """The probability at which the bound for k of n is only just wrong: where errors are most frequent."""
    return float(clopper_pearson_lower(k, n, alpha=alpha)) - 1e-7


SETTINGS = [(17, 20, 0.05), (20, 20, 0.05), (33, 50, 0.05), (47, 50, 0.01), (100, 120, 0.01)]
"""(k, n, alpha) of `worst`."""


def linear(p, n, alpha, *, rate):
    """Class 0 on one side of a hyperplane: its probability is above 1/2 on that side, whatever sigma(x) is."""
    distance = 0.5 * ndtri(p)
    return Case(f"linear, p={p:.4f}, r={rate}", "gaussian", "l2", (p, 1 - p), 0, distance, 0.5, n, alpha, rate)


def slabs(p_a, p_b, n, alpha):
    """Class 0, then 2, then 1 along one axis, which is the worst order: class 1 gains where class 0 loses.

    Class 0 has probability Phi((x - a) / sigma) and class 1 has Phi((b - x) / sigma) at the position x; at 0 they are
    p_a and p_b, so that they are equal at x = -(sigma / 2) (ndtri(p_a) - ndtri(p_b)). Class 2 gains less than class 1
    on that way, if it has less at its end.
    """
    sigma = 0.25
    distance = sigma / 2 * (ndtri(p_a) - ndtri(p_b))
    end_a, end_b = ndtr(ndtri(p_a) - distance / sigma), ndtr(ndtri(p_b) + distance / sigma)
    assert abs(end_a - end_b) < 1e-12
    assert 1 - end_a - end_b < end_a
    probabilities = (p_a, p_b, 1 - p_a - p_b)
    return Case(f"slabs, {p_a}, {p_b}", "gaussian", "l2", probabilities, 0, distance, sigma, n, alpha, n0=5)


def ball_probability(t, *, centre, radius, sigma, dimension):
    """Of a ball around the point ``centre`` of an axis, under noise around its point t."""
    return ncx2.cdf((radius / sigma) ** 2, dimension, ((t - centre) / sigma) ** 2)


def ball(p, *, inside, centre, n, alpha, rate, growth, within, dimension):
    """Class 0 inside (or outside) a ball; sigma(x) = sigma e^(growth max(0, |x| - within)), the image at 0.

    All x' at one distance from the image have the same sigma(x'), and the probability of the ball falls with the
    distance from its centre, so the nearest x' with another answer is on the axis through the centre.
    """
    sigma = 0.5
    radius = sigma * np.sqrt(ncx2.ppf(p if inside else 1 - p, dimension, (centre / sigma) ** 2))

    def lead(t):
        scale = sigma * np.exp(growth * np.maximum(np.abs(t) - within, 0))
        q = ball_probability(t, centre=centre, radius=radius, sigma=scale, dimension=dimension)
        return q - 0.5 if inside else 0.5 - q

    distances = [np.inf]
    for side in (-1, 1):
        steps = np.linspace(0, 3, 3001)
        lost = lead(side * steps) < 0
        if lost.any():
            first = int(np.argmax(lost))
            distances.append(brentq(lambda d, side=side: lead(side * d), steps[first - 1], steps[first], xtol=1e-14))
    where = "inside" if inside else "outside"
    label = f"{where} a ball at {centre:.3g}, p={p:.4f}, d={dimension}, growth={growth}, r={rate}, within={within}"
    distance = float(min(distances))
    assert distance > 0
    return Case(label, "gaussian", "l2", (p, 1 - p), 0, distance, sigma, n, alpha, rate, within, dimension)


def worst_ball(p, *, growth, within, dimension):
    """The centre of the ball of IDRS, Theorem 2.2 for sigma(x) of `ball`: no other region of that probability p loses
    it faster. The classifier is then wrong as close as any can be.
    """
    sigma, inside = 0.5, growth > 0

    def centre(distance):
        ratio = np.exp(2 * growth * max(distance - within, 0))
        return distance / abs(ratio - 1) if inside else distance / (1 - ratio)

    def lead(distance):
        away, side = centre(distance), -1 if inside else 1
        radius = sigma * np.sqrt(ncx2.ppf(p if inside else 1 - p, dimension, (away / sigma) ** 2))
        scale = sigma * np.exp(growth * max(distance - within, 0))
        q = ball_probability(side * distance, centre=away, radius=radius, sigma=scale, dimension=dimension)
        return q - 0.5 if inside else 0.5 - q

    return centre(brentq(lead, within + 2e-3, 3))


def balls():
    for k, n, alpha in SETTINGS[:3]:
        p = worst(k, n, alpha)
        for inside, centre, dimension in ((True, 0.0, 2), (True, 1.0, 30), (False, 1.5, 2), (False, 3.0, 30)):
            common = {"inside": inside, "centre": centre, "n": n, "alpha": alpha, "dimension": dimension}
            for growth, within in ((0.0, 0.0), (-0.2, 0.0), (0.2, 0.05)):
                yield ball(p, rate=abs(growth), growth=growth, within=within, **common)
        for growth, within, dimension in ((0.3, 0.0, 2), (0.2, 0.01, 10), (-0.3, 0.0, 2), (-0.2, 0.01, 10)):
            centre = worst_ball(p, growth=growth, within=within, dimension=dimension)
            shape = {"inside": growth > 0, "growth": growth, "within": within, "dimension": dimension}
            yield ball(p, centre=centre, rate=abs(growth), n=n, alpha=alpha, **shape)


def boxes():
    """Class 0 inside a box, under uniform noise: the probability is a product of overlaps of intervals.

    The logarithm of an overlap is a concave function of the shift along that axis, so within an l1 ball the product is
    least where the whole shift is along one axis, towards the nearer end of the interval.
    """
    half = 0.5
    for k, n, alpha in SETTINGS:
        p = worst(k, n, alpha)
        for label, shares in (
            ("half-space", (p,)),
            ("box of three axes", (p ** (1 / 3),) * 3),
            ("box", (p**0.7, p**0.3)),
            ("slab", (p,)),
        ):
            slack = 0.2 if label == "slab" else 0.0  # how far the cube can move until it leaves the slab further
            lost = [slack + 2 * half * share * (1 - 0.5 / p) for share in shares]
            yield Case(f"{label}, p={p:.4f}", "uniform", "l1", (p, 1 - p), 0, min(lost), half, n, alpha)


CASES = [
    *(
        linear(worst(k, n, share * alpha), n, alpha, rate=rate)
        for k, n, alpha in SETTINGS
        for share in (1.0, 0.5, 0.1)  # where the bounds of certificates that split alpha are wrong most often
        for rate in ((0.0, 0.3) if share == 1 else (0.0,))
    ),
    *(slabs(p_a, p_b, 20, 0.05) for p_a, p_b in ((0.6, 0.38), (0.5, 0.3), (0.45, 0.4), (0.8, 0.1), (0.38, 0.33))),
    *(case for case in balls() if case.distance < np.inf),
    *boxes(),
]


def suitable(certificate):
    """The cases that the certificate's theorem is about."""
    return [
        case
        for case in CASES
        if (case.noise, case.norm) == (certificate.noise, certificate.norm)
        and case.rate <= certificate.max_semi_elasticity
    ]


def false_certificates(certificate, case, *, seed, alpha):
    """How many of `TIMES` simulated certificates of the image are wrong; each outcome is certified once."""
    generator = np.random.default_rng(seed)
    selection = generator.multinomial(case.n0, case.probabilities, TIMES)
    estimation = generator.multinomial(case.n, case.probabilities, TIMES)
    code = np.ravel_multi_index((*selection.T[1:], *estimation.T[1:]), [case.n + 1] * (2 * len(case.probabilities) - 2))
    _, first, times = np.unique(code, return_index=True, return_counts=True)
    same = np.ones(len(first))
    smoothing = Smoothing(case.sigma * same, case.dimension, case.rate, case.within * same)
    bound = certificate(selection[first], estimation[first], smoothing, alpha=alpha)
    certified = bound.predict != ABSTAIN
    wrong = certified & ((bound.predict != case.answer) | (bound.radius > case.distance * (1 + 1e-9)))
    return int(times[wrong].sum())


@pytest.mark.parametrize("name", [name for name in MEMBERS if guarantee(member(name), 0.0, GRID) == "global"])
def test_false_certificates_are_at_most_alpha(name):
    certificate = member(name)
    cases = suitable(certificate)
    assert cases
    assert certificate.max_semi_elasticity == 0 or any(case.rate > 0 for case in cases)
    for seed, case in enumerate(cases):
        wrong = false_certificates(certificate, case, seed=seed, alpha=case.alpha)
        assert wrong <= binom.ppf(1 - 1e-6, TIMES, case.alpha), case


@pytest.mark.parametrize("name", ["cohen", "two_sided", "l1", "semi_elastic"])
def test_these_cases_would_show_an_alpha_five_times_too_large(name):
    certificate = member(name)
    found = [
        false_certificates(certificate, case, seed=seed, alpha=5 * case.alpha) > 1.5 * case.alpha * TIMES
        for seed, case in enumerate(suitable(certificate))
    ]
    assert sum(found) >= 3
