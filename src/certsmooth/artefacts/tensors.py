"""Tensors on disk: a safetensors file, whose envelope says what they are. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from certsmooth.artefacts.envelope import KEY, Form


def write_tensors(path: Path, form: Form, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Write tensors, atomically; equal content gives equal bytes, whatever the device and the memory format.

    Raises:
        CertsmoothError: the content cannot be JSON, or the file cannot be written.
    """
    # One key of metadata: safetensors writes several in no fixed order.
    form.write(path, serialized(tensors, {KEY: form.envelope(path, content)}))


def serialized(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return tensors as a safetensors file."""
    stored = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    data: bytes = safetensors.torch.save(stored, metadata)
    return data


def read_tensors(path: Path, form: Form) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file that `write_tensors` wrote, and what it says.

    Raises:
        CertsmoothError: missing, not such a file, or corrupt; the message names it.
    """
    data = form.read(path)
    try:
        # Such a file starts with the length of its header, 8 bytes, and the header, JSON.
        envelope = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][KEY]
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise form.damaged(path, cause) from cause
    content = form.content(path, data, envelope)
    return safetensors.torch.load(data), content
