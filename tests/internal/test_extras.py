"""A library user certifies with few libraries; any other is of an extra, which is named where it is missing."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib

import pytest

from certsmooth._internal.extras import EXTRAS, optional_libraries
from certsmooth.errors import MissingLibraryError
from factories import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def distributions(requirements):
    return {re.split(r"[^\w-]", each)[0].lower() for each in requirements}


CORE = distributions(PROJECT["dependencies"])
BROUGHT = {extra: distributions(each) for extra, each in PROJECT["optional-dependencies"].items()}
OF_OTHERS = {"markupsafe", "pydantic_core"}
"""They come with jinja2 and pydantic."""

PROVIDES = importlib.metadata.packages_distributions()


def imported():
    """Libraries that the package imports anywhere."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]


def test_every_library_that_is_imported_is_required_or_of_the_extra_that_is_named():
    found = set(imported()) - sys.stdlib_module_names - {"certsmooth"}
    names = {library: {each.lower() for each in PROVIDES.get(library, [library])} for library in found}
    brought = {library: {extra for extra, has in BROUGHT.items() if has & names[library]} for library in found}
    needed = {library for library in found if not names[library] & CORE} - OF_OTHERS
    assert {library for library in needed if EXTRAS.get(library) not in brought[library]} == set()


def test_the_extra_of_the_workflow_brings_what_jobs_need():
    assert "certsmooth[attacks,data,tables]" in PROJECT["optional-dependencies"]["workflow"]
    assert set(EXTRAS.values()) <= BROUGHT.keys()


def test_a_library_of_no_extra_that_is_missing_stays_a_missing_module():
    with pytest.raises(ModuleNotFoundError, match="nowhere"), optional_libraries():
        import nowhere  # noqa: F401
    with pytest.raises(MissingLibraryError, match=r"^matplotlib is not .*\[tables\]"), optional_libraries():
        raise ModuleNotFoundError(name="matplotlib.figure")


@pytest.mark.slow
def test_without_any_extra_it_certifies_and_says_what_it_lacks(tmp_path):
    """Python imports this file before all else; torch needs jinja2."""
    hidden = sorted(EXTRAS.keys() - {"jinja2"})
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({hidden}))\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tests" / "bare.py"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "certifies, and says what needs an extra" in done.stdout
