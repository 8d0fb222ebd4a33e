"""The best setting at each image: an independent loop over images, and what the definition implies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certsmooth.analysis.ceiling import CHOICES, ceiling_records
from certsmooth.analysis.runs import collect
from factories import certified_run

RADII = (0.0, 0.3, 0.6)
signed_radii = st.lists(
    st.tuples(*[st.sampled_from([-0.9, -0.5, -0.2, 0.1, 0.3, 0.45, 0.6, 0.8])] * 3), min_size=2, max_size=12
)
"""Of three settings at each image; negative where the class is wrong."""


def made(images, seeds=1):
    settings = [(0.25 * (k + 1), [image[k] for image in images]) for k in range(3)]
    (method,) = collect([certified_run(r, sigma=sigma, seed=s) for sigma, r in settings for s in range(seeds)], "test")
    return method


def numbers(method):
    found = {choice: {} for choice in CHOICES}
    for record in ceiling_records(method, RADII, "l2"):
        found[record["choice"]][record["radius"]] = record["value"]
    return found


@given(signed_radii)
def test_it_is_what_a_loop_over_images_finds(images):
    found = numbers(made(images))
    right = [max([each for each in image if each > 0], default=-1) for image in images]
    largest = [max(image, key=abs) for image in images]  # the first of equal ones
    for choice, best in zip(CHOICES, (right, largest), strict=True):
        for radius in RADII:
            assert found[choice][radius] == pytest.approx(100 * np.mean([each >= radius for each in best]))
        assert found[choice][None] == pytest.approx(np.mean([max(each, 0) for each in best]))


@given(signed_radii, st.integers(1, 2))
def test_no_setting_is_above_it(images, seeds):
    method = made(images, seeds)
    right, largest = (numbers(method)[choice] for choice in CHOICES)
    for outcome in method.outcomes:
        for radius in RADII:
            assert right[radius] >= 100 * outcome.accuracy(radius) - 1e-9
        assert right[None] >= outcome.acr() - 1e-12
    assert all(right[key] >= largest[key] - 1e-9 for key in right)


def test_one_setting_has_none():
    (method,) = collect([certified_run([0.1, 0.2])], "test")
    assert list(ceiling_records(method, RADII, "l2")) == []
