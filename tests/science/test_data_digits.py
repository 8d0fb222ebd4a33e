"""The digits of scikit-learn: the right images, in a split that never changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from certsmooth.errors import ConfigError
from certsmooth.science import datasets


def test_every_image_is_in_one_split() -> None:
    dataset = datasets.load("digits")
    train, test = dataset.train(), dataset.test()
    assert (len(train), len(test)) == (1437, 360)
    assert sorted([*train.index, *test.index]) == list(range(1797))


def test_images_are_the_scans_divided_by_16() -> None:
    digits = load_digits()
    for split in (datasets.load("digits").train(), datasets.load("digits").test()):
        np.testing.assert_array_equal(split.images[:, 0] * 16, digits.images[split.index])
        np.testing.assert_array_equal(split.labels, digits.target[split.index])


def test_classes_are_in_proportion() -> None:
    test = datasets.load("digits").test()
    whole = np.bincount(load_digits().target)
    assert np.abs(np.bincount(test.labels) - whole * 360 / 1797).max() < 1


def test_the_split_is_the_same_with_every_version_of_the_libraries() -> None:
    index = datasets.load("digits").test().index.astype("<i8")
    assert hashlib.sha256(index.tobytes()).hexdigest() == PINNED_TEST_INDEX


def test_refuses_a_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"digits: source = .*must be empty"):
        datasets.load("digits", source=tmp_path)


PINNED_TEST_INDEX = "2fbaae31b8c6aad12464a07771b64269876d904bfed86f77a63c8265fa201621"
