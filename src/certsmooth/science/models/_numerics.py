"""How float32 convolutions and matrix products are computed.

Torch keeps this part of a program's arithmetic in flags of the process, where any other code can change it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch

NumericType = Literal["float32", "tf32", "bfloat16"]
"""``float32``: all arithmetic in IEEE float32. ``tf32``: float32 tensors, multiplied by tensor cores that
read 10 bits of each mantissa. ``bfloat16``: weights and activations with 7 bits of mantissa."""


@contextmanager
def numerics(numeric_type: NumericType) -> Iterator[None]:
    """Run the block with the float32 arithmetic of ``numeric_type``, whatever the flags of the process say.

    Torch's default lets cuDNN round the inputs of float32 convolutions to TF32; inside the block that happens
    for ``tf32`` and for no other type. The flags are restored at the end. Contexts nest. Threads may be
    inside at the same time with equal arithmetic, and the flags are restored when the last one leaves.

    A base classifier enters this in its forward pass. A backward pass runs later: wrap both to give it the
    same arithmetic. Entering costs some 30 microseconds, or 2 inside another such block.

    Raises:
        RuntimeError: another thread is inside with different arithmetic; the flags can only serve one.
    """
    precision = "tf32" if numeric_type == "tf32" else "ieee"
    _FLAGS.enter(precision)
    try:
        yield
    finally:
        _FLAGS.leave(precision)


class _Flags:
    """Torch's precision flags. They belong to the process: this knows which threads rely on them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: list[tuple[int, str]] = []  # (thread, precision), oldest first
        self._before: list[bool | str | None] = []

    def enter(self, precision: str) -> None:
        thread = threading.get_ident()
        with self._lock:
            if any(other != thread and held != precision for other, held in self._holders):
                raise RuntimeError(f"{precision} arithmetic, while another thread uses a different one")
            if not self._holders:
                self._before = [_read(owner, flag) for owner, flag in _flags()]
            if not self._holders or self._holders[-1][1] != precision:
                _set(precision)
            self._holders.append((thread, precision))

    def leave(self, precision: str) -> None:
        with self._lock:
            newest_first = self._holders[::-1]
            newest_first.remove((threading.get_ident(), precision))
            self._holders = newest_first[::-1]
            if not self._holders:
                _write(self._before)
            elif self._holders[-1][1] != precision:
                _set(self._holders[-1][1])


_FLAGS = _Flags()


def _flags() -> list[tuple[Any, str]]:
    """Return the flags as (owner, name), in the order in which they must be written.

    Torch 2.8 knows only the first two. Later versions know ``fp32_precision`` as well, refuse to read the old
    flags where they contradict it, and still read them when compiling. So both are written, and the new ones
    last: writing an old flag resets new ones to "inherit".
    """
    old: list[tuple[Any, str]] = [(torch.backends.cudnn, "allow_tf32"), (torch, "float32_matmul_precision")]
    if not hasattr(torch.backends, "fp32_precision"):
        return old
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    new = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul, mkldnn.conv, mkldnn.matmul)
    return old + [(owner, "fp32_precision") for owner in new]


def _set(precision: str) -> None:
    """Write the flags for a precision, "ieee" or "tf32"."""
    tf32 = precision == "tf32"
    values = {"allow_tf32": tf32, "float32_matmul_precision": "high" if tf32 else "highest"}
    _write([values.get(flag, precision) for _, flag in _flags()])


def _read(owner: Any, flag: str) -> bool | str | None:  # noqa: ANN401 - modules, and objects of private classes
    """Return a flag's value; None for an old flag that contradicts the new ones and so has no meaning."""
    try:
        value: bool | str = torch.get_float32_matmul_precision() if owner is torch else getattr(owner, flag)
    except RuntimeError:
        return None
    return value


def _write(values: Sequence[bool | str | None]) -> None:
    for (owner, flag), value in zip(_flags(), values, strict=True):
        if value is None:
            continue
        if owner is torch:
            torch.set_float32_matmul_precision(str(value))
        else:
            setattr(owner, flag, value)
