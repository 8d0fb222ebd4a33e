"""Pages of docs/ that tests follow to the letter, in a copy of this repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from factories import ROOT

COPIED = ("Snakefile", "workflow", "profiles", "src", "tests", "params.yaml", "config", "pyproject.toml")
FILES = {
    path.relative_to(ROOT).as_posix(): yaml.safe_load(path.read_text())
    for path in (ROOT / "params.yaml", *(ROOT / "config").rglob("*.yaml"))
}


def blocks(text, language):
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text):
    return [line for block in blocks(text, "sh") for line in block.splitlines()]


def with_entries(files, text):
    """Return the files with the entries of every YAML block, at the place that its first line names, or at the top."""
    for block in blocks(text, "yaml"):
        file, _, place = re.match(r"# (\S+\.yaml)(: (.+))?\n", block).groups()
        entry = yaml.safe_load(block)
        for key in reversed(place.split(".") if place else []):
            entry = {key: entry}
        files = files | {file: merged(files[file], entry)}
    return files


def merged(old, new):
    if isinstance(old, list):
        return old + new
    if not isinstance(old, dict):
        assert not isinstance(old, dict | list) and not isinstance(new, dict), f"{old} would be replaced by {new}"
        return new
    return {**old, **{key: merged(old[key], value) if key in old else value for key, value in new.items()}}


class Clone:
    """A copy of the repository whose commands use the package of the copy."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        for name in COPIED:
            source, target = ROOT / name, folder / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)

    def write(self, files):
        for name, content in files.items():
            (self.folder / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def call(self, command, *, code=0):
        """Run a command, which ends with that code; return what it printed."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        result = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(self.folder / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert result.returncode == code, result.stdout[-4000:]
        return result.stdout
