"""Finds the members of a family: each member is one module of the family's package, named after the module.

Nothing lists the members: a new file in the folder is a new member. Modules whose name starts with an underscore
are shared helpers, not members.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from certsmooth.errors import ConfigError, nearest


def names(family: str) -> tuple[str, ...]:
    """Return the names of the members of a family, sorted.

    Args:
        family: the name of a sub-package of certsmooth.science, for example ``"models"``.
    """
    # The folder, not the imported package: names are needed where torch is not.
    folder = Path(__file__).parents[1] / "science" / family
    return tuple(sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_")))


def member(family: str, name: str) -> ModuleType:
    """Import and return the module of one member.

    Args:
        family: the name of a sub-package of certsmooth.science.
        name: the member, for example ``"resnet20"``.

    Raises:
        ConfigError: the family has no such member; the message names the nearest one.
    """
    valid = names(family)
    if name not in valid:
        raise ConfigError(f"{family}: unknown name {name!r}; {nearest(name, valid)}")
    return importlib.import_module(f"certsmooth.science.{family}.{name}")
