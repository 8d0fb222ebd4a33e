"""What made a result: the versions of the software and the commit of the source."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("certsmooth", "numpy", "safetensors", "scipy", "statsmodels", "torch", "torchvision")
"""Packages whose version can change a number in a result."""


def versions() -> dict[str, str]:
    """Return the version of Python and of each of `PACKAGES`; "unknown" for one that is not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def git_commit() -> str | None:
    """Return the commit of the source that is running, ``-dirty`` appended if tracked files were changed.

    None if that is unknown: git is missing, or this package was not imported from a git checkout. A checkout
    that only surrounds the package (a virtual environment inside somebody's project) is not the source's.
    """
    git = shutil.which("git")
    here = Path(__file__).resolve()
    if git is None or _run(git, "ls-files", "--error-unmatch", here.name, folder=here.parent) is None:
        return None
    return _run(git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", folder=here.parent)


def _run(*command: str, folder: Path) -> str | None:
    """Return what a command prints, None if it fails."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None
