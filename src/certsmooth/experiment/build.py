"""Builds what options of params.yaml describe; every error names the key. Imports no member but the one it builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Protocol, TypeVar, cast

from certsmooth._internal.registry import member
from certsmooth.errors import CertsmoothError, ConfigError, nearest

T = TypeVar("T")


class Chosen(Protocol):
    """A member of a family: its name and its options."""

    @property
    def name(self) -> str:
        """Of its module."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Arguments."""


_CLASSES = {"sigma": "Policy", "certificates": "Certificate", "objectives": "Objective", "attacks": "Attack"}


def build(family: str, chosen: Chosen, *, key: str, **given: object) -> Any:  # noqa: ANN401 - of any family
    """Build a member of a family.

    Args:
        family: a sub-package of certsmooth.science.
        chosen: its name and options.
        key: where in params.yaml it stands.
        **given: arguments that params.yaml cannot give.

    Raises:
        ConfigError: unknown, missing or bad option.
    """
    cls = getattr(member(family, chosen.name), _CLASSES[family])
    return construct(cls, chosen.options, f"{key}.options", **given)


def under(key: str, function: Callable[..., T], *arguments: object) -> T:
    """Call a function, and name the key in every error.

    Args:
        key: of params.yaml.
        function: what to call.
        *arguments: its arguments.

    Raises:
        ConfigError: whatever certsmooth error the function raises, after the key.
    """
    try:
        return function(*arguments)
    except CertsmoothError as error:
        raise ConfigError(f"{key}: {error}") from error


def construct(cls: type[T], options: Mapping[str, Any], key: str, **given: object) -> T:
    """Call a dataclass with options of params.yaml, and others that it cannot give; name the key in every error.

    Raises:
        ConfigError: unknown, missing or bad option.
    """
    known = {f.name: f for f in fields(cast(Any, cls)) if f.init and f.name not in given}
    for name in options:
        if name not in known:
            raise ConfigError(f"{key}: unknown key {name!r}; {nearest(name, known)}")
        if str(known[name].type).startswith("tuple") and not isinstance(options[name], tuple):
            raise ConfigError(f"{key}.{name}: {options[name]!r}; must be a list")
    for name, f in known.items():
        if name not in options and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(f"{key}: missing key {name!r}")
    return under(key, lambda: cls(**options, **given))
