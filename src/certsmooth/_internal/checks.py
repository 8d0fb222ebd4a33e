"""Checks of numbers and options: of the public functions' arguments, and of the dataclasses that params.yaml fills.

Each check of a number returns it as a plain ``int`` or ``float``: what a caller gave may be a NumPy scalar or a tensor,
which Python compares like the number but prints otherwise, and names of noise, hashes and JSON hold what is printed.

No numerical library is imported here, as the configuration is read without any.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from numbers import Real
from operator import index
from typing import SupportsIndex

from certsmooth.errors import ConfigError, nearest

LARGEST_INTEGER = 2**31 - 1
"""No option needs more; larger numbers overflow somewhere in the libraries, long after the check."""

LARGEST_SEED = 2**63 - 1
"""Of `certsmooth._internal.seeds.derive_seed`; generators take no more."""

MAX_SAMPLES = 10**9
"""Most samples of an image: the largest number of trials for which the error of `theory.bounds` was measured."""

MIN_ALPHA = 1e-100
"""Smallest probability of error for which the numerical functions of `science.theory.bounds` can be relied on."""


def check_integer(key: str, value: object, *, minimum: float = -math.inf, maximum: float = LARGEST_INTEGER) -> int:
    """Return a whole number as a plain ``int``: one of Python or NumPy, or an array or tensor of no dimensions.

    Raises:
        ConfigError: it is a boolean, a float or no number, or not in minimum .. maximum; names the key, the value and
            what would be right.
    """
    plain = _scalar(value)
    if isinstance(plain, bool) or not isinstance(plain, SupportsIndex) or getattr(plain, "ndim", 0) != 0:
        least = f", at least {minimum}" if math.isfinite(minimum) else ""
        raise ConfigError(f"{key}: {value!r}; must be a whole number{whole_number_meant(plain) or least}")
    number = index(plain)
    if number < minimum:
        raise ConfigError(f"{key}: {number}; must be a whole number, at least {minimum}")
    if number > maximum:
        raise ConfigError(f"{key}: {number}; must be at most {maximum}")
    return number


def check_number(
    key: str,
    value: object,
    *,
    above: float = -math.inf,
    minimum: float = -math.inf,
    below: float = math.inf,
    maximum: float = math.inf,
    infinite: bool = False,
) -> float:
    """Return a finite number with above < value < below and minimum <= value <= maximum as a plain ``float``.

    With ``infinite``, infinity is a number as well.

    Raises:
        ConfigError: it is a boolean, complex, no number or not so; names the key, the value and what would be right.
    """
    plain = _scalar(value)
    try:
        number = math.nan if isinstance(plain, bool) or not isinstance(plain, Real) else float(plain)
    except OverflowError:  # a whole number
        number = math.nan
    is_right = math.isfinite(number) and above < number < below and minimum <= number <= maximum
    if not is_right and not (infinite and number == math.inf):
        bounds = {">": above, ">=": minimum, "<": below, "<=": maximum}
        right = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if math.isfinite(bound))
        kind = "number" if infinite else "finite number"
        raise ConfigError(f"{key}: {value!r}; must be a {kind} {right}".rstrip() + number_meant(plain))
    return number


def store_integer(instance: object, name: str, *, minimum: int, maximum: int = LARGEST_INTEGER) -> None:
    """Check a field of a frozen dataclass by `check_integer`, and let it hold the plain ``int``.

    Raises:
        ConfigError: as `check_integer`; the key is the field's name.
    """
    number = check_integer(name, getattr(instance, name), minimum=minimum, maximum=maximum)
    object.__setattr__(instance, name, number)


def check_samples(key: str, value: object, *, minimum: int = 1) -> int:
    """Return a number of samples of an image, from ``minimum`` to `MAX_SAMPLES`, as a plain ``int``.

    Raises:
        ConfigError: as `check_integer`.
    """
    return check_integer(key, value, minimum=minimum, maximum=MAX_SAMPLES)


def check_seed(key: str, value: object) -> int:
    """Return a seed, 0 .. `LARGEST_SEED`, as a plain ``int``: equal seeds then give equal noise, whatever their type.

    Raises:
        ConfigError: as `check_integer`.
    """
    return check_integer(key, value, minimum=0, maximum=LARGEST_SEED)


def check_alpha(value: object) -> float:
    """Return ``alpha``, a probability of error in (0, 1) and at least `MIN_ALPHA`, as a plain ``float``.

    Raises:
        ConfigError: it is no number or not so.
    """
    try:
        return check_number("alpha", value, minimum=MIN_ALPHA, below=1)
    except ConfigError as error:
        raise ConfigError(
            f"alpha: {value!r}; must be in (0, 1), at least {MIN_ALPHA:g}{number_meant(value)}"
        ) from error


def check_choice(key: str, value: object, valid: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``valid``.

    Raises:
        ConfigError: names the key, the value and the nearest valid one.
    """
    choices = tuple(valid)
    if value not in choices:
        raise ConfigError(f"{key}: unknown {value!r}; {nearest(str(value), choices)}")


def whole_number_meant(found: object) -> str:
    """Return the end of a message: ``: 5000`` if text or a float means a whole number; else ''."""
    text = str(found).strip() if isinstance(found, str | float) else ""
    digits = _SEPARATOR.sub("", text)
    if (number := _parsed(digits)) is None or not number.is_integer() or abs(number) > LARGEST_SEED:
        return ""
    exact = int(digits) if digits.lstrip("+-").isdecimal() else int(number)
    return f"{', without separators' if digits != text else ''}: {exact}"


def number_meant(found: object) -> str:
    """Return the end of a message: ``: 0.001`` if text means a number; else ''."""
    number = _parsed(found) if isinstance(found, str) else None
    return "" if number is None else f": {number!r}"


_SEPARATOR = re.compile(r"(?<=[0-9])[,_' ](?=[0-9]{3}(?![0-9]))")
"""Of thousands."""


def _parsed(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _scalar(value: object) -> object:
    """Return the Python number in a NumPy scalar, or in an array or tensor of no dimensions; else the value itself."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value
