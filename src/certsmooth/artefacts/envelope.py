"""The envelope of an artefact: which kind of file it is, what it holds, what made it, and a checksum of all of it.

It is JSON: ``{"format": "checkpoint 3", "spec": ..., "made_by": ..., "sha256": ...}``. A file of several runs has a
spec in each of its ``parts``; what made a file whose bytes must not depend on it is in a log beside the file. JSON
files are their own envelopes; Parquet and safetensors have theirs in the metadata, under `KEY`. The checksum is that of
the whole file, with `_BLANK` in its place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from certsmooth._internal.storage import atomic_write, decode_record
from certsmooth.errors import CertsmoothError, CountsError

KEY = "certsmooth"

_BLANK = b"checksum" * 8  # as long as a checksum, and nothing that anybody would write
_SHOWN = 3  # entries in a message

T = TypeVar("T")


@dataclass(frozen=True)
class Form:
    """A kind of artefact: how its files are sealed, opened and refused.

    Attributes:
        name: with the version of the form: ``counts 3``.
        remedy: what to do about a file that is not right, for messages.
        error: the class of the errors raised; they name the file.
    """

    name: str
    remedy: str
    error: type[CertsmoothError] = CountsError

    def envelope(
        self, path: Path, content: Mapping[str, Any], *, allow_nan: bool = False, indent: int | None = None
    ) -> str:
        """Return the envelope of a file, to be put into it; equal content gives equal text.

        Raises:
            CertsmoothError: the content cannot be JSON.
        """
        whole = {**content, "format": self.name, "sha256": _BLANK.decode()}
        try:
            return json.dumps(whole, allow_nan=allow_nan, indent=indent, sort_keys=True)
        except (TypeError, ValueError) as cause:
            raise self.error(f"{path}: cannot be JSON: {cause}; must be plain, finite values") from cause

    def write(self, path: Path, data: bytes) -> None:
        """Write a file that has its envelope in it, atomically, and fill in the checksum.

        Raises:
            CertsmoothError: the file cannot be written.
        """
        with atomic_write(path, error=self.error) as file:
            file.write(data.replace(_BLANK, hashlib.sha256(data).hexdigest().encode()))

    def read(self, path: Path) -> bytes:
        """Return the bytes of a file.

        Raises:
            CertsmoothError: it cannot be read.
        """
        try:
            return path.read_bytes()
        except OSError as cause:
            raise self.error(f"{path}: cannot be read: {cause.strerror or cause}; {self.remedy}") from cause

    def content(self, path: Path, data: bytes, envelope: str | bytes) -> dict[str, Any]:
        """Return what the envelope of a file says, once it is clear that the file is of this kind and intact.

        Raises:
            CertsmoothError: it is not.
        """
        try:
            found: dict[str, Any] = json.loads(envelope)
            name, checksum = found.pop("format"), str(found.pop("sha256"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise self.damaged(path, cause) from cause
        if name != self.name:
            raise self.error(f"{path}: holds {name!r}; must be {self.name!r}; {self.remedy}")
        is_one = re.fullmatch("[0-9a-f]{64}", checksum)
        if not is_one or hashlib.sha256(data.replace(checksum.encode(), _BLANK)).hexdigest() != checksum:
            raise self.error(f"{path}: truncated or altered: its content does not match its checksum; {self.remedy}")
        return found

    def damaged(self, path: Path, cause: Exception) -> CertsmoothError:
        """Return the error for a file in which no envelope is found."""
        return self.error(f"{path}: truncated, altered, or not {self.name!r} ({cause!r}); {self.remedy}")

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON file, atomically.

        Raises:
            CertsmoothError: the content cannot be JSON, or the file cannot be written.
        """
        self.write(path, f"{self.envelope(path, content, indent=2)}\n".encode())

    def read_json(self, path: Path) -> dict[str, Any]:
        """Read what `write_json` wrote.

        Raises:
            CertsmoothError: missing, damaged, or of another kind.
        """
        data = self.read(path)
        return self.content(path, data, data)

    def decoded(self, record: type[T], path: Path, content: Mapping[str, Any]) -> T:
        """Return the dataclass of which the content is the JSON.

        Raises:
            CertsmoothError: a field is missing, unknown or not right; names it.
        """
        return decode_record(record, json.dumps(content), source=str(path), error=self.error)

    def check(self, path: Path, found: Mapping[str, Any], right: Mapping[str, Any]) -> None:
        """Check that a file is what it should be.

        Args:
            path: the file.
            found: what it says.
            right: entries that it must have; each is compared whole, other entries are not.

        Raises:
            CertsmoothError: an entry differs; names the entry and both values.
        """
        self.find(path, [found], right)

    def find(self, path: Path, identities: Sequence[Mapping[str, Any]], right: Mapping[str, Any]) -> int:
        """Return the position of the part of a file that is what is asked for.

        Args:
            path: the file.
            identities: what its parts say.
            right: as for `check`.

        Raises:
            CertsmoothError: there is none; names what differs in the part that is nearest.
        """
        if not identities:
            raise self.error(f"{path}: no parts; {self.remedy}")
        found = [list(differences({key: each[key] for key in right if key in each}, right)) for each in identities]
        wrong = min(found, key=len)
        if wrong:
            more = f"; and {len(wrong) - _SHOWN} more entries" if len(wrong) > _SHOWN else ""
            raise self.error(f"{path}: {'; '.join(wrong[:_SHOWN])}{more}; {self.remedy}")
        return found.index(wrong)


class _Nothing:
    """Stands for an entry that is not there; equals nothing that a file can hold."""

    def __repr__(self) -> str:
        return "nothing"


_MISSING = _Nothing()


def differences(found: object, right: object, key: str = "") -> Iterator[str]:
    """Yield a sentence for each entry of which two descriptions say different things, or that one of them lacks.

    Mappings are compared key by key.

    Args:
        found: what a file says, as JSON holds it.
        right: what it should say, likewise.
        key: where both stand in a larger description.
    """
    if isinstance(found, Mapping) and isinstance(right, Mapping):
        for name in [*right, *(name for name in found if name not in right)]:
            below = f"{key}.{name}" if key else str(name)
            yield from differences(found.get(name, _MISSING), right.get(name, _MISSING), below)
    elif found is not right if bool in (type(found), type(right)) else found != right:
        yield f"{key} is {found!r}; must be {right!r}"
