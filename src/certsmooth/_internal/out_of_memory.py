"""Which errors say that memory ran out, of the machine or of the device."""

from __future__ import annotations

import sys

# What kernels say in a RuntimeError: drivers and allocators of devices ("CUDA error: out of memory", "CUDA driver
# error: out of memory", "MPS backend out of memory"), torch's allocator on the CPU, oneDNN, C++, cuBLAS and cuDNN.
_MESSAGES = (
    "out of memory",
    "can't allocate memory",
    "could not create a primitive",
    "could not create a memory",
    "std::bad_alloc",
    "_STATUS_ALLOC_FAILED",
    "_ALLOCATION_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # not imported for that
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)
