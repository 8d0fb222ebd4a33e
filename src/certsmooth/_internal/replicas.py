"""Forward passes that several threads may run at the same time."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from certsmooth._internal.reach import Reach, reach
from certsmooth.errors import ModelError


class Replicas:
    """Lends a base classifier to forward passes, so that none sees what another keeps on the module, or elsewhere.

    What a forward pass can write to (`certsmooth._internal.reach`) decides how:

    * nothing: every thread runs the module itself.
    * itself: each forward pass runs a copy of its own of the module as it is, so it cannot see what an earlier one
      has left there either. A copy shares the parameters, and has buffers of its own.
    * more, or it is not known, or the module cannot be copied: one forward pass at a time, in the process, runs the
      module itself.

    Devices other than the CPU have one worker, and take the last way: copies would cost them time for nothing.

    Args:
        model: base classifier, in evaluation mode.
        device: where it runs.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model
        self._parameters = list(model.parameters())
        # A forward pass that is one at a time may smooth another classifier: its workers run while it waits for them.
        self._is_inside = getattr(_HOLDER, "holds", False)
        self._reach = reach(model) if device.type == "cpu" else Reach.MORE
        if self._reach is Reach.ITSELF:
            try:
                self._copy()
            except Exception:  # whatever is wrong with copying it, it is run as it is
                self._reach = Reach.MORE

    @property
    def is_one(self) -> bool:
        """Whether one forward pass must follow the other."""
        return self._reach is Reach.MORE

    @contextmanager
    def lend(self) -> Iterator[nn.Module]:
        """Yield what to run for one forward pass, or for several that follow each other.

        Raises:
            ModelError: a parameter that copies share was changed meanwhile.
        """
        if self._reach is Reach.NOTHING:
            yield self.model
        elif self._reach is Reach.MORE:
            with nullcontext() if self._is_inside else _one_at_a_time():
                yield self.model
        else:
            before = self._versions()
            yield self._copy()
            if self._versions() != before:
                raise ModelError(
                    "the model's parameters were changed while it ran; they must stay as they are, "
                    "and what a forward pass changes must be a buffer (register_buffer)"
                )

    def _copy(self) -> nn.Module:
        with torch.inference_mode(False):  # else a copied buffer could not be written to outside it
            return copy.deepcopy(self.model, {id(parameter): parameter for parameter in self._parameters})

    def _versions(self) -> list[int]:
        return [0 if parameter.is_inference() else parameter._version for parameter in self._parameters]


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with _ONE_AT_A_TIME:
        _HOLDER.holds = True
        try:
            yield
        finally:
            _HOLDER.holds = False


_ONE_AT_A_TIME = threading.Lock()  # of the process: two models may share what neither is known to own
_HOLDER = threading.local()  # whether this thread holds it
