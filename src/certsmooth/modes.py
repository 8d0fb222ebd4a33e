"""Evaluation mode, and a number of threads, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Put every part of a model in evaluation mode, and each back into its own when the block ends.

    Args:
        model: any module; parts of it may be in different modes.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
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
