"""Fields that came to a dataclass later: where they say nothing new they are left out of what is written."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

LATER = "left_out"
"""Metadata of such a field: the value at which it is left out."""


def is_said(metadata: Any, value: object) -> bool:  # noqa: ANN401 - a mapping proxy
    """Return whether a field with this metadata and value stands in what is written."""
    return LATER not in metadata or bool(value != metadata[LATER])


def stated(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """Return the fields of a dataclass as `dataclasses.asdict`, but for those of its own that are left out."""
    content = asdict(value)
    return {
        each.name: content[each.name] for each in fields(value) if is_said(each.metadata, getattr(value, each.name))
    }
