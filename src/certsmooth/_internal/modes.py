"""Evaluation mode, and a number of threads, for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


@dataclass
class _Use:
    """A module that is evaluated: by how many blocks, and whether it was in training mode before the first."""

    module: nn.Module  # held, so that its id stays its own
    training: bool
    blocks: int = 0


_USES: dict[int, _Use] = {}  # by the id of the module: the mode is the module's, not that of those who rely on it
_LOCK = threading.Lock()


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Put every part of a model in evaluation mode, and each back into its own when the block ends.

    Blocks may nest and may overlap in several threads, also those of models that share parts: a part goes back into its
    mode when the last block that holds it ends. Programs that were exported (``torch.export``) or frozen
    (``torch.jit.freeze``) have no modes and stay as they are.

    Args:
        model: any module; parts of it may be in different modes.
    """
    modules = list(model.modules())
    with _LOCK:
        for module in modules:
            _USES.setdefault(id(module), _Use(module, getattr(module, "training", False))).blocks += 1
    try:
        with suppress(NotImplementedError):  # what torch.export's modules say: their mode is part of the program
            if hasattr(model, "training"):  # a frozen ScriptModule has not
                model.eval()
        yield
    finally:
        with _LOCK:
            for module in modules:
                use = _USES[id(module)]
                use.blocks -= 1
                if use.blocks == 0:
                    del _USES[id(module)]
                    if use.training:
                        module.training = True


@contextmanager
def cpu_threads(device: torch.device, number: int) -> Iterator[None]:
    """Set the number of threads of CPU kernels if the device is the CPU, and restore it when the block ends."""
    before = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)
