"""What is shipped to build the image; tests/test_apptainer.py builds and uses it."""

import os
import re
import shutil
import subprocess

import pytest

from factories import ROOT

CONTAINERS = ROOT / "containers"


def locked(path):
    """The hashes of each version that a lock names."""
    entries = re.split(r"\n(?=\S)", path.read_text().strip())
    return {entry.split(" ")[0]: set(re.findall(r"--hash=(\S+)", entry)) for entry in entries}


def test_the_images_lock_is_part_of_the_projects():
    whole, part = locked(CONTAINERS.parent / "requirements.lock"), locked(CONTAINERS / "requirements.lock")
    assert {name: whole.get(name) for name in part} == part
    assert all(part.values()) and all(locked(CONTAINERS / "installer.lock").values())
    names = {name.split("==")[0] for name in part}
    assert {"torch", "foolbox", "scikit-learn", "matplotlib"} <= names and not names & {"snakemake", "dvc", "pytest"}


def build(folder, *arguments):
    """Run build.sh where there is no apptainer; return what it says."""
    for name in ("bash", "dirname"):
        (folder / name).symlink_to(shutil.which(name))
    command = ("bash", str(CONTAINERS / "build.sh"), *arguments)
    done = subprocess.run(command, env=os.environ | {"PATH": str(folder)}, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("variant", ["", "gpu", "../containers/cpu"])
def test_building_names_a_wrong_variant(variant, tmp_path):
    assert f"variant '{variant}'; must be cpu or cuda" in build(tmp_path, variant)


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_building_without_apptainer_says_what_to_do(variant, tmp_path):
    assert "apptainer is not installed" in build(tmp_path, variant)
