import pytest

from certsmooth import source
from certsmooth.registry import names


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package: a imports b and, inside a function, members/c; d is imported by nobody, but for its types."""
    (tmp_path / "members").mkdir()
    files = {
        "a.py": "from certsmooth.b import f\ndef g():\n    from certsmooth.members import c\n",
        "b.py": "import numpy\nif TYPE_CHECKING:\n    from certsmooth.d import T\n",
        "d.py": "from certsmooth import a\n",
        "members/__init__.py": "",
        "members/c.py": "import certsmooth.e\n",
        "e.py": "x = 1\n",
        "__init__.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(source, "_ROOT", tmp_path)
    source._imports.cache_clear()
    yield tmp_path
    source._imports.cache_clear()


def digest_after(package, name):
    before = source.source_digest("a")
    (package / name).write_text((package / name).read_text() + "# changed\n")
    source._imports.cache_clear()
    return before, source.source_digest("a")


@pytest.mark.parametrize("name", ["a.py", "b.py", "members/c.py", "members/__init__.py", "e.py"])
def test_a_change_of_what_is_imported_changes_the_digest(package, name):
    before, after = digest_after(package, name)
    assert before != after


def test_a_change_of_anything_else_does_not(package):
    before, after = digest_after(package, "d.py")
    assert before == after


def test_certificates_do_not_depend_on_training_or_sampling():
    source._imports.cache_clear()
    names = {path.name for path in source._closure("steps.certify", "certificates.cohen")}
    assert {"bounds.py", "cohen.py", "memory.py", "counts_files.py"} <= names
    assert not {"sampling.py", "loop.py", "config.py", "cli.py"} & names


def test_what_a_module_depends_on(package):
    assert source.depends_on("a", "members.c")
    assert source.depends_on("a", "e")
    assert not source.depends_on("a", "d")


def test_objectives_that_attack_are_known_by_their_imports():
    source._imports.cache_clear()
    found = {name for name in names("objectives") if source.depends_on(f"objectives.{name}", "objectives._attacks")}
    assert found == {"adre", "smoothadv"}


@pytest.mark.parametrize("name", ["d.py", "members/c.py"])
def test_the_digest_of_the_package_is_about_every_module(package, name):
    before = source.package_digest()
    assert source.package_digest() == before
    (package / name).write_text("# changed\n")
    assert source.package_digest() != before
