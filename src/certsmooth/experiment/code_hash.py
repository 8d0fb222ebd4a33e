"""A hash of the code that a step depends on, so that the workflow reruns a step when its code changes.

Comments, docstrings and blank lines are no code.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path

from certsmooth._internal.external import Architecture, ExternalArchitecture, code_of

_ROOT = Path(__file__).resolve().parents[1]
_STRING_OR_COMMENT = re.compile(
    r"""(?P<string>
      \"{3} (?:[^"\\]|\\.|"(?!""))* \"{3} | " (?:[^"\\]|\\.)* "
    | '{3} (?:[^'\\]|\\.|'(?!''))* '{3} | ' (?:[^'\\]|\\.)* '
    ) | \#[^\n]*""",
    re.DOTALL | re.VERBOSE,
)


@cache
def source_digest(*modules: str | ExternalArchitecture) -> str:
    """Return a hash of the modules, of all of this package that they import, directly or not, and of what these read.

    Of an architecture of another program: of the file of the imported module, not of what that imports; or of the
    version of the library.

    Members of families are imported by name at run time: give those that the step uses.

    Args:
        modules: module names without the package's, for example ``"science.training"``; and architectures, as
            `architecture_code` returns them.

    Raises:
        ConfigError: an architecture's module is not there.
    """
    files = _with_data(_closure(*(each for each in modules if isinstance(each, str))))
    digest = _digest(files, lambda path: _module(path)[0] if path.suffix == ".py" else path.read_bytes())
    external = sorted({_external(each) for each in modules if not isinstance(each, str)})
    return hashlib.sha256("\0".join([digest, *external]).encode()).hexdigest()[:16] if external else digest


def architecture_code(architecture: Architecture) -> str | ExternalArchitecture:
    """Return what `source_digest` takes for an architecture."""
    return f"science.models.{architecture}" if isinstance(architecture, str) else architecture


def _external(architecture: ExternalArchitecture) -> str:
    code = code_of(architecture)
    return code if isinstance(code, str) else f"{architecture.module} {_module(code)[0].hex()}"


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


@cache
def _module(path: Path) -> tuple[bytes, tuple[Path, ...]]:
    """Return a hash of the code of a module, and the files of this package that it imports."""
    text = path.read_text(encoding="utf-8")
    statements = list(_statements(ast.parse(text)))
    imports = tuple(_path(parts) for statement in statements for parts in _imported(statement))
    return hashlib.sha256(_code(text, statements)).digest(), imports


def _statements(block: ast.AST) -> Iterator[ast.stmt]:
    """Yield all statements of a block, but not what is imported for the types alone: it changes no result."""
    parts = [getattr(block, name, ()) for name in ("body", "orelse", "handlers", "finalbody", "cases")]
    for child in chain.from_iterable(parts):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            if isinstance(child, ast.stmt):
                yield child
            yield from _statements(child)


def _code(text: str, statements: Iterable[ast.stmt]) -> bytes:
    """Return the lines of a module without comments and strings that stand alone, which are docstrings.

    The text, not the syntax tree: that differs between versions of Python.
    """
    lines = _STRING_OR_COMMENT.sub(lambda found: found["string"] or "", text).splitlines()
    for node in statements:
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
            todo.extend(_module(path)[1])
    return seen


def _imported(node: ast.stmt) -> Iterator[tuple[str, ...]]:
    """Yield the modules of this package that a statement imports, as parts of their names."""
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "certsmooth":
        base = tuple(node.module.split(".")[1:])
        yield base
        yield from ((*base, alias.name) for alias in node.names if _path((*base, alias.name)).is_file())
    elif isinstance(node, ast.Import):
        for package, *parts in (alias.name.split(".") for alias in node.names):
            if package == "certsmooth":
                yield tuple(parts)


def _path(parts: tuple[str, ...]) -> Path:
    path = _ROOT.joinpath(*parts)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def package_digest() -> str:
    """Return a hash of all of this package: equal for two installations of the same code."""
    return _digest(_with_data(_ROOT.rglob("*.py")), Path.read_bytes)
