"""Files are written whole or not at all; the source's commit is the source's."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from certsmooth._internal.storage import atomic_write, decode_record, file_digest
from certsmooth.artefacts import provenance
from certsmooth.errors import CertsmoothError, CountsError
from factories import needs_git


@contextmanager
def disk_that_ends_after(size: int) -> Iterator[None]:
    """The kernel refuses to let a file of this process grow beyond ``size`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_appears_complete_with_usual_permissions_and_replaces_the_old_one(tmp_path):
    path, plain = tmp_path / "counts.bin", tmp_path / "plain"
    plain.write_bytes(b"")
    for content in (b"old", b"newer"):
        with atomic_write(path) as file:
            file.write(content)
            assert path.exists() == (content == b"newer")
        assert path.read_bytes() == content
    assert path.stat().st_mode == plain.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [path, plain]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_no_other(tmp_path, failure):
    path = tmp_path / "counts.bin"
    path.write_bytes(b"old")
    with pytest.raises(failure), atomic_write(path) as file:
        file.write(b"new")
        raise failure
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, size):
    path = tmp_path / "counts.bin"
    path.write_bytes(b"old")
    with (
        disk_that_ends_after(100),
        pytest.raises(CountsError) as caught,
        atomic_write(path, error=CountsError) as file,
    ):
        file.write(bytes(size))
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_or_a_file_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in ("absent", "file"):
        path = tmp_path / folder / "counts.bin"
        with pytest.raises(CertsmoothError, match=str(path)), atomic_write(path):
            pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_digest_of_a_file_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-4's own example.
    assert file_digest(tmp_path / "abc") == ("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    with pytest.raises(CountsError, match=r"absent.*No such file"):
        file_digest(tmp_path / "absent", error=CountsError)


@dataclass(frozen=True)
class Point:
    x: int
    name: str


def test_a_record_is_decoded_with_its_declared_types_only():
    assert decode_record(Point, '{"x": 1, "name": "a"}', source="file", error=CountsError) == Point(1, "a")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"x": "1", "name": "a"}', "x"),
        ('{"x": 1.0, "name": "a"}', "x"),
        ('{"x": 1}', "name"),
        ('{"x": 1, "name": "a", "y": 2}', "y"),
        ("[]", "Point"),
        ("{", "Point"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_naming_source_and_field(text, field):
    with pytest.raises(CountsError, match=f"^the file: {field}: "):
        decode_record(Point, text, source="the file", error=CountsError)


def test_versions_are_those_that_run():
    versions = provenance.versions()
    assert versions["python"] == platform.python_version()
    for name in ("numpy", "torch", "safetensors"):
        assert versions[name] == importlib.metadata.version(name)


def test_a_package_that_is_not_installed_is_said_to_be_unknown(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package-of-certsmooth",))
    assert provenance.versions()["no-such-package-of-certsmooth"] == "unknown"


def copy_of_provenance(folder: Path, monkeypatch):
    """Import the module from another place, as if the package were there."""
    copy = folder / "provenance.py"
    shutil.copy(provenance.__file__, copy)
    spec = importlib.util.spec_from_file_location("provenance_copy", copy)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def git(folder: Path, *command: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    result = subprocess.run(
        ("git", *identity, *command), cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


@needs_git
def test_commit_is_the_one_of_the_repository_that_tracks_the_source(tmp_path, monkeypatch):
    module = copy_of_provenance(tmp_path, monkeypatch)
    assert module.git_commit() is None  # no repository
    git(tmp_path, "init", "-q")
    (tmp_path / "other").write_text("somebody's project")
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "-q", "-m", "other")
    assert module.git_commit() is None  # a repository, but not of this source
    git(tmp_path, "add", "provenance.py")
    git(tmp_path, "commit", "-q", "-m", "source")
    git(tmp_path, "tag", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert module.git_commit() == commit
    (tmp_path / "other").write_text("changed")
    assert module.git_commit() == f"{commit}-dirty"


def test_commit_is_unknown_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_commit() is None
