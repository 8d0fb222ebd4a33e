"""The record of a data set: the names of its classes, and a step that its images must lie on."""

import json
from pathlib import Path

import numpy as np
import pytest

from certsmooth.errors import ConfigError
from certsmooth.experiment.cli import main
from certsmooth.experiment.steps.data import check_step
from certsmooth.science.datasets import array_split
from factories import LazyImages, class_files, own_sample, small_content, write_folder, write_params


@pytest.fixture
def content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(Path("images"), class_files(own_sample()))
    content = small_content()
    own = {"member": "folder", "source": "images", "validation": 0.4, "unlabelled": None}
    content["datasets"]["mine"] = {**content["datasets"]["digits"], **own, "normalisation": None}
    return content


def run(content, *arguments):
    write_params(Path(), content)
    return main(list(arguments))


def record(name):
    return json.loads(Path("results", "data", f"{name}.json").read_text())


def test_the_names_of_the_classes_stand_in_the_record(content):
    assert run(content, "data", "mine") == 0
    assert record("mine")["classes"] == [f"k{label}" for label in range(10)]


def test_records_of_data_without_names_stay_as_they_were(content):
    assert run(content, "data", "digits") == 0
    assert set(record("digits")) == {
        "description",
        "format",
        "image_shape",
        "name",
        "num_classes",
        "parts",
        "pixel_range",
        "sha256",
        "spec",
    }


@pytest.mark.parametrize(
    ("dataset", "step", "right"),
    [
        ("mine", "1/255", None),
        ("mine", None, None),
        ("mine", "1/16", "1/255"),
        ("mine", "1/65535", "1/255"),
        ("digits", "1/16", None),
        ("digits", "1/32", None),  # its multiples as well
        ("digits", "1/255", "1/16"),
        ("cones", "1/255", None),  # points, which lie anywhere
    ],
)
def test_images_off_the_step_are_refused(content, dataset, step, right, capsys):
    content["datasets"][dataset]["step"] = step
    code, message = run(content, "data", dataset), capsys.readouterr().err
    if right is None:
        assert (code, message) == (0, "")
    else:
        assert code == 2
        assert f"datasets.{dataset}.step: {step}; the images do not lie on it; must be {right}\n" in message
        assert not Path("results", "data", f"{dataset}.json").exists()


def test_a_step_that_was_changed_later_is_refused_before_anything_is_sampled(content, capsys):
    import torch

    from certsmooth.experiment.config import parse_params
    from certsmooth.experiment.resolve import Experiment
    from certsmooth.experiment.runs import CertificationRun
    from certsmooth.experiment.steps.loaded import Loaded  # it loads torch
    from certsmooth.experiment.steps.sample import _Shard

    content["datasets"]["mine"] |= {"step": "1/255"}
    assert run(content, "data", "mine") == 0
    content["datasets"]["mine"] |= {"step": "1/16"}
    spec = Experiment(parse_params(content)).sample(CertificationRun("mine", "cohen", 0.25, 0, (), 0), "test")
    with pytest.raises(ConfigError, match=r"datasets\.mine\.step: 1/16; .*must be 1/255"):
        _Shard.of(spec, Loaded(Path("results"), torch.device("cpu")), 0, 1)


def test_images_that_no_step_fits():
    images = np.random.default_rng(0).random((9, 1, 8, 8), np.float32)
    split = array_split(images, np.arange(9) % 2, name="x", num_classes=2)
    with pytest.raises(ConfigError, match="must be null: no step fits them"):
        check_step("x", split, "1/255")


def test_images_in_files_are_not_read_for_it():
    images = LazyImages(np.zeros((3, 1, 2, 2), np.uint8))
    split = array_split(images.images, np.arange(3) % 2, name="x", num_classes=2)
    lazy = type(split)(images, split.labels, split.index, split.fingerprint)
    check_step("x", lazy, "1/255")
    assert images.reads == []
