"""Hooks of the site: pages of files that lie beside docs, and of the package; and links to files that are no pages."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "certsmooth"
BESIDE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the repository that are pages of the site."""

SECTIONS = {
    "sigma": "Sigma policies",
    "certificates": "Certificates",
    "stopping": "Stopping rules",
    "training": "Training",
    "objectives": "Objectives",
    "attacks": "Attacks",
    "artefacts": "Checkpoints",
    "errors": "Errors",
}
"""Where a public name is defined -> its section in the reference; the others come first."""

THEORY = """# Theorems and proofs

Each theorem stands with its proof, or its citation, where it is computed, and with what rounding costs it. This page
is made of the docstrings.
"""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files beside docs, and the pages of the package."""
    pages = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in BESIDE.items()}
    pages |= {"api.md": "\n".join(_reference()), "theory.md": "\n".join([THEORY, *_theory()])}
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def _reference() -> Iterator[str]:
    """Yield the lines of the page of all public names, as the package's stub lists them."""
    sections = defaultdict(list)
    for line in ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body:
        assert isinstance(line, ast.ImportFrom) and line.module is not None
        (section,) = {each for each in line.module.split(".") if each in SECTIONS} or {""}
        sections[section] += [f"{line.module}.{each.name}" for each in line.names]
    yield "# Python\n\nAll of `dir(certsmooth)`; [In Python](python.md) has examples.\n"
    for section, title in {"": "Smoothing and certifying", **SECTIONS}.items():
        yield f"## {title}\n"
        yield from (f"::: {name}\n    options: {{heading_level: 3}}\n" for name in sections[section])


def _theory() -> Iterator[str]:
    modules = sorted(path.stem for path in (PACKAGE / "science" / "theory").glob("[!_]*.py"))
    return (f"::: certsmooth.science.theory.{name}\n" for name in modules)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages; what is no page of the site is named, as a file of the repository."""
    beside = page.file.src_uri in BESIDE.values()
    folder = ROOT if beside else (ROOT / "docs" / page.file.src_uri).parent

    def linked(found: re.Match[str]) -> str:
        image, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        if "://" in target:
            return found[0]
        name = (folder / target).resolve().relative_to(ROOT).as_posix()
        uri = BESIDE.get(name, name.removeprefix("docs/"))
        if files.get_file_from_path(uri) is None:
            return text if text.strip("`") == name else f"{text} (`{name}`)"
        return f"{image}[{text}]({'../' * page.file.src_uri.count('/')}{uri}{anchor})"

    return _LINK.sub(linked, markdown)
