"""What an artefact says that it is, compared with what it should be: entry by entry, all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certsmooth.errors import CertsmoothError

_SHOWN = 3  # entries in a message


class _Nothing:
    """Stands for an entry that is not there; equals nothing that a file can hold."""

    def __repr__(self) -> str:
        return "nothing"


_MISSING = _Nothing()


@dataclass(frozen=True)
class Difference:
    """An entry of which two descriptions say different things."""

    key: str
    found: object
    right: object

    def __str__(self) -> str:
        return f"{self.key} is {self.found!r}; must be {self.right!r}"


def differences(found: object, right: object, key: str = "") -> Iterator[Difference]:
    """Yield the entries that differ, those that one of the two lacks among them; mappings are compared key by key.

    Args:
        found: what a file says, as JSON holds it.
        right: what it should say, likewise.
        key: where both stand in a larger description.
    """
    if isinstance(found, Mapping) and isinstance(right, Mapping):
        for name in [*right, *(name for name in found if name not in right)]:
            below = f"{key}.{name}" if key else str(name)
            yield from differences(found.get(name, _MISSING), right.get(name, _MISSING), below)
    elif type(found) is bool or type(right) is bool:
        if found is not right:
            yield Difference(key, found, right)
    elif found != right:
        yield Difference(key, found, right)


def check_identity(
    path: Path, found: Mapping[str, Any], right: Mapping[str, Any], *, remedy: str, error: type[CertsmoothError]
) -> None:
    """Check that a file is what it should be.

    Args:
        path: the file.
        found: what it says.
        right: entries that it must have; each is compared whole, other entries are not.
        remedy: what to do, for the message.
        error: the class of the error raised.

    Raises:
        CertsmoothError: an entry differs; names the file, the entry and both values.
    """
    if wrong := _differing(found, right):
        more = f"; and {len(wrong) - _SHOWN} more entries" if len(wrong) > _SHOWN else ""
        raise error(f"{path}: {'; '.join(map(str, wrong[:_SHOWN]))}{more}; {remedy}")


def nearest(descriptions: Sequence[Mapping[str, Any]], right: Mapping[str, Any]) -> int:
    """Return the position of the description that differs least from what is asked for.

    Raises:
        ValueError: there is none.
    """
    return min(range(len(descriptions)), key=lambda place: len(_differing(descriptions[place], right)))


def _differing(found: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    return [each for key, value in right.items() for each in differences(found.get(key, _MISSING), value, key)]
