"""What ``certsmooth check`` passes can start: files are there, and models fit the images; what is not used may lack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from certsmooth.experiment.cli import main
from certsmooth.science.models import ModelSpec
from factories import changed, save_classifier, small_content, write_params

START = ("trainings", "gaussian", "start")
CIFAR10 = {"member": "cifar10", "source": "cifar10", "architecture": "resnet20", "normalisation": None}


@pytest.fixture
def content():
    """One of everything, without files that are not there; its trainings start from nothing and learn from none."""
    content = changed(small_content(), ("high_dimension", "published"), [])
    content["trainings"]["continued"] = content["trainings"]["gaussian"]
    return content


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(content) -> str:
        write_params(Path(), content)
        code = main(["check"])
        said, message = capsys.readouterr()
        assert (code, message.count("\n"), said.count("\n")) in ((0, 0, 1), (2, 1, 0))
        return message

    return run


def test_what_is_not_used_may_lack_its_files(content, check):
    content["datasets"]["mnist"] |= {"source": "absent"}
    content["datasets"]["imagenet"] = content["datasets"]["mnist"] | {"source": "data/imagenet"}
    assert content["trainings"]["pretrained"]["start"] == {"checkpoint": "start.safetensors"}
    assert content["datasets"]["mnist"]["unlabelled"] == {"source": "images.npz"}
    assert check(content) == ""


def test_it_says_what_it_read(content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content["tables"] = {"table1": content["tables"]["table1"] | {"methods": ["cohen"], "settings": {}}}
    content |= {"toy": None, "pictures": None, "high_dimension": None, "training_seeds": [0]}
    content["datasets"]["digits"]["sigmas"] = [0.25, 0.5]
    write_params(Path(), content)
    assert main(["check"]) == 0
    said = capsys.readouterr().out
    assert said == "params.yaml: 1 table, 1 data set, 1 method, 2 base classifiers, 2 certifications: ok\n"


@pytest.mark.slow
def test_it_loads_no_solver(content, tmp_path):
    """Every policy is imported: one that loads scipy.optimize costs each check a quarter of a second."""
    write_params(tmp_path, content)
    check = "import sys; from certsmooth.experiment.cli import main; assert main(['check']) == 0"
    script = f"{check}; print('scipy.optimize' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("datasets", "digits", "architecture"),
            "resnet18",
            "datasets.digits.architecture: image_shape: resnet18 takes (3, h, w) images of at least 32x32 pixels; "
            "found (1, 8, 8)",
        ),
        (("datasets", "cones", "architecture"), "small_cnn", "datasets.cones.architecture: image_shape: small_cnn"),
        (
            ("datasets", "digits", "normalisation"),
            {"mean": [0.5] * 3, "std": [0.2] * 3},
            "datasets.digits: normalisation: 3 channels; image_shape (1, 8, 8) has 1",
        ),
        (("datasets", "digits", "source"), "nowhere", "datasets.digits.source: 'nowhere'; no such file or folder"),
        (("datasets", "digits", "source"), ".", "datasets.digits.source: digits: source = '.'; must be empty"),
        (("datasets", "digits", "member"), "imagenet", "datasets.digits.source: imagenet: no source; it cannot be"),
        (("datasets", "cones", "recipe", "augmentation"), ["flip"], "datasets.cones.recipe: for training 'gaussian'"),
        (START, {"checkpoint": "absent"}, "trainings.gaussian.start.checkpoint: absent: cannot be read: No such file"),
        (
            START,
            {"checkpoint": "params.yaml"},
            "trainings.gaussian.start.checkpoint: params.yaml: truncated, altered, or",
        ),
        (
            ("high_dimension", "published"),
            ["theirs"],
            "methods.theirs.certificates: 'published.tsv'; no such file or folder",
        ),
        (
            ("tables", "table1"),
            {"kind": "certified", "title": "T", "methods": ["cohen", "theirs"], "baseline": "cohen"}
            | {"settings": {"digits": {"sigmas": [0.25, 0.5]}}},
            "methods.theirs.certificates: 'published.tsv'; no such file or folder",
        ),
    ],
)
def test_what_a_job_would_refuse_is_refused(content, check, path, value, message):
    assert check(content) == ""
    assert check(changed(content, path, value)).startswith(f"certsmooth: params.yaml: {message}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec("mlp", (1, 8, 8), 10), ""),
        (ModelSpec("mlp", (1, 8, 8), 7), ""),  # the layers of the classes start afresh
        (ModelSpec("small_cnn", (1, 8, 8), 10), "architecture is 'small_cnn'; a start for this training must have"),
        (ModelSpec("mlp", (1, 4, 16), 10), "image_shape is (1, 4, 16); a start for this training must have (1, 8, 8)"),
    ],
)
def test_a_start_must_be_a_checkpoint_for_the_training(content, check, spec, message):
    save_classifier(Path("start.safetensors"), spec)
    del content["tables"]["rates"]  # the only table about points, whose shape is another one
    found = check(changed(content, START, {"checkpoint": "start.safetensors"}))
    assert (message in found) if message else found == ""
    assert found == "" or found.startswith(
        "certsmooth: params.yaml: trainings.gaussian.start.checkpoint: start.safetensors: "
    )


def test_a_truncated_start_is_refused(content, check):
    save_classifier(Path("start.safetensors"), ModelSpec("mlp", (1, 8, 8), 10))
    Path("start.safetensors").write_bytes(Path("start.safetensors").read_bytes()[:-1])
    message = check(changed(content, START, {"checkpoint": "start.safetensors"}))
    assert message.startswith(
        "certsmooth: params.yaml: trainings.gaussian.start.checkpoint: start.safetensors: truncated or alt"
    )


def test_the_form_of_published_images_is_known_without_them(content, check):
    """The architecture is checked for what was published; neither a download nor the folder is read."""
    Path("cifar10").mkdir()
    content["datasets"]["cifar10"] = content["datasets"]["digits"] | CIFAR10
    content = changed(changed(content, ("dataset",), "cifar10"), ("tables", "table1", "settings"), {})
    assert check(content) == ""
    assert check(changed(content, ("datasets", "cifar10", "source"), None)) == ""
    wrong = check(changed(content, ("datasets", "cifar10", "architecture"), "lenet"))
    assert "datasets.cifar10.architecture: image_shape: lenet takes (c, h, w) images of 28x28" in wrong
    Path("cifar10").rmdir()
    assert "datasets.cifar10.source: 'cifar10'; no such file or folder" in check(content)


def test_unlabelled_images_are_needed_where_a_teacher_labels_them(content, check):
    content = changed(content, ("datasets", "digits", "unlabelled"), {"source": "images.npz"})
    assert check(content) == ""
    content["trainings"]["taught"] = content["trainings"]["gaussian"] | {"teacher": "gaussian"}
    content = changed(
        content, ("methods", "taught"), content["methods"]["cohen"] | {"training": "taught", "label": "T"}
    )
    assert check(content) == ""  # no table has it
    content = changed(content, ("tables", "table1", "methods"), ["cohen", "taught"])
    assert "datasets.digits.unlabelled.source: 'images.npz'; no such file or folder" in check(content)
    Path("images.npz").touch()
    assert check(content) == ""


@pytest.mark.slow
def test_torch_is_not_loaded_for_what_certsmooth_ships():
    code = (
        "import sys; from certsmooth.experiment.cli import main; assert main(['check']) == 0; "
        "assert not {'torch._C', 'torchvision', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
