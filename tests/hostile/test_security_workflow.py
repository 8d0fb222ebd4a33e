"""The commands that Snakemake really runs: a hostile name of a file, or a hostile label, is only a name or a label."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import small_params
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.checkpoint import CheckpointHeader
from certsmooth.artefacts.provenance import MadeBy
from certsmooth.science.models import ModelSpec, Normalisation, build
from workflow_project import call, copy_project, plain_yaml

NAMES = {
    "command": "; touch owned;.safetensors",
    "substitution": "$(touch owned).safetensors",
    "backticks": "`touch owned`",
    "variable": "$HOME",
    "quotes": "a'b\"; touch owned; '\"",
    "pipe and redirection": "a > owned | touch owned & touch owned",
    "globs": "*? [a-z] **",
    "option": "a --output=owned",
    "backslash": "a\\ \\$(touch owned)",
    "not ASCII": "Gewichte für méthode 重み",
    "percent": "%s %n",
    "tilde and history": "a ~root !!",
    "comment": "a # b",
}
EVERYTHING = " ".join(NAMES.values())[:180]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    copy_project(folder)
    shutil.rmtree(folder / "config")  # params.yaml is all there is
    return folder


def _write(folder: Path, content: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(plain_yaml(content))


def _files(folder: Path) -> set[str]:
    made = (".snakemake", ".git", "results", "logs", "data", "__pycache__")
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not set(made) & set(path.relative_to(folder).parts)
    }


def _model(sigma: str, training: str) -> str:
    return f"results/checkpoints/digits/{training}/sigma={sigma}/seed=0/default/model.safetensors"


@pytest.mark.workflow
def test_names_of_files_reach_the_command_whole_and_run_nothing(folder: Path) -> None:
    content = small_params.content()
    trainings = {f"start-{number}": name for number, name in enumerate(NAMES.values())}
    for training, name in trainings.items():
        content["trainings"][training] = content["trainings"]["pretrained"] | {"start": {"checkpoint": name}}
        (folder / name).touch()
    _write(folder, content)
    before = _files(folder)
    targets = [_model("0.25", training) for training in trainings]
    printed = call(folder, "snakemake", "--cores", "1", "--dry-run", "--printshellcmds", *targets)
    assert printed.count("certsmooth train ") == len(trainings)
    assert _files(folder) == before


@pytest.mark.workflow
def test_a_run_with_hostile_names_and_labels(folder: Path) -> None:
    spec = ModelSpec("mlp", (1, 8, 8), 10, Normalisation((0.5,), (0.3,)))
    header = CheckpointHeader(
        model=spec, spec={}, sigma=0.25, dataset_fingerprint="x", images=1, images_fingerprint="x",
        pixel_range=(0.0, 1.0), device="cpu", made_by=MadeBy(versions={}, git_commit=None, image=None),
    )  # fmt: skip
    checkpoint.save(folder / EVERYTHING, build(spec, seed=0), header)
    published = f"published {EVERYTHING}.tsv"
    (folder / published).write_text(
        "idx\tlabel\tpredict\tradius\tcorrect\ttime\n" + "".join(f"{i}\t1\t1\t0.5\t1\t0.1\n" for i in range(3))
    )
    content = small_params.content()
    content["trainings"]["pretrained"]["start"] = {"checkpoint": EVERYTHING}
    label = EVERYTHING.replace("|", "/").replace("$", "")
    content["high_dimension"] |= {"method": None, "published": [{"file": published, "sigma": 0.5, "label": label}]}
    _write(folder, content)
    before = _files(folder)
    targets = [_model("0.25", "pretrained"), "results/tables/idrs/imagenet.md"]
    call(folder, "snakemake", "--cores", "1", "--printshellcmds", *targets)
    assert _files(folder) == before
    assert label in (folder / "results/tables/idrs/imagenet.md").read_text()
    _, made = checkpoint.load(folder / targets[0])
    assert made.spec["start_file"] == EVERYTHING


@pytest.mark.workflow
def test_the_configuration_is_no_program_for_snakemake(folder: Path) -> None:
    # Snakemake's own reader of configuration files evaluates such a file as a template with expressions of Python.
    text = '__use_yte__: true\nseed: ?__import__("os").system("touch owned")\n'
    (folder / "params.yaml").write_text(text)
    printed = call(folder, "snakemake", "--cores", "1", "--dry-run", ok=False)
    assert "unknown key __use_yte__" in printed
    assert not (folder / "owned").exists()
