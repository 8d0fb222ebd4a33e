"""A module that a user wrote and that does not import: the message has its file and line, in one line."""

import pytest

from certsmooth._internal.imports import import_code
from certsmooth._internal.registry import literal
from certsmooth.errors import ConfigError, MissingLibraryError


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\ny = (\n", r"\S*/written\.py, line 2: '\(' was never closed"),
        ("x = 1\n\ny = 1 / 0\n", r"\S*/written\.py, line 3: ZeroDivisionError\('division by zero'\)"),
        ("import no_such_thing\n", r"\S*/written\.py, line 1: ModuleNotFoundError\(.*no_such_thing.*\)"),
        ("def f():\n    raise KeyError('k')\n\nf()\n", r"\S*/written\.py, line 2: KeyError\('k'\)"),
    ],
)
def test_the_line_that_fails_is_named(code, said, tmp_path, monkeypatch):
    (tmp_path / "written.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=rf"^sigma: 'written' cannot be imported: {said}$"):
        import_code("written", "sigma: 'written'")


def test_a_module_that_is_not_there_has_no_line():
    with pytest.raises(ConfigError, match=r"imported: ModuleNotFoundError.*not_there"):
        import_code("not_there", "sigma")


@pytest.mark.parametrize("error", [ConfigError, MissingLibraryError])
def test_an_error_of_ours_stays(error, tmp_path, monkeypatch):
    (tmp_path / "ours.py").write_text(
        f"from certsmooth.errors import {error.__name__}\nraise {error.__name__}('as said')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match=r"^as said$"):
        import_code("ours", "sigma")


def test_a_file_that_is_read_for_a_label_and_does_not_parse_is_named(tmp_path, monkeypatch):
    (tmp_path / "sigma").mkdir()
    (tmp_path / "sigma" / "broken.py").write_text("class Broken:\n    label: = 'S'\n")
    monkeypatch.setattr("certsmooth._internal.registry._FOLDER", tmp_path)
    monkeypatch.setattr("certsmooth._internal.registry.names", lambda family: ("broken",))
    with pytest.raises(ConfigError, match=r"^sigma: 'broken' cannot be imported: \S*/broken\.py, line 2: invalid"):
        literal("sigma", "broken", "label")
