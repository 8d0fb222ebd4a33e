"""Builds what options of params.yaml describe; every error names the key. Imports no member but the one it builds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from certsmooth._internal.options import make
from certsmooth._internal.registry import member
from certsmooth.errors import CertsmoothError, ConfigError

if TYPE_CHECKING:
    from certsmooth.experiment.config import Member
    from certsmooth.experiment.specs import MemberSpec

T = TypeVar("T")


def build(family: str, chosen: Member | MemberSpec, *, key: str, **given: object) -> Any:  # noqa: ANN401 - of any family
    """Build a member of a family.

    Args:
        family: a sub-package of certsmooth.science.
        chosen: its name and options.
        key: where in params.yaml it stands.
        **given: arguments that params.yaml cannot give.

    Raises:
        ConfigError: unknown, missing or bad option.
    """
    return make(member(family, chosen.name), chosen.options, f"{key}.options", **given)


def under(key: str, function: Callable[..., T], *arguments: object) -> T:
    """Call a function, and name the key of params.yaml in every error.

    Raises:
        ConfigError: whatever certsmooth error the function raises, after the key.
    """
    try:
        return function(*arguments)
    except CertsmoothError as error:
        raise ConfigError(f"{key}: {error}") from error
