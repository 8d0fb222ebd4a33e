"""Options of members: frozen dataclasses whose field types say what is right.

A type is ``bool``, ``int``, ``float``, ``str``, a ``Literal``, a tuple of any number of these, or one of them or None;
a range stands beside it: ``Annotated[float, Gt(0)]`` (of annotated-types). Members check their options by it when they
are made, and the JSON schema of params.yaml follows from it. A field of another type is one that params.yaml cannot
give; it is not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from certsmooth._internal.checks import check_choice, check_integer, check_number
from certsmooth.errors import CertsmoothError, ConfigError, nearest

T = TypeVar("T")

_LIMITS = {"ge": "minimum", "gt": "above", "le": "maximum", "lt": "below"}  # of annotated-types, and of the checks


class AllowInfinity:
    """Beside ``float``: the number may be infinite."""


@dataclass(frozen=True)
class Member:
    """Base of the families' base classes; the fields of a member are its options.

    Raises:
        ConfigError: an option is unknown or not of its type or in its range; names it, the value and what is right.
    """

    def __new__(cls, *arguments: object, **options: object) -> Self:
        """Refuse unknown options, naming the nearest one."""
        known = option_types(cls)
        for name in options:
            if name not in known:
                raise ConfigError(f"{cls.__name__}: unknown option {name!r}; {nearest(name, known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, kind in option_types(type(self)).items():
            object.__setattr__(self, name, checked(name, getattr(self, name), kind))

    @classmethod
    def member_name(cls) -> str:
        """Return the name of the member: that of its file."""
        return cls.__module__.rpartition(".")[2]


def make(cls: type[T], options: Mapping[str, Any], key: str, **given: object) -> T:
    """Return a member, or another dataclass, with options of params.yaml, and others that it cannot give.

    Args:
        cls: its class.
        options: by name.
        key: where they stand; named in errors.
        **given: more options.

    Raises:
        ConfigError: an option is unknown, missing or bad.
    """
    known = [name for name in option_types(cls) if name not in given]
    for name in options:
        if name not in known:
            raise ConfigError(f"{key}: unknown key {name!r}; {nearest(name, known)}")
    for field in fields(cast(Any, cls)):
        missing = field.name in known and field.name not in options
        if missing and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{key}: missing key {field.name!r}")
    try:
        return cls(**options, **given)
    except CertsmoothError as error:
        raise ConfigError(f"{key}: {error}") from error


def option_types(cls: type) -> Mapping[str, Any]:
    """Return the type of each option of a dataclass, with what stands beside it."""
    return _option_types(cast(Any, cls))


@cache
def _option_types(cls: Any) -> Mapping[str, Any]:  # noqa: ANN401 - mypy takes no class of dataclasses for hashable
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def option_descriptions(cls: type) -> dict[str, str]:
    """Return what the docstrings of a dataclass and its bases say of each attribute, under ``Attributes:``."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        _, _, section = cleandoc(each.__dict__.get("__doc__") or "").partition("\nAttributes:\n")
        section = re.split(r"\n(?=\S)", section)[0]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, flags=re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def checked(key: str, value: object, kind: Any, beside: Iterable[object] = ()) -> Any:  # noqa: ANN401 - of any kind
    """Return a value as its type has it: a number of NumPy as a plain one, a list as a tuple.

    Args:
        key: named in errors.
        value: what was given.
        kind: the type.
        beside: what stands beside the type.

    Raises:
        ConfigError: it is not of the type, or out of range.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return checked(key, value, arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        (one,) = set(arguments) - {NoneType}
        return None if value is None else checked(key, value, one, beside)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}: {value!r}; must be a list")
        return tuple(checked(key, each, arguments[0]) for each in value)
    if origin is Literal:
        check_choice(key, value, arguments)
        return value
    if kind in (int, float):
        limits = {name: getattr(each, end) for each in beside for end, name in _LIMITS.items() if hasattr(each, end)}
        if kind is int:
            return check_integer(key, value, **limits)
        return check_number(key, value, infinite=any(isinstance(each, AllowInfinity) for each in beside), **limits)
    if kind in (bool, str):
        if not isinstance(value, kind):
            raise ConfigError(f"{key}: {value!r}; must be {'true or false' if kind is bool else 'text'}")
        return value
    return value
