"""Writing files so that each is either the old one or the complete new one; reading records strictly."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
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
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with os.fdopen(locked(temporary), "wb") as file:
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
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = locked(lock, wait=False)
    except BlockingIOError as cause:
        raise error(f"{path}: another run is writing it; wait for it or stop it") from cause
    except OSError as cause:
        raise error(f"{path}: cannot be written: {cause.strerror or cause}") from cause
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def locked(path: Path, *, wait: bool = True) -> int:
    """Return the descriptor of a file, old or new, that nobody else has locked; it is the lock, which closing it frees.

    The file may be renamed or removed while it is locked, and the folder be whatever the kernel takes it for: that is
    why these are not the locks of the package filelock, which looks for the folder by itself.

    Raises:
        BlockingIOError: somebody has locked it, and we do not wait.
    """
    while True:
        # Not tempfile: the file gets the permissions that any new file of this user gets.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever had it locked has renamed or removed it


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
    """Return the dataclass of which ``text`` is the JSON: its fields and no others, each of its declared type.

    Args:
        record: the dataclass.
        text: its fields as JSON.
        source: where the text comes from, for messages.
        error: the class of the error raised.

    Raises:
        CertsmoothError: a field is missing, unknown, of the wrong type or not valid; names it and ``source``.
    """
    try:
        checked: T = _adapter(cast(Any, record)).validate_json(text, strict=True, extra="forbid")
    except ValidationError as cause:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or record.__name__}: {problem['msg']}; found {problem['input']!r}"
            for problem in cause.errors()
        ]
        raise error(f"{source}: {'; '.join(problems)}") from cause
    return checked


@cache
def _adapter(record: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(record)
