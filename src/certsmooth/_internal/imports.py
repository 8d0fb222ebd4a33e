"""Imports modules that a user may have written, and says in one line where such a module fails."""

from __future__ import annotations

import importlib
import traceback
from types import ModuleType

from certsmooth.errors import ConfigError, MissingLibraryError


def import_code(name: str, key: str) -> ModuleType:
    """Import a module.

    Args:
        name: its full name.
        key: what asks for it, for the message.

    Raises:
        ConfigError: it cannot be imported; the message has the file and the line.
        MissingLibraryError: it lacks a library that an extra of the package brings.
    """
    try:
        return importlib.import_module(name)
    except (ConfigError, MissingLibraryError):
        raise
    except Exception as error:
        raise ConfigError(f"{key} cannot be imported: {failure(error)}") from error


def failure(error: Exception) -> str:
    """Return what went wrong and where: the line of a syntax error, or the one that raised the error."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    of_python = __file__, importlib.__file__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename not in of_python and not frame.filename.startswith("<frozen"):
            return f"{frame.filename}, line {frame.lineno}: {error!r}"
    return repr(error)
