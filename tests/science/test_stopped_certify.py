"""Certifying with a stopping rule from Python, against smoothed classifiers that are known exactly."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from certsmooth import (
    DataDependentSigma,
    L1Certificate,
    SmoothedClassifier,
    StopAtPrecision,
    StopAtRadii,
    StopAtRadius,
    TCertifyCertificate,
    TwoSidedCertificate,
    certify_counts,
)
from certsmooth.errors import ConfigError
from certsmooth.science.theory.sequential import StoppedTrials
from factories import half_space

SIGMA, RADII = 0.5, (0.0, 0.25, 0.5, 0.75)


def points(distances):
    """Images at signed distances from the half-space x > 1/2 in one pixel of two, within [0, 1]."""
    return torch.tensor([[[[0.5 + d, 0.5]]] for d in distances], dtype=torch.float32)


DISTANCES = np.linspace(-0.5, 0.5, 60)


@pytest.fixture
def smoothed():
    return SmoothedClassifier(half_space([1.0, 0.0], 0.5), 2, SIGMA)


@pytest.mark.parametrize("stop", [StopAtRadius(0.25), StopAtRadii(RADII), StopAtPrecision(0.05)], ids=str)
@pytest.mark.parametrize("certificate", [None, TwoSidedCertificate()], ids=["cohen", "two_sided"])
def test_radii_are_at_most_the_true_ones_and_take_fewer_samples(smoothed, stop, certificate):
    smoothed.certificate = certificate or smoothed.certificate
    found = smoothed.certify(points(DISTANCES), n=20_000, seed=0, stop=stop)
    assert list(found.columns) == ["predict", "radius", "radius_linf", "p_a_lower", "n", "sigma", "guarantee"]
    certified = found["predict"] >= 0
    assert (found["predict"][certified] == (DISTANCES > 0)[certified]).all()
    assert (found["radius"] <= np.abs(DISTANCES)).all()
    assert set(found["guarantee"]) == {"global"}
    assert ((found["n"] >= 100) & (found["n"] <= 20_000)).all()
    assert found["n"].mean() < 10_000
    fixed = smoothed.certify(points(DISTANCES), n=20_000, seed=0)
    assert (fixed["n"] == 20_000).all()
    if isinstance(stop, StopAtPrecision):
        assert (fixed["radius"] - found["radius"]).max() < 0.05 + 0.02
        return
    for radius in stop.asked:
        decided = np.abs(np.abs(DISTANCES) - radius) > 0.03  # nearer ones may be given up
        np.testing.assert_array_equal(
            ((found["radius"] >= radius) & certified)[decided], (np.abs(DISTANCES) > radius)[decided]
        )


def test_the_bound_is_that_of_trials_that_may_stop(smoothed):
    found = smoothed.certify(points([0.2]), n=5000, seed=0, stop=StopAtRadius(0.1))
    n = int(found["n"][0])
    assert n < 5000
    whole = smoothed.sample(points([0.2]), n0=100, n=n, seed=0)  # the same noise from the start
    lower = StoppedTrials(5000).lower(whole.estimation[0, 1], n, alpha=0.001)
    assert lower - 0.01 < found["p_a_lower"][0] <= lower < norm.cdf(0.2 / SIGMA)


def test_a_certificate_is_the_same_alone_and_in_any_batch(smoothed):
    stop, images = StopAtRadii(RADII), points(DISTANCES)
    together = smoothed.certify(images, n=3000, seed=1, stop=stop)
    for size in (1, 100, 700):
        assert smoothed.certify(images[20:30], n=3000, seed=1, stop=stop, batch_size=size).equals(
            together[20:30].reset_index(drop=True)
        )


def test_counts_of_ones_own_say_that_they_were_stopped():
    selection, estimation = np.array([[100, 0], [100, 0]]), np.array([[900, 100], [90, 10]])
    with pytest.raises(ConfigError, match=r"estimation: 100 to 1000 samples .* give n_max"):
        certify_counts(selection, estimation, 0.5)
    found = certify_counts(selection, estimation, 0.5, n_max=10_000)
    np.testing.assert_array_equal(
        found["p_a_lower"], StoppedTrials(10_000).lower(np.array([900, 90]), np.array([1000, 100]), alpha=0.001)
    )
    with pytest.raises(ConfigError, match="trials: 1000; must be at most n_max, 500"):
        certify_counts(selection, estimation, 0.5, n_max=500)
    with pytest.raises(ConfigError, match="t_certify"):
        certify_counts(selection, estimation, 0.5, n_max=10_000, certificate=TCertifyCertificate())


@pytest.mark.parametrize(
    ("changes", "stop", "n", "words"),
    [
        ({}, StopAtRadius(1.3), 1000, ["radius: 1.3", "at most 1.20", "1000 samples"]),
        ({}, StopAtRadius(0.1, only_correct=True), 1000, ["only_correct", "labels"]),
        ({"certificate": TCertifyCertificate()}, StopAtRadius(0.1), 1000, ["t_certify", "stop 'fixed'"]),
        ({"certificate": L1Certificate()}, StopAtRadii((0.1, 0.5)), 1000, ["radius: 0.5", "at most 0.49"]),
    ],
)
def test_what_cannot_be_is_refused_before_sampling(changes, stop, n, words):
    def fails(_):
        raise AssertionError

    smoothed = SmoothedClassifier(fails, 2, SIGMA, **changes)
    with pytest.raises(ConfigError) as caught:
        smoothed.certify(points([0.1]), n=n, seed=0, stop=stop)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_data_dependent_sigma_stops_too():
    adaptive = DataDependentSigma(sigma=SIGMA, iterations=2)
    found = SmoothedClassifier(half_space([1.0, 0.0], 0.5), 2, adaptive).certify(
        points(DISTANCES[::10]), n=5000, seed=0, stop=StopAtRadius(0.1)
    )
    assert set(found["guarantee"]) == {"none"}
    assert (found["n"] < 5000).any()
