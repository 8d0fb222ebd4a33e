"""Certified robustness by randomized smoothing.

    from certsmooth import SmoothedClassifier

    smoothed = SmoothedClassifier(model, 10, 0.25)
    smoothed.certify(images, n0=100, n=100_000, alpha=0.001, seed=0)

``dir(certsmooth)`` lists the public API. Its names are those that ``__init__.pyi`` imports; here each is imported when
it is first used, so that the workflow's short jobs do not wait for torch.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

_HOME = {
    alias.name: node.module
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module is not None
    for alias in node.names
}
"""Public name -> the module that defines it."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'certsmooth' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
