"""Errors that name the key or file, the value found, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CertsmoothError(ValueError):
    """Base of every error that a user can cause and mend; the command line prints it without a traceback."""


class ConfigError(CertsmoothError):
    """A key or value of params.yaml, or an argument of a public function, is not valid."""


class DataError(CertsmoothError):
    """A data set is missing, truncated, out of range, or not the one that was asked for."""


class ModelError(CertsmoothError):
    """A base classifier returned something that is not one finite score per class and image."""


class CheckpointError(CertsmoothError):
    """A checkpoint is corrupt, foreign, or made for something else."""


class CountsError(CertsmoothError):
    """A counts or certificates file is corrupt, or belongs to another data set, model or setting."""


class MissingLibraryError(CertsmoothError, ImportError):
    """A library is not installed that an extra of the package brings; the message has the command that installs it."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint that lists the valid names and, where one is close, the one probably meant.

    Args:
        name: what was given.
        valid: the names that would be right.
    """
    choices = sorted(valid)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(choices) or '(none)'}"
