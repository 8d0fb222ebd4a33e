"""Where the project lies, and what is shared beside it, which may be absent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
"""Of the project."""

REFERENCE = ROOT.parent / "shared" / "reference"
"""Published tables and per-image certificates."""

REAL_IMAGES = ROOT.parent / "shared" / "data"
"""Real images."""

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="what papers published is not on this machine")
needs_images = pytest.mark.skipif(not REAL_IMAGES.is_dir(), reason="real images are not on this machine")
