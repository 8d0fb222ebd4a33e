"""A hash of the code that a step depends on, so that the workflow reruns a step when its code changes.

Comments, docstrings and blank lines are no code.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


@cache
def source_digest(*modules: str) -> str:
    """Return a hash of the modules, of all of this package that they import, directly or not, and of what these read.

    Members of families are imported by name at run time: give those that the step uses.

    Args:
        modules: module names without the package's, for example ``"science.training"``.
    """
    files = _with_data(_closure(*modules))
    return _digest(files, lambda path: _module(path).code if path.suffix == ".py" else path.read_bytes())


def depends_on(module: str, other: str) -> bool:
    """Return whether a module imports another one of this package, directly or not; names as in `source_digest`."""
    return _path(tuple(other.split("."))) in _closure(module)


def _digest(paths: Iterable[Path], content: Callable[[Path], bytes]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + content(path) + b"\0")
    return digest.hexdigest()[:16]


def _with_data(modules: Iterable[Path]) -> set[Path]:
    """Return modules and what they may read: published numbers and templates in their folders."""
    found = set(modules)
    folders, patterns = {path.parent for path in found}, ("*.csv", "templates/*.j2")
    return found | {each for folder in folders for pattern in patterns for each in folder.glob(pattern)}


@dataclass(frozen=True)
class _Module:
    """A module.

    Attributes:
        code: a hash of its code.
        imports: files of this package that it imports.
    """

    code: bytes
    imports: tuple[Path, ...]


@cache
def _module(path: Path) -> _Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imports = tuple(_path(parts) for node in _executed(tree) for parts in _names(node))
    return _Module(hashlib.sha256(_code(text, tree)).digest(), imports)


def _code(text: str, tree: ast.Module) -> bytes:
    """Return the lines of a module without comments and strings that stand alone, which are docstrings.

    The text, not the syntax tree: that differs between versions of Python.
    """
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text if "#" in text else "").readline):  # it is slow
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
            before, after = lines[first].encode()[: node.col_offset], lines[last].encode()[node.end_col_offset :]
            if not before.strip() and not after.strip():
                lines[first : last + 1] = [""] * (last + 1 - first)
    return "\n".join(line.rstrip() for line in lines if line.strip()).encode()


def _closure(*modules: str) -> set[Path]:
    """Return the files of the modules and of all that they import."""
    seen: set[Path] = set()
    todo = [_path(tuple(module.split("."))) for module in modules]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo.extend(_module(path).imports)
    return seen


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all below it, but not what is imported for the types alone: it changes no result."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield from _executed(child)


def _names(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield the modules of this package that a node imports, as parts of their names."""
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "certsmooth":
        base = tuple(node.module.split(".")[1:])
        yield base
        for alias in node.names:
            if _exists((*base, alias.name)):
                yield (*base, alias.name)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == "certsmooth":
                yield tuple(alias.name.split(".")[1:])


def _exists(parts: tuple[str, ...]) -> bool:
    path = _ROOT.joinpath(*parts)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _path(parts: tuple[str, ...]) -> Path:
    path = _ROOT.joinpath(*parts)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def package_digest() -> str:
    """Return a hash of all of this package: equal for two installations of the same code."""
    return _digest(_with_data(_ROOT.rglob("*.py")), Path.read_bytes)
