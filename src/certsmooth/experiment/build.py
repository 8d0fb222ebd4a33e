"""Builds what options of params.yaml describe; every error names the key. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast

from certsmooth._internal.registry import member
from certsmooth.errors import CertsmoothError, ConfigError, nearest
from certsmooth.experiment.config import Member
from certsmooth.science.certificates import Certificate

T = TypeVar("T")


def build_certificate(chosen: Member, *, noise: str, key: str) -> Certificate:
    """Build a certificate.

    Args:
        chosen: its name and options.
        noise: that it must be about.
        key: where in params.yaml it stands.

    Raises:
        ConfigError: unknown, missing or bad option, or a certificate of another noise.
    """
    certificate = cast(Certificate, construct(member("certificates", chosen.name).Certificate, chosen.options, key))
    if certificate.noise != noise:
        raise ConfigError(
            f"{key}: {chosen.name!r} is about {certificate.noise!r} noise; must be about {noise!r}, that of the counts"
        )
    return certificate


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
