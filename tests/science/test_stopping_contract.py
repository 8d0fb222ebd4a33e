"""What every stopping rule keeps: it looks at an image alone, asks for whole blocks, ends, and loses no certificate."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from certsmooth._internal.registry import member, names
from certsmooth.errors import ConfigError
from certsmooth.science.certificates import Smoothing
from certsmooth.science.certificates.cohen import CohenCertificate
from certsmooth.science.certificates.l1 import L1Certificate
from certsmooth.science.certificates.semi_elastic import SemiElasticCertificate
from certsmooth.science.certificates.t_certify import TCertifyCertificate
from certsmooth.science.certificates.two_sided import TwoSidedCertificate
from certsmooth.science.sampling.counts import BLOCK
from certsmooth.science.stopping import Looks, Prospect, check_can_stop, expected_samples
from certsmooth.science.stopping.fixed import StopAtEnd
from certsmooth.science.stopping.precision import StopAtPrecision
from certsmooth.science.stopping.radii import StopAtRadii
from certsmooth.science.stopping.radius import StopAtRadius
from certsmooth.science.theory.sequential import FIXED, StoppedTrials

EXAMPLES = {"radius": 0.3, "radii": (0.0, 0.2, 0.4), "within": 0.02}
INVALID = {
    "radius": (-0.1, math.nan, math.inf, "0.3", None),
    "radii": ((), (0.1, -1.0), 0.5, (math.nan,)),
    "within": (0.0, -1.0, math.nan),
    "chance": (-0.1, 1.0, math.nan),
    "only_correct": ("yes", 1),
}
CERTIFICATES = (CohenCertificate(), TwoSidedCertificate(), L1Certificate(), SemiElasticCertificate())
MOST, ALPHA, SIGMA = 4050, 0.01, 0.5


@pytest.fixture(params=names("stopping"))
def rule_class(request):
    return member("stopping", request.param)


def required(rule_class):
    fields = [f.name for f in dataclasses.fields(rule_class) if f.default is dataclasses.MISSING]
    assert set(fields) <= set(EXAMPLES), f"give an example of each of {fields} in EXAMPLES"
    return {name: EXAMPLES[name] for name in fields}


@pytest.fixture
def rule(rule_class):
    return rule_class(**required(rule_class))


def looks(rule, images, certificate=CERTIFICATES[0], labels=None):
    smoothing = Smoothing(np.full(images, SIGMA), 3, 0.0, np.full(images, np.inf))
    return Looks(rule, certificate, ALPHA, MOST, smoothing, labels)


def stream(images, seed=0):
    """The classes of samples of images whose first class has every probability from 0.3 to 1: [images, MOST]."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0.3, 1, images)[:, None]
    return np.where(rng.random((images, MOST)) < share, 0, rng.integers(1, 3, (images, MOST)))


def counts(classes):
    return np.stack([(classes == each).sum(axis=1) for each in range(3)], axis=1)


def drawn(next_look, classes):
    """Draw until each image has enough; return the estimation counts, and when each was looked at."""
    images = len(classes)
    n, at, selection = np.zeros(images, int), [[] for _ in classes], np.tile([9, 1, 0], (images, 1))
    while True:
        seen = np.stack([np.bincount(row[:m], minlength=3) for row, m in zip(classes, n, strict=True)])
        until = next_look(np.arange(images), selection, seen)
        assert (until >= n).all()
        if (until == n).all():
            return selection, seen, at
        for image in np.flatnonzero(until > n):
            at[image].append(int(until[image]))
        n = until


def test_options_are_checked(rule_class):
    kept = required(rule_class)
    for field in dataclasses.fields(rule_class):
        for value in INVALID[field.name]:
            with pytest.raises(ConfigError, match=field.name):
                rule_class(**{**kept, field.name: value})
    for name in kept:
        with pytest.raises(TypeError, match=name):
            rule_class(**{key: value for key, value in kept.items() if key != name})
    assert rule_class.__name__ in repr(rule_class(**kept))


@pytest.mark.parametrize("certificate", CERTIFICATES, ids=lambda each: each.member_name())
def test_looks_are_whole_blocks_apart_and_end(rule, certificate):
    _, seen, at = drawn(looks(rule, 30, certificate), stream(30))
    for image, when in enumerate(at):
        assert when[0] == BLOCK
        assert when == sorted(set(when))
        assert all(n % BLOCK == 0 or n == MOST for n in when)
        assert seen[image].sum() == when[-1] <= MOST


@pytest.mark.parametrize("certificate", CERTIFICATES, ids=lambda each: each.member_name())
def test_an_image_is_looked_at_alone(rule, certificate):
    classes = stream(12)
    _, together, _ = drawn(looks(rule, 12, certificate), classes)
    alone = [drawn(looks(rule, 1, certificate), classes[image : image + 1])[1][0] for image in range(12)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("certificate", CERTIFICATES, ids=lambda each: each.member_name())
def test_only_what_cannot_be_reached_is_given_up_without_a_chance(rule_class, certificate):
    """Whatever is certified at the end of the same samples, a rule that gives up nothing certifies, by what it asks."""
    rule = rule_class(**required(rule_class), chance=0.0)
    images, trials = 60, rule.trials(MOST)
    smoothing = Smoothing(np.full(images, SIGMA), 3, 0.0, np.full(images, np.inf), trials=trials)
    for seed in range(3):
        classes = stream(images, seed)
        selection, seen, _ = drawn(looks(rule, images, certificate), classes)
        stopped, end = (certificate(selection, each, smoothing, alpha=ALPHA).radius for each in (seen, counts(classes)))
        for radius in rule.asked:
            reached = stopped >= max(radius, 1e-12)
            assert reached[end >= max(radius, 1e-12)].all()
        if isinstance(rule, StopAtPrecision):
            assert (end - stopped <= rule.within + 1e-12).all()
        if trials == FIXED:
            np.testing.assert_array_equal(stopped, end)


def test_images_of_another_class_stop_after_the_selection(rule_class):
    rule = rule_class(**required(rule_class), only_correct=True)
    labels = np.arange(10) % 2
    _, seen, _ = drawn(looks(rule, 10, labels=labels), stream(10))
    _, without, _ = drawn(looks(dataclasses.replace(rule, only_correct=False), 10), stream(10))
    assert (seen[labels == 1].sum(axis=1) == BLOCK).all()
    np.testing.assert_array_equal(seen[labels == 0], without[labels == 0])
    with pytest.raises(ConfigError, match="only_correct"):
        drawn(looks(rule, 10), stream(10))


def test_a_forecast_is_what_even_samples_do(rule):
    share = np.stack([np.full(20, MOST), np.zeros(20, int), np.zeros(20, int)], axis=1)
    share[:, 0] = np.linspace(0.3, 1, 20) * MOST
    share[:, 1] = MOST - share[:, 0]
    next_look = looks(rule, 20)
    forecast = expected_samples(next_look, np.tile([9, 1, 0], (20, 1)), share)
    even = np.stack([np.arange(MOST) * first // MOST != (np.arange(MOST) + 1) * first // MOST for first in share[:, 0]])
    _, seen, _ = drawn(next_look, np.where(even, 0, 1))
    assert np.median(np.abs(seen.sum(axis=1) - forecast)) <= BLOCK


def test_rules_decide_what_they_say():
    smoothing = Smoothing(np.full(4, 1.0), 1, 0.0, np.full(4, np.inf), trials=StoppedTrials(10_000))
    n = np.array([[1000, 0], [600, 400], [500, 500], [100, 900]])
    prospect = Prospect(CohenCertificate(), 0.001, 10_000, n, n, smoothing)
    prospect = dataclasses.replace(prospect, selection=np.tile([9, 1], (4, 1)))
    (reached, impossible), (_, likely) = prospect.radii(0.0), prospect.radii(0.03)
    assert reached[0] > 2
    assert 0 < reached[1] < 0.2533 < likely[1] < 0.5 < impossible[1]  # the quantile of 0.6
    assert (reached[2:] == -1).all()
    assert likely[3] == -1 < impossible[3]
    np.testing.assert_array_equal(StopAtRadius(0.0).decided(prospect), [True, True, False, True])
    np.testing.assert_array_equal(StopAtRadius(0.0, chance=0.0).decided(prospect), [True, True, False, False])
    np.testing.assert_array_equal(StopAtRadius(0.25).decided(prospect), [True, False, True, True])
    np.testing.assert_array_equal(StopAtRadii((0.0, 0.25, 3.9)).decided(prospect), [True, False, False, True])
    np.testing.assert_array_equal(
        StopAtPrecision(0.2).decided(prospect), (likely - reached <= 0.2) & ((reached >= 0) | (likely < 0))
    )
    assert not StopAtEnd().decided(prospect).any()


@pytest.mark.parametrize(
    ("rule", "certificate", "words"),
    [
        (StopAtRadius(2.0), CohenCertificate(), ["radius: 2", "at most 1.118", "4050 samples"]),
        (StopAtRadii((0.1, 1.7)), CohenCertificate(), ["radius: 1.7", "at most 1.118"]),
        (StopAtPrecision(0.1), TCertifyCertificate(), ["t_certify", "stop 'fixed'"]),
    ],
)
def test_what_makes_no_sense_is_refused(rule, certificate, words):
    smoothing = Smoothing(np.array([0.25, 0.5]) * 0.75, 1, 0.0, np.full(2, np.inf))
    with pytest.raises(ConfigError) as caught:
        check_can_stop(rule, certificate, smoothing, most=MOST, alpha=ALPHA)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    check_can_stop(StopAtEnd(), TCertifyCertificate(), smoothing, most=MOST, alpha=ALPHA)
