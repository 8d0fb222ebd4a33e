"""Write what this image is: its commit, its definition and every package in it. The last step of %post."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path


def packages() -> dict[str, str]:
    """Return the version of each Debian package, as ``debian:NAME``, and of each Python distribution."""
    listing = ["dpkg-query", "--show", "--showformat", "debian:${Package}\t${Version}\n"]
    debian = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    rows = [line.split("\t") for line in debian.splitlines()]
    python = {re.sub(r"[-_.]+", "-", found.name).lower(): found.version for found in distributions()}
    return dict(sorted(rows)) | dict(sorted(python.items()))


if __name__ == "__main__":
    commit, definition, path = sys.argv[1:]
    image = {"commit": commit, "definition": definition, "packages": packages()}
    Path(path).write_text(json.dumps(image, indent=1) + "\n")
