"""docs/ as a site: what is a page of it, and where its links lead."""

from __future__ import annotations

import importlib.util
import re
from types import SimpleNamespace

import pytest
import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config

import certsmooth
from factories import ROOT

SPEC = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site.py")
hooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hooks)


def pages(nav):
    """The files that a navigation names."""
    for entry in nav:
        for value in entry.values():
            yield from pages(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    ours = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(pages(nav)) == sorted(ours | {*hooks.BESIDE.values(), "api.md", "theory.md"})


def test_the_reference_lists_all_that_is_public():
    listed = re.findall(r"^::: \S+\.(\w+)$", "\n".join(hooks._reference()), re.MULTILINE)
    assert sorted(listed) == sorted(name for name in dir(certsmooth) if not name.startswith("_"))


@pytest.mark.parametrize(
    ("page", "link", "right"),
    [
        ("index.md", "[how](docs/dual.md#a)", "[how](dual.md#a)"),
        ("index.md", "![curve](docs/results/digits/figures/table1.svg)", "![curve](results/digits/figures/table1.svg)"),
        ("dual.md", "[network](networks.md)", "[network](networks.md)"),
        ("dual.md", "[so](../CHANGELOG.md)", "[so](changelog.md)"),
        ("dual.md", "[the bound](../src/a.py)", "the bound (`src/a.py`)"),
        ("dual.md", "[`src/a.py`](../src/a.py)", "`src/a.py`"),
        ("results/cifar10-small/cifar10.md", "[so](../../dual.md)", "[so](../../dual.md)"),
        ("dual.md", "[there](https://example.org/a.md)", "[there](https://example.org/a.md)"),
    ],
)
def test_links_lead_to_pages_and_other_files_are_named(page, link, right):
    known = {"dual.md", "networks.md", "changelog.md", "results/digits/figures/table1.svg"}
    files = SimpleNamespace(get_file_from_path=lambda uri: uri if uri in known else None)
    found = hooks.on_page_markdown(f"See {link}.", SimpleNamespace(file=SimpleNamespace(src_uri=page)), None, files)
    assert found == f"See {right}."


@pytest.mark.slow
def test_it_is_built_without_a_warning_and_fetches_nothing(tmp_path):
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))  # strict: a warning is an error
    built = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert len(built) > 25
    fetched = re.compile(
        r"""<(?:script|img|iframe)[^>]*\ssrc=["']?(?:https?:)?//|<link[^>]*\shref=["']?(?:https?:)?//"""
    )
    assert [name for name, text in built.items() if fetched.search(text)] == []
    assert "P(Binomial(n, p)" in built["theory/index.html"]
