"""The rooms of the package: an import goes down only, none goes round in a circle, and a function fits on a screen."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from factories import ROOT

PACKAGE = ROOT / "src" / "certsmooth"
ROOMS = ("_internal", "science", "artefacts", "analysis", "report", "experiment")
"""From the lowest to the highest; errors may be used by all."""

MOST_ENTRIES = 12
MOST_LINES = 50

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(name: str, *, at_once: bool = False) -> set[str]:
    """Return the modules of the package that a module imports.

    Args:
        name: of the module.
        at_once: only what is imported when the module is, not what functions or types need.
    """
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found = set()
    for node in _executed(tree) if at_once else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "certsmooth":
            base = ".".join((node.module or "").split(".")[1:])
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                found.add(full if full in MODULES else base)
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.split(".")[0] == "certsmooth"}
    return found & MODULES.keys()


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when a module is imported."""
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
        if not for_types and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _executed(child)


def room(name: str) -> str:
    return name.split(".")[0]


def height(name: str) -> int:
    return ROOMS.index(room(name))


def test_every_module_is_in_a_room():
    assert {room(name) for name in MODULES} - set(ROOMS) == {"__init__", "__main__", "errors"}


def test_an_import_goes_down_only():
    """So `_internal` uses nothing of the others."""
    upward = {
        (name, other)
        for name in MODULES
        if room(name) in ROOMS
        for other in imports(name)
        if room(other) in ROOMS and height(other) > height(name)
    }
    assert upward == set()


def test_errors_import_nothing():
    assert not imports("errors")


def test_no_module_imports_itself_through_others():
    """A circle of modules that import each other when they are imported."""
    graph = {name: imports(name, at_once=True) - {name} for name in MODULES}
    assert {frozenset(circle) for circle in _circles(graph)} == set()


def _circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that reach each other."""
    reached: dict[str, set[str]] = {}
    for name in graph:
        seen, todo = set(), list(graph[name])
        while todo:
            other = todo.pop()
            if other not in seen:
                seen.add(other)
                todo.extend(graph[other])
        reached[name] = seen
    found: list[set[str]] = []
    for name, others in reached.items():
        if name in others and not any(name in circle for circle in found):
            found.append({other for other in others if name in reached[other]})
    return found


def test_a_circle_is_found():
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert _circles({"a": {"b"}, "b": set()}) == []


@pytest.mark.parametrize("folder", [PACKAGE, *(PACKAGE / each for each in ("_internal", "artefacts", "report"))])
def test_a_folder_is_taken_in_at_a_glance(folder):
    entries = [path.name for path in folder.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= (MOST_ENTRIES if folder == PACKAGE else 2 * MOST_ENTRIES), sorted(entries)


def test_a_function_fits_on_a_screen():
    """Its code, without the docstring, which may be as long as a theorem needs."""
    long = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first, last = node.lineno, node.end_lineno or node.lineno
                documented = ast.get_docstring(node) is not None and len(node.body) > 1
                doc = (node.body[0].end_lineno or 0) - node.body[0].lineno + 1 if documented else 0
                if last - first + 1 - doc > MOST_LINES:
                    long.add(f"{name}.{node.name}")
    assert long == set()


def test_science_holds_no_files():
    """Tensors and arrays in, tensors and arrays out; data sets are read from files, that is their task."""
    readers = set()
    for name in MODULES:
        if room(name) == "science" and not name.startswith("science.datasets"):
            tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
            names = {
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom | ast.Import)
                for alias in node.names
            }
            called = {
                node.func.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            if "Path" in names or "open" in called or names & {"atomic_write", "exclusive", "locked"}:
                readers.add(name)
    assert readers == set()
