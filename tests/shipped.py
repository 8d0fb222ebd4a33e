"""The configuration that the project ships, as one mapping that a test can edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certsmooth.experiment.library import read_content

ROOT = Path(__file__).resolve().parents[1]


def shipped_content() -> dict[str, Any]:
    """Return params.yaml and its library as the content of one params.yaml; no part of it is in two places."""
    return read_content(ROOT / "params.yaml").whole()
