"""Checks of options, for the ``__post_init__`` of the dataclasses that params.yaml fills."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real

from certsmooth.errors import ConfigError, nearest

LARGEST_INTEGER = 2**31 - 1
"""No option needs more; larger numbers overflow somewhere in the libraries, long after the check."""


def check_integer(key: str, value: object, *, minimum: int) -> None:
    """Raise unless ``value`` is a whole number from ``minimum`` to `LARGEST_INTEGER`.

    Raises:
        ConfigError: names the key, the value and what would be right.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ConfigError(f"{key}: {value!r}; must be a whole number, at least {minimum}")
    if int(value) > LARGEST_INTEGER:
        raise ConfigError(f"{key}: {value!r}; must be at most {LARGEST_INTEGER}")


def check_number(
    key: str,
    value: object,
    *,
    above: float = -math.inf,
    minimum: float = -math.inf,
    below: float = math.inf,
    maximum: float = math.inf,
) -> None:
    """Raise unless ``value`` is a finite number with above < value < below and minimum <= value <= maximum.

    Raises:
        ConfigError: names the key, the value and what would be right.
    """
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:  # a whole number
        number = math.inf
    if not (math.isfinite(number) and above < number < below and minimum <= number <= maximum):
        bounds = {">": above, ">=": minimum, "<": below, "<=": maximum}
        right = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if math.isfinite(bound))
        raise ConfigError(f"{key}: {value!r}; must be a finite number {right}".rstrip())


def check_choice(key: str, value: object, valid: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``valid``.

    Raises:
        ConfigError: names the key, the value and the nearest valid one.
    """
    choices = tuple(valid)
    if value not in choices:
        raise ConfigError(f"{key}: unknown {value!r}; {nearest(str(value), choices)}")
