"""Writing files so that each is either the old one or the complete new one; reading records strictly."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from certsmooth.errors import CertsmoothError

T = TypeVar("T")


@contextmanager
def atomic_write(path: Path, *, error: type[CertsmoothError] = CertsmoothError) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` only when the block ends without an exception.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is renamed.
    After an exception, or on a full disk, ``path`` is what it was before and the temporary file is gone. After a kill
    it stays, until ``path`` is written again: it has one name, and writers take turns.

    Args:
        path: the file to write; its folder must exist.
        error: the class of the error raised, for callers whose users expect their own.

    Yields:
        A binary file, open for writing. Its name does not end in the suffix of ``path``: writers that guess a
        format from a name need to be told.

    Raises:
        CertsmoothError: the system refused (disk full, read-only, no such folder, ...); names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with _locked(temporary, wait=True) as file:
            try:
                file.truncate()
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink()
                raise
    except OSError as cause:
        raise error(f"{path}: cannot be written: {cause.strerror or cause}") from cause


@contextmanager
def exclusive(path: Path, *, error: type[CertsmoothError] = CertsmoothError) -> Iterator[None]:
    """Keep other runs from making the same output, and find out that it cannot be written before hours of work.

    A file ``.NAME.lock`` beside it is locked, and removed when the block ends. One that a killed run left does not
    hinder the next.

    Args:
        path: the output; its folder is made.
        error: the class of the error raised.

    Raises:
        CertsmoothError: another run is making it, or the system refuses to write there; names ``path``.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(lock, wait=False)
    except BlockingIOError as cause:
        raise error(f"{path}: another run is writing it; wait for it or stop it") from cause
    except OSError as cause:
        raise error(f"{path}: cannot be written: {cause.strerror or cause}") from cause
    with file:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(path: Path, *, wait: bool) -> BinaryIO:
    """Open a file, old or new, that nobody else has locked.

    Raises:
        BlockingIOError: somebody has, and we do not wait.
    """
    while True:
        # Not tempfile: the file gets the permissions that any new file of this user gets.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()  # whoever had it locked has renamed or removed it


def write_json(path: Path, content: Mapping[str, Any], *, error: type[CertsmoothError] = CertsmoothError) -> None:
    """Write JSON that holds its own checksum, atomically.

    Args:
        path: the file; its folder must exist.
        content: what can be JSON, without the key ``sha256``.
        error: the class of the error raised.

    Raises:
        CertsmoothError: the file cannot be written, or the content is no JSON; names ``path``.
    """
    try:
        digest = hashlib.sha256(canonical_json(content)).hexdigest()
        text = json.dumps({"sha256": digest, **content}, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as cause:
        raise error(f"{path}: cannot be JSON: {cause}; must be plain, finite values") from cause
    with atomic_write(path, error=error) as file:
        file.write(text.encode())


def read_json(path: Path, *, remedy: str, error: type[CertsmoothError] = CertsmoothError) -> dict[str, Any]:
    """Read what `write_json` wrote, and check that it is that.

    Args:
        path: the file.
        remedy: what to do about a damaged file, for the message.
        error: the class of the error raised.

    Returns:
        The content, without the checksum.

    Raises:
        CertsmoothError: missing, no JSON, or altered; names ``path``, and says what to do.
    """
    try:
        content: dict[str, Any] = json.loads(Path(path).read_bytes())
        stored, found = content.pop("sha256"), hashlib.sha256(canonical_json(content)).hexdigest()
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror or cause}; {remedy}") from cause
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise error(f"{path}: damaged, or not such a file ({cause!r}); {remedy}") from cause
    if stored != found:
        raise error(f"{path}: its content does not match its checksum; {remedy}")
    return content


def canonical_json(content: object) -> bytes:
    """Return the bytes that a checksum of JSON is of: the same for what was written and for what is read.

    Raises:
        TypeError: the content is no JSON.
        ValueError: it holds a number that is not finite.
    """
    # Through JSON: keys that are no strings are sorted otherwise.
    plain = json.loads(json.dumps(content, allow_nan=False))
    return json.dumps(plain, sort_keys=True, allow_nan=False).encode()


def file_digest(path: Path, *, error: type[CertsmoothError] = CertsmoothError) -> str:
    """Return the SHA-256 of a file, ``sha256:`` and 64 hexadecimal digits: how artefacts refer to it.

    Args:
        path: the file.
        error: the class of the error raised.

    Raises:
        CertsmoothError: the file cannot be read; names ``path``.
    """
    try:
        with Path(path).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror or cause}") from cause


def decode_record(record: type[T], text: str, *, source: str, error: type[CertsmoothError]) -> T:
    """Return the dataclass of which ``text`` is the JSON, with every field of its declared type.

    A dataclass refuses unknown fields and silent conversions if its ``__pydantic_config__`` says so.

    Args:
        record: the dataclass.
        text: its fields as JSON.
        source: where the text comes from, for messages.
        error: the class of the error raised.

    Raises:
        CertsmoothError: a field is missing, unknown, of the wrong type or not valid; names it and ``source``.
    """
    try:
        checked: T = _adapter(cast(Any, record)).validate_json(text)
    except ValidationError as cause:
        problems = []
        for problem in cause.errors():
            field = ".".join(str(part) for part in problem["loc"]) or record.__name__
            problems.append(f"{field}: {problem['msg']}; found {problem['input']!r}")
        raise error(f"{source}: {'; '.join(problems)}") from cause
    return checked


@cache
def _adapter(record: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(record)
