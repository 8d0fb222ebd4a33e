from __future__ import annotations

import sys

import pytest

from certsmooth._internal.lazy import load_when_used


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A package that notes when it is loaded."""
    (tmp_path / "some_library").mkdir()
    (tmp_path / "some_library" / "__init__.py").write_text("import sys\nsys.loaded_libraries.append(__name__)\nx = 1\n")
    (tmp_path / "some_library" / "part.py").write_text("from some_library import x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "loaded_libraries", [], raising=False)
    load_when_used("some_library")
    yield sys.loaded_libraries
    for name in ("some_library", "some_library.part"):
        sys.modules.pop(name, None)


def test_an_import_loads_nothing(library):
    for _ in range(2):
        exec("import some_library")
    assert library == []


@pytest.mark.parametrize(
    "use", ["import some_library\nsome_library.x", "from some_library import x", "import some_library.part"]
)
def test_the_first_use_loads_it_once(library, use):
    exec(f"import some_library as before\n{use}\nimport some_library\nassert before.x == some_library.x == 1", {})
    assert library == ["some_library"]


def test_what_is_loaded_stays():
    load_when_used("pytest")
    assert sys.modules["pytest"] is pytest
