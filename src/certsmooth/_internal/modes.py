"""Evaluation mode, and a number of threads, for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Put every part of a model in evaluation mode, and each back into its own when the block ends.

    Blocks may nest and may overlap in several threads, also those of models that share parts: a part goes back into its
    mode when the last block that holds it ends. Programs that were exported (``torch.export``) or frozen
    (``torch.jit.freeze``) have no modes and stay as they are.

    Args:
        model: any module; parts of it may be in different modes.
    """
    modules = _USERS.enter(model)
    try:
        yield
    finally:
        _USERS.leave(modules)


@dataclass
class _Use:
    """A module that is evaluated: by how many blocks, and whether it was in training mode before the first."""

    module: nn.Module  # held, so that its id stays its own
    training: bool
    blocks: int = 0


class _Users:
    """Who evaluates which module. The mode is the module's, not the caller's: this knows who relies on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses: dict[int, _Use] = {}

    def enter(self, model: nn.Module) -> list[nn.Module]:
        modules = list(model.modules())
        with self._lock:
            for module in modules:
                use = self._uses.setdefault(id(module), _Use(module, getattr(module, "training", False)))
                use.blocks += 1
        try:
            if hasattr(model, "training"):  # a frozen ScriptModule has not
                model.eval()
        except NotImplementedError:
            pass  # what torch.export's modules say: their mode is part of the program
        except BaseException:
            self.leave(modules)
            raise
        return modules

    def leave(self, modules: list[nn.Module]) -> None:
        with self._lock:
            for module in modules:
                use = self._uses[id(module)]
                use.blocks -= 1
                if use.blocks == 0:
                    del self._uses[id(module)]
                    if use.training:
                        module.training = True


_USERS = _Users()


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
