"""Writes a table as three files: Markdown for people, CSV in long form, JSON with everything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certsmooth._internal.storage import atomic_write
from certsmooth.artefacts.provenance import Image, made_by

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_IMAGE = {field.name for field in fields(Image)}


def write_result(stem: Path, result: DataclassInstance, *, markdown: str, values: str) -> tuple[Path, Path, Path]:
    """Write ``STEM.md``, ``STEM.csv`` and ``STEM.json``, and return their paths.

    The JSON file has the fields of the result and what made it (`artefacts.provenance.MadeBy`). The records of
    container images are under ``images``, each once; elsewhere its key there stands for it.

    Args:
        stem: path without the ending; its folder must exist.
        result: the table.
        markdown: the table as text.
        values: its numbers as CSV.

    Raises:
        CertsmoothError: a file cannot be written.
    """
    images: dict[str, Any] = {}
    content = _named(asdict(result) | asdict(made_by()), images) | {"images": images}
    texts = {".md": markdown, ".csv": values, ".json": json.dumps(content, indent=2, allow_nan=False) + "\n"}
    paths = [stem.with_name(f"{stem.name}{suffix}") for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        with atomic_write(path) as file:
            file.write(text.encode())
    return paths[0], paths[1], paths[2]


def _named(value: Any, images: dict[str, Any]) -> Any:  # noqa: ANN401 - what JSON holds
    """Return a value with each record of an image moved to ``images``, and its key there in its place."""
    if isinstance(value, dict) and value.keys() == _IMAGE:
        key = f"sha256:{hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()}"
        images[key] = value
        return key
    if isinstance(value, dict):
        return {key: _named(each, images) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_named(each, images) for each in value]
    return value
