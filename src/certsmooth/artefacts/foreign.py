"""Weights that other programs saved: safetensors, or what ``torch.save`` wrote.

A file of ``torch.save`` is a pickle. It is read by ``torch.load(weights_only=True)``, which runs nothing that a file
names, after a look at its instructions: they may build tensors, numbers, text, lists and mappings, and nothing else.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeGuard

import safetensors.torch
import torch
from torch import Tensor

from certsmooth.artefacts.envelope import KEY
from certsmooth.errors import CheckpointError

_TENSORS = re.compile(r"torch\._utils _rebuild_(tensor(_v2)?|parameter)|torch \w+Storage|collections OrderedDict")
"""What a pickle of tensors names."""

_ENTRIES = ("state_dict", "net", "model", "model_state_dict", "model_state")
"""Under which programs keep the state of a network, beside others."""

_LONGEST_PICKLE = 2**26  # bytes, without the tensors
_LEGACY_PICKLES = 5  # one after the other in a file of the form before torch 1.6; then the tensors


@dataclass(frozen=True)
class ForeignState:
    """What such a file holds.

    Attributes:
        tensors: by the names that its program gave them, on the CPU.
        about: numbers and text beside them: the epoch, the name of an architecture.
    """

    tensors: dict[str, Tensor]
    about: dict[str, bool | int | float | str]


def read_foreign(path: Path) -> ForeignState:
    """Read the state of a network from a file of another program.

    Raises:
        CheckpointError: it cannot be read, is neither safetensors nor of ``torch.save``, holds more than tensors,
            numbers and text, or no state of one network.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if start[8:] == b"{":
        return ForeignState(_safetensors(path), {})
    _check_instructions(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds
        reason = str(error).partition("\n")[0][:200]
        raise CheckpointError(
            f"{path}: cannot be read by torch.load(weights_only=True): {reason}; {_REMEDY}"
        ) from error
    return _found(path, content)


_REMEDY = "must be a state_dict: torch.save(model.state_dict(), FILE) in the program that made it"


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            if KEY in (file.metadata() or {}):
                raise CheckpointError(f"{path}: is a checkpoint of certsmooth; needs no import (trainings.NAME.given)")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: damaged safetensors ({error})") from error


def _check_instructions(path: Path) -> None:
    """Check what the pickles in a file would name and unpack, without running them."""
    try:
        named = list(_named(path))
    except CheckpointError:
        raise
    except Exception as error:  # of many kinds
        reason = str(error).partition("\n")[0][:200]
        raise CheckpointError(f"{path}: neither safetensors nor a file of torch.save ({reason})") from error
    if other := [name.replace(" ", ".") for name in named if not _TENSORS.fullmatch(name)]:
        raise CheckpointError(f"{path}: holds {other[0]}, not tensors, numbers and text alone; {_REMEDY}")


def _named(path: Path) -> Iterator[str]:
    """Yield what the pickles of a file name, ``module name``."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                yield from _globals(file)
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        (pickled,) = [entry for entry in entries if entry.filename.endswith("data.pkl")]
        if packed or pickled.file_size > _LONGEST_PICKLE:
            raise CheckpointError(f"{path}: compressed, or of more than tensors; {_REMEDY}")
        with archive.open(pickled) as file:
            yield from _globals(file)


def _globals(file: IO[bytes]) -> Iterator[str]:
    for code, argument, _ in pickletools.genops(file):
        if code.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif code.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            yield code.name


def _found(path: Path, content: object) -> ForeignState:
    """Return the state of a network in what a file holds."""
    whole = content if isinstance(content, Mapping) else {}
    states = {"": whole} if _is_state(whole) else {key: each for key, each in whole.items() if _is_state(each)}
    known = [key for key in ("", *_ENTRIES) if key in states] or list(states)
    if len(known) != 1 and not (known and known[0] in ("", *_ENTRIES)):
        found = ", ".join(map(str, whole)) or type(content).__name__
        raise CheckpointError(f"{path}: holds {found}; must have the state of one network, as {', '.join(_ENTRIES)}")
    tensors: dict[str, Tensor] = dict(states[known[0]])
    for name, tensor in tensors.items():
        held = tensor.untyped_storage().nbytes() if tensor.layout == torch.strided else 0
        if tensor.numel() * tensor.element_size() > held:
            raise CheckpointError(f"{path}: {name}: its values are not in the file; must be a plain tensor")
    about = {str(key): each for key, each in whole.items() if isinstance(each, bool | int | float | str)}
    return ForeignState(tensors, about)


def _is_state(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    """Return whether it is a mapping from names to tensors."""
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(key, str) and isinstance(each, Tensor) for key, each in content.items())
