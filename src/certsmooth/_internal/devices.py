"""Which GPUs this process may use, and a lease on one of them, so that jobs on one machine do not share a device.

Imports no torch: the workflow asks how many GPUs there are, and a lease must be taken before CUDA is initialised.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from certsmooth._internal.storage import locked
from certsmooth.errors import CertsmoothError

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The environment variable that says which GPUs a process sees, and in which order."""

_FULL = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|MIG-[0-9A-Za-z/-]+")
_ENTRY = re.compile(r"[0-9]+|(GPU|MIG)-[0-9A-Za-z/-]+")
_QUERY = ("--query-gpu=index,uuid", "--format=csv,noheader")
_TIMEOUT = 120  # seconds; loading the driver for the first time may take many
_POLL = 0.5  # seconds


def local_gpus() -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that this process sees, in its order; () where there are none.

    They are those of CUDA_VISIBLE_DEVICES, or all if that is not set. As in CUDA, its numbers are positions (in the
    order of nvidia-smi: CUDA's own with CUDA_DEVICE_ORDER=PCI_BUS_ID, or where all GPUs are alike), UUIDs may be cut
    short, and what follows the first unknown entry does not count. Full UUIDs, of GPUs or of MIG instances, are taken
    as they are; then nvidia-smi, which may take seconds, is not asked. Without nvidia-smi there are no GPUs; one that
    fails is reported on the standard error stream.
    """
    visible = os.environ.get(VISIBLE)
    entries = None if visible is None else _entries(visible)
    if entries is not None and all(_FULL.fullmatch(entry) for entry in entries):
        return tuple(entries)
    present = _present()
    if entries is None:
        return tuple(present.values())
    found: list[str] = []
    for entry in entries:
        matching = [entry] if _FULL.fullmatch(entry) else _matching(entry, present)
        if len(matching) != 1:
            break
        found += matching
    return tuple(found)


def _entries(visible: str) -> list[str]:
    """Return the entries of CUDA_VISIBLE_DEVICES up to the first that is no device."""
    return list(takewhile(_ENTRY.fullmatch, (part.strip() for part in visible.split(","))))


def _matching(entry: str, present: dict[str, str]) -> list[str]:
    if entry.isdecimal():
        return [uuid for index, uuid in present.items() if int(index) == int(entry)]
    return [uuid for uuid in present.values() if uuid.startswith(entry)]


def _present() -> dict[str, str]:
    """Return the UUID of each GPU of the machine by its number, as nvidia-smi gives them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    try:
        result = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _failed(str(error))
    if result.returncode != 0:
        return _failed(f"exit status {result.returncode}: {(result.stdout + result.stderr).strip()}")
    rows = [[part.strip() for part in line.split(",")] for line in result.stdout.splitlines() if line.strip()]
    if any(len(row) != 2 or not row[0].isdecimal() or not _FULL.fullmatch(row[1]) for row in rows):
        return _failed(f"not numbers and UUIDs: {result.stdout.strip()}")
    return dict(rows)


def _failed(reason: str) -> dict[str, str]:
    print(f"certsmooth: warning: nvidia-smi: {reason}; going on as without GPUs", file=sys.stderr)
    return {}


@contextmanager
def leased_gpu() -> Iterator[str | None]:
    """Let this process see one GPU of `local_gpus` that no other process of this user has leased.

    Sets CUDA_VISIBLE_DEVICES to it for the block: enter it before CUDA is initialised. A lease is an exclusive lock on
    a file, which the system frees when the process ends, however it ends. If no GPU is free, it waits, and says so on
    the standard error stream. Processes exclude each other if they have the same folder for temporary files; other
    users, and programs that take no lease, are not seen.

    Yields:
        The UUID; None where there are no GPUs, and nothing is changed.

    Raises:
        CertsmoothError: the folder of the locks is not this user's alone.
    """
    gpus = local_gpus()
    if not gpus:
        yield None
        return
    lock, uuid = _wait_for_one(gpus)
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = uuid
    try:
        yield uuid
    finally:
        os.environ.pop(VISIBLE)
        if before is not None:
            os.environ[VISIBLE] = before
        os.close(lock)


def _wait_for_one(gpus: Sequence[str]) -> tuple[int, str]:
    """Return the file descriptor that holds the lock, and the GPU."""
    folder, is_told = _lock_folder(), False
    while True:
        for uuid in gpus:
            path = folder / f"{uuid.replace('/', '_')}.lock"
            try:
                return locked(path, wait=False), uuid
            except BlockingIOError:
                continue
            except OSError as error:
                raise CertsmoothError(f"{path}: cannot be opened: {error.strerror}") from error
        if not is_told:
            print(f"certsmooth: waiting for a GPU: all {len(gpus)} are in use", file=sys.stderr, flush=True)
        is_told = True
        time.sleep(_POLL)


def _lock_folder() -> Path:
    """Return this user's folder of locks, which nobody else can write to or have put there."""
    path = Path(tempfile.gettempdir(), f"certsmooth-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise CertsmoothError(f"{path}: cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise CertsmoothError(f"{path}: must be a folder of this user alone (mode 700); remove it")
    return path
