"""What all tests share, the order in which they run, and which of them are fast."""

import os
import shutil
import subprocess
from functools import partial, partialmethod
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from certsmooth.experiment import cli
from fault_injection import experiment, make_experiment  # noqa: F401 - a fixture
from workflow_project import call, make_clone, make_project

SLOW_MARKERS = ("workflow", "slurm", "apptainer", "slow")
PROGRAMS = ("certsmooth", "dvc", "pytest", "python", "snakemake")
COMPUTING = ("train", "label", "sample", "attack", "break-certificates")
"""Programs and verbs that take seconds: only tests that are marked slow may run them."""


def pytest_collection_modifyitems(items):
    """Mark as slow what is, and let what takes minutes start first: no worker is left alone with it at the end."""
    for item in items:
        if any(item.get_closest_marker(name) for name in SLOW_MARKERS):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: "project" not in item.fixturenames)


def is_slow(item):
    return item.get_closest_marker("slow") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Refuse to a test that is not marked slow, and to its fixtures, what takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        if not is_slow(item):
            patch.setattr(subprocess.Popen, "__init__", partialmethod(start, item, subprocess.Popen.__init__))
            verbs = {name: (partial(refuse, item, name), cli._VERBS[name][1]) for name in COMPUTING}
            patch.setattr(cli, "_VERBS", cli._VERBS | verbs)
        return (yield)


def start(process, item, really_start, command, *args, **options):
    """Start a process, unless it is one of PROGRAMS."""
    program = Path(command if isinstance(command, str) else os.fsdecode(command[0])).name
    if program.startswith(PROGRAMS):
        refuse(item, program)
    really_start(process, command, *args, **options)


def refuse(item, what, *_):
    raise AssertionError(f"{item.nodeid} runs {what}; must be marked slow")


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors are tiny: threads of one kernel would only wait for each other, and bytes may depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, worker_id):
    """What makes a folder that takes long: the workers of one run share it, and the first that needs it makes it."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def made(name, make):
        folder, done = base / name, base / f"{name}-is-made"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def made_experiment(made_once):
    """A folder with the whole experiment, made without a fault; it must stay as it is."""
    return made_once("experiment", make_experiment)


@pytest.fixture(scope="session")
def project(made_once):
    """A repository whose tables `dvc repro` made, pushed to a remote on a plain folder; tests only read it."""
    return made_once("project", make_project)


@pytest.fixture(scope="session")
def pulled(project, made_once):
    """A clone of it with the artefacts pulled; tests copy it."""
    return made_once("pulled", lambda folder: make_clone(project, folder))


@pytest.fixture
def clone(pulled, tmp_path):
    """A clone with the artefacts pulled, to work in."""
    return shutil.copytree(pulled, tmp_path / "clone", symlinks=True)


@pytest.fixture(scope="session")
def _edited(pulled, tmp_path_factory):
    return shutil.copytree(pulled, tmp_path_factory.mktemp("edited") / "clone", symlinks=True)


@pytest.fixture
def edited(_edited):
    """A clone with the artefacts pulled, in which nothing may be made: what a test edits of it is put back."""
    before = times_of(_edited / "results")
    yield _edited
    call(_edited, "git", "checkout", "--quiet", "--", ".")
    assert times_of(_edited / "results") == before


def times_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
