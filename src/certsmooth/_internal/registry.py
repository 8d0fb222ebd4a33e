"""Finds the members of a family: each member is one module of the family's package, named after the module.

Nothing lists the members: a new file in the folder is a new member. Modules whose name starts with an underscore
are shared helpers, not members. A member is a class, a subclass of the family's base class, which the package has under
the name ``BASE``; architectures are functions.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from certsmooth._internal.imports import failure, import_code
from certsmooth.errors import ConfigError, nearest

_FOLDER = Path(__file__).parents[1] / "science"

_LITERALS = {"certificates": ("noise",), "objectives": ("uses_noise",), "sigma": ("label", "legend")}
"""Class attributes that are read with `literal` as well, where the member's libraries need not be there."""


@cache
def names(family: str) -> tuple[str, ...]:
    """Return the names of the members of a family, sorted.

    Args:
        family: the name of a sub-package of certsmooth.science, for example ``"models"``.
    """
    # The folder, not the imported package: names are needed where torch is not.
    found = pkgutil.iter_modules([str(_FOLDER / family)])
    return tuple(sorted(m.name for m in found if not m.name.startswith("_")))


@cache
def member(family: str, name: str) -> type[Any]:
    """Return the class of one member.

    Args:
        family: the name of a sub-package of certsmooth.science whose members are classes.
        name: the member, for example ``"cohen"``.

    Raises:
        ConfigError: the family has no such member (the message names the nearest one); or its module does not define
            exactly one subclass of the family's base class, or that one lacks something, or says something else than
            `literal` reads (the message names the file).
    """
    module = _module(family, name)
    base = importlib.import_module(f"certsmooth.science.{family}").BASE
    cls = member_class(module, base)
    for attribute in _LITERALS.get(family, ()):
        said, is_really = (
            literal(family, name, attribute, default=getattr(base, attribute, None)),
            getattr(cls, attribute),
        )
        if said != is_really:
            right = f"must be a literal in its body, {attribute}: ClassVar[...] = {is_really!r}"
            raise ConfigError(f"{module.__file__}: {cls.__name__}: {attribute} reads {said!r}; {right}")
    return cls


def function(family: str, name: str, attribute: str) -> Callable[..., Any]:
    """Return the function of one member of a family whose members are functions.

    Args:
        family: the name of a sub-package of certsmooth.science, for example ``"models"``.
        name: the member, for example ``"resnet20"``.
        attribute: the name of the function in its module.

    Raises:
        ConfigError: the family has no such member, or its module no such function.
    """
    module = _module(family, name)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise ConfigError(f"{module.__file__}: no function {attribute!r}; must define it")
    return found  # type: ignore[no-any-return]


@cache
def literal(family: str, name: str, attribute: str, *, default: object = None) -> object:
    """Return an annotated attribute of a member, or of its module, that is a literal, without importing the file.

    Args:
        family: the name of a sub-package of certsmooth.science.
        name: the member.
        attribute: of its class or its module.
        default: where the file does not give it; None if it must.

    Raises:
        ConfigError: the family has no such member, or its file does not give the attribute, or as no literal.
    """
    _check_name(family, name)
    path = _FOLDER / family / f"{name}.py"
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), path)
    except SyntaxError as error:
        raise ConfigError(f"{family}: {name!r} cannot be imported: {failure(error)}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.Module):
            for each in node.body:
                target = getattr(each, "target", None)
                if isinstance(each, ast.AnnAssign) and isinstance(target, ast.Name) and target.id == attribute:
                    return _evaluated(each.value, f"{path}: {attribute}") if each.value is not None else default
    if default is None:
        raise ConfigError(f"{path}: no {attribute}; must be a class attribute, {attribute}: ClassVar[...] = ...")
    return default


def _evaluated(value: ast.expr, where: str) -> object:
    try:
        return ast.literal_eval(value)
    except ValueError as error:
        raise ConfigError(f"{where}: {ast.unparse(value)}; must be a literal") from error


def member_class(module: ModuleType, base: type) -> type[Any]:
    """Return the subclass of a family's base class that a module defines.

    Raises:
        ConfigError: there is not exactly one, or it lacks something; the message names the file.
    """
    classes = [cls for cls in vars(module).values() if isinstance(cls, type) and cls.__module__ == module.__name__]
    found = [cls for cls in classes if issubclass(cls, base) and not cls.__name__.startswith("_")]
    if len(found) != 1:
        there = ", ".join(cls.__name__ for cls in found) or "no class"
        raise ConfigError(f"{module.__file__}: {there}; must define one subclass of {base.__name__}")
    (cls,) = found
    declared = [name for name, kind in base.__annotations__.items() if str(kind).startswith("ClassVar")]
    missing = [name for name in declared if not hasattr(cls, name)]
    if lacks := [*sorted(getattr(cls, "__abstractmethods__", ())), *sorted(missing)]:
        right = f"must define what {base.__name__} asks for"
        raise ConfigError(f"{module.__file__}: {cls.__name__} lacks {', '.join(lacks)}; {right}")
    if "__dataclass_params__" not in vars(cls):
        right = "must be decorated with @dataclass(frozen=True)"
        raise ConfigError(f"{module.__file__}: {cls.__name__} is no dataclass; {right}")
    return cls


def _check_name(family: str, name: str) -> None:
    valid = names(family)
    if name not in valid:
        raise ConfigError(f"{family}: unknown name {name!r}; {nearest(name, valid)}")


def _module(family: str, name: str) -> ModuleType:
    _check_name(family, name)
    return import_code(f"certsmooth.science.{family}.{name}", f"{family}: {name!r}")
