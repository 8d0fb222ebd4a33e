"""What made a result: the versions of the software, the commit of the source, and the container image, if any."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

from pydantic import Field

from certsmooth._internal.storage import decode_record
from certsmooth.errors import ConfigError

IMAGE_VARIABLE = "CERTSMOOTH_IMAGE"
"""In a container image, the environment variable that names the image's record, a JSON file."""

PACKAGES = ("certsmooth", "numpy", "safetensors", "scipy", "statsmodels", "torch", "torchvision")
"""Packages whose version can change a number in a result."""

Sha256 = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
"""How artefacts refer to a file or to data."""

_HERE = Path(__file__).resolve()


@dataclass(frozen=True)
class Image:
    """A container image.

    Attributes:
        commit: of the source that was built into it.
        definition: SHA-256 of the definition file, ``sha256:`` and 64 hexadecimal digits.
        packages: name -> version of everything that is installed: Python distributions, and packages of Debian as
            ``debian:NAME``.
    """

    commit: Annotated[str, Field(min_length=1)]
    definition: Sha256
    packages: Annotated[dict[str, str], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class MadeBy:
    """What an artefact says of the software that made it.

    Attributes:
        versions: as `versions` gives them.
        git_commit: of the source; None if unknown.
        image: the container image that the job ran in; None outside of one.
    """

    versions: dict[str, str]
    git_commit: str | None
    image: Image | None


def made_by() -> MadeBy:
    """Return what makes the artefacts of this process.

    An image holds its source without git: its commit is then the image's.

    Raises:
        ConfigError: `IMAGE_VARIABLE` is set, and does not name an image's record; names the variable and the file.
    """
    image = _image()
    commit = git_commit()
    # A checkout of which git says nothing (it is missing in the image, say) is not the source that the image holds.
    if commit is None and image is not None and not any((at / ".git").exists() for at in _HERE.parents):
        commit = image.commit
    return MadeBy(versions=versions(), git_commit=commit, image=image)


def _image() -> Image | None:
    named = os.environ.get(IMAGE_VARIABLE)
    if named is None:
        return None
    source = f"{named} ({IMAGE_VARIABLE})"
    try:
        text = Path(named).read_text(encoding="utf-8")
    except (OSError, ValueError) as cause:
        raise ConfigError(f"{source}: cannot be read ({cause}); must be the record of the image") from cause
    return decode_record(Image, text, source=source, error=ConfigError)


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
    if git is None or _run(git, "ls-files", "--error-unmatch", _HERE.name, folder=_HERE.parent) is None:
        return None
    return _run(git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", folder=_HERE.parent)


def _run(*command: str, folder: Path) -> str | None:
    """Return what a command prints, None if it fails."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None
