"""Images at their smallest and largest sigma(x): which are shown, and with which noise."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certsmooth.experiment.steps.pictures import SHOWN, _picture, ends
from certsmooth.report.figures.panels import write_figure
from certsmooth.report.figures.pictures import Row, pictures_figure
from certsmooth.science.datasets import array_split

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def split_of(shape, images=9):
    pixels = np.random.default_rng(0).integers(0, 256, (images, *shape)).astype(np.uint8)
    return array_split(pixels, np.arange(images) % 3, name="made", num_classes=3, index=20 * np.arange(images))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_ends_are_those_of_a_plain_search(sigmas, random):
    rows = [(index, index % 3, sigma) for index, sigma in enumerate(sigmas)]
    mixed = random.sample(rows, len(rows))
    found = ends(pd.DataFrame(mixed, columns=["idx", "label", "sigma"]))
    assert list(found) == ["smallest", "largest"]
    count = min(SHOWN, max(1, len(rows) // 2))
    assert sorted(sigmas)[:count] == [sigma for *_, sigma in found["smallest"]]
    assert sorted(sigmas)[-count:] == [sigma for *_, sigma in found["largest"]]
    assert set(found["smallest"]) | set(found["largest"]) <= set(rows)
    if len(rows) > 1:
        assert not set(found["smallest"]) & set(found["largest"])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_image_is_shown_clean_and_with_the_same_noise_at_both_sigmas(shape, tmp_path):
    test = split_of(shape)
    pictures = [_picture(test, (index, index // 20 % 3, sigma), 7) for index, sigma in ((40, 0.01), (160, 0.02))]
    rows = [Row("smallest", 0.02, pictures), Row("largest", 0.02, pictures[:1])]
    figure = pictures_figure(rows, title="Figure 6")
    shown = [np.asarray(axis.get_images()[0].get_array()) for axis in figure.axes]
    assert len(shown) == 3 * 2 + 3
    clean, fixed, own, _, same, equal, *_ = shown
    expected = np.moveaxis(test.images[2] / 255, 0, -1)
    assert clean == pytest.approx(expected[..., 0] if shape[0] == 1 else expected, abs=1e-7)
    inside = (fixed > 0) & (fixed < 1) & (own > 0) & (own < 1)
    assert inside.mean() > 0.5
    assert (fixed - clean)[inside] == pytest.approx(2 * (own - clean)[inside], abs=1e-6)
    assert np.std((fixed - clean)[inside]) == pytest.approx(0.02, rel=0.5)
    np.testing.assert_array_equal(same, equal)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:4] == ["2 (no. 40)", "σ = 0.02", "σ* = 0.01", "2 (no. 160)"]
    labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert labels == ["σ = 0.02\nsmallest σ*", "σ = 0.02\nlargest σ*"]
    paths = write_figure(lambda: pictures_figure(rows, title="Figure 6"), tmp_path, name="figure6")
    assert all(path.stat().st_size > 1000 for path in paths)


def test_other_images_have_other_noise():
    test = split_of((1, 8, 8))
    first, second, again = (_picture(test, (index, 0, 0.1), 0).noise for index in (0, 20, 0))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, second)
