"""The commands that Snakemake really runs: a hostile name of a file, or a hostile label, is only a name or a label."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from certsmooth.artefacts import checkpoint
from certsmooth.science.models import ModelSpec, Normalisation
from factories import save_classifier, small_content, write_params
from workflow_project import call, copy_project

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
    content = small_content()
    trainings = {f"start-{number}": name for number, name in enumerate(NAMES.values())}
    for training, name in trainings.items():
        content["trainings"][training] = content["trainings"]["pretrained"] | {"start": {"checkpoint": name}}
        (folder / name).touch()
    write_params(folder, content)
    before = _files(folder)
    targets = [_model("0.25", training) for training in trainings]
    printed = call(folder, "snakemake", "--cores", "1", "--dry-run", "--printshellcmds", *targets)
    assert printed.count("certsmooth train ") == len(trainings)
    assert _files(folder) == before


@pytest.mark.workflow
def test_a_run_with_hostile_names_and_labels(folder: Path) -> None:
    spec = ModelSpec("mlp", (1, 8, 8), 10, Normalisation((0.5,), (0.3,)))
    save_classifier(folder / EVERYTHING, spec)
    published = f"published {EVERYTHING}.tsv"
    (folder / published).write_text(
        "idx\tlabel\tpredict\tradius\tcorrect\ttime\n" + "".join(f"{i}\t1\t1\t0.5\t1\t0.1\n" for i in range(3))
    )
    content = small_content()
    content["trainings"]["pretrained"]["start"] = {"checkpoint": EVERYTHING}
    label = EVERYTHING.replace("|", "/").replace("$", "")
    content["methods"]["theirs"] |= {"certificates": published, "label": label}
    content["high_dimension"] |= {"method": None, "published": ["theirs"]}
    write_params(folder, content)
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
