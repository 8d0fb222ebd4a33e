"""Libraries that are loaded when something of them is used, though they are imported before."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def load_when_used(library: str) -> None:
    """Let ``import LIBRARY`` return at once, wherever it stands: the library is loaded at its first attribute.

    Members check their options without torch, but name it in what they compute. (The loader of importlib.util that is
    lazy loads a library at the second ``import``.)

    Args:
        library: the name of a package; one that is loaded stays as it is.
    """
    sys.modules.setdefault(library, _Unloaded(library))


class _Unloaded(ModuleType):
    def __getattr__(self, name: str) -> object:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
