"""Libraries that only some need: which extra of the package brings each, and what is said where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from certsmooth.errors import MissingLibraryError

EXTRAS = {
    "foolbox": "attacks",
    "PIL": "data",
    "pyarrow": "data",
    "sklearn": "data",
    "torchvision": "data",
    "jinja2": "tables",
    "matplotlib": "tables",
    "statsmodels": "tables",
    "tabulate": "tables",
    "dvc": "workflow",
    "markdown_it": "workflow",
    "snakemake": "workflow",
    "vl_convert": "workflow",
    "timm": "timm",
}
"""Library -> the extra in pyproject.toml that brings it."""


@contextmanager
def optional_libraries() -> Iterator[None]:
    """Let the imports in a ``with`` say which extra brings what they lack.

    Raises:
        MissingLibraryError: a library of `EXTRAS` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        raise MissingLibraryError(
            f'{library} is not installed, and this needs it: pip install "certsmooth[{EXTRAS[library]}]"'
        ) from None
