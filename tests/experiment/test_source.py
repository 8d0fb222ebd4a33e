import pytest

from certsmooth._internal.registry import names
from certsmooth.experiment import code_hash


def forget():
    code_hash._module.cache_clear()
    code_hash.source_digest.cache_clear()


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
    monkeypatch.setattr(code_hash, "_ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def digest_after(package, name, added="x = 2"):
    before = code_hash.source_digest("a")
    (package / name).write_text((package / name).read_text() + f"{added}\n")
    forget()
    return before, code_hash.source_digest("a")


@pytest.mark.parametrize("name", ["a.py", "b.py", "members/c.py", "members/__init__.py", "e.py"])
def test_a_change_of_what_is_imported_changes_the_digest(package, name):
    before, after = digest_after(package, name)
    assert before != after


def test_a_change_of_anything_else_does_not(package):
    before, after = digest_after(package, "d.py")
    assert before == after


@pytest.mark.parametrize("added", ["# changed", "\n\n", '"""Changed."""'])
def test_comments_docstrings_and_blank_lines_are_no_code(package, added):
    before, after = digest_after(package, "b.py", added)
    assert before == after


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("class C:\n    '''One.'''\n    x = 1  # one", "class C:\n    '''Two\n    lines.'''\n\n    x = 1", True),
        ("x = 1\n'''What x is.'''", "x = 1\n'''What it is.'''", True),
        ("x = '# a'", "x = '# b'", False),
        ("x = '''\n# a\n'''", "x = '''\n# b\n'''", False),
        ("f('a')", "f('b')", False),
        ("x = f'{1}# a'", "x = f'{1}# b'", False),
        ("if y:\n    z = 1", "if y:\n    pass\nz = 1", False),
        ("def f(): 'a'; return 1", "def f(): 'a'; return 2", False),
        ("é = 'ü'  # é\nx = 1", "é = 'ü'  # e\nx = 1", True),
        ("é = 'ü'  # é\nx = 1", "é = 'ü'  # é\nx = 2", False),
    ],
)
def test_what_is_code(package, first, second, same):
    found = []
    for text in (first, second):
        (package / "b.py").write_text(text + "\n", encoding="utf-8")
        forget()
        found.append(code_hash.source_digest("a"))
    assert (found[0] == found[1]) == same


def test_certificates_do_not_depend_on_training_or_sampling():
    forget()
    names = {path.name for path in code_hash._closure("experiment.steps.certify", "science.certificates.cohen")}
    assert {"bounds.py", "cohen.py", "memory.py", "counts.py"} <= names
    assert not {"sampler.py", "loop.py", "config.py", "cli.py"} & names


@pytest.mark.parametrize(
    "step",
    ["data", "train", "label", "sample", "certify", "attack", "order_cost", "break_certificates"],
)
def test_what_a_step_makes_does_not_depend_on_what_reads_params(step):
    """A new kind of table, or a new check, is no reason to train again."""
    forget()
    names = {path.name for path in code_hash._closure(f"experiment.steps.{step}")}
    assert {f"{step}.py", "specs.py"} <= names
    assert not {"config.py", "like.py", "strict_yaml.py", "runs.py", "resolve.py", "members.py", "cli.py"} & names


def test_what_a_module_depends_on(package):
    assert code_hash.depends_on("a", "members.c")
    assert code_hash.depends_on("a", "e")
    assert not code_hash.depends_on("a", "d")


def test_objectives_that_attack_are_known_by_their_imports():
    forget()
    found = {
        name
        for name in names("objectives")
        if code_hash.depends_on(f"science.objectives.{name}", "science.objectives._attacks")
    }
    assert found == {"adre", "smoothadv", "smoothmix"}


@pytest.mark.parametrize("name", ["published.csv", "members/templates/table.md.j2"])
def test_a_change_of_what_a_module_reads_changes_the_digest(package, name):
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text("1")
    whole, (before, after) = code_hash.package_digest(), digest_after(package, name)
    assert before != after
    assert code_hash.package_digest() != whole


def test_a_template_is_of_the_tables_and_of_nothing_that_is_certified():
    forget()
    found = {
        module: code_hash._with_data(code_hash._closure(f"experiment.steps.{module}")) for module in ("table", "sample")
    }
    names = {module: {path.name for path in paths} for module, paths in found.items()}
    assert {"published.csv", "certified.md.j2", "_provenance.md.j2"} <= names["table"]
    assert not {"certified.md.j2", "_provenance.md.j2"} & names["sample"]


@pytest.mark.parametrize("name", ["d.py", "members/c.py"])
def test_the_digest_of_the_package_is_about_every_module(package, name):
    before = code_hash.package_digest()
    assert code_hash.package_digest() == before
    (package / name).write_text("# changed\n")
    assert code_hash.package_digest() != before
