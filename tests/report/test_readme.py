"""README: its Python prints what it says, its links lead somewhere; and of docs/implemented.md files and targets."""

import contextlib
import io
import re
from itertools import product

import pytest

from certsmooth.experiment.config import read_params
from factories import ROOT

README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "config" / "README.md"])
SCIENCE = ROOT / "src" / "certsmooth" / "science"
ALONE = {"ledger.md", "idrs/table1.md", "idrs/imagenet.md"}
FIGURES = re.compile(r"figures/(idrs|ddrs|p_a)/(figure\d+|NAME)\.svg")


def expanded(text):
    """`{a,b}.md` as a shell has it."""
    parts = [part.split(",") if index % 2 else [part] for index, part in enumerate(re.split("[{}]", text))]
    return ["".join(each) for each in product(*parts)]


def cells(column):
    table = re.search(
        r"^\| of \| what .*?\n\n", (ROOT / "docs" / "implemented.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for line in table[0].strip().splitlines()[2:]:
        for quoted in re.findall("`([^`]+)`", line.split("|")[1:-1][column]):
            yield from expanded(quoted)


def test_its_files_are_there():
    files = list(cells(2))
    assert len(files) > 30
    folders = (SCIENCE, SCIENCE / "certificates")  # the second of two files has no folder in front
    assert [name for name in files if not any((folder / name).exists() for folder in folders)] == []


def test_its_targets_are_made_and_no_table_is_left_out():
    tables = {f"{name}.md" for name in read_params(ROOT / "params.yaml").tables}
    targets = list(cells(3))
    assert [name for name in targets if name not in tables | ALONE and not FIGURES.fullmatch(name)] == []
    assert tables - {*targets} == set()


def test_its_python_prints_what_it_says():
    code, said = re.search(r"^```python\n(.*?)^```\n\n^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL).groups()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert printed.getvalue() == said


def test_it_can_be_read_at_one_go():
    lines = README.splitlines()
    assert len(lines) < 120
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_page_is_linked_from_somewhere():
    text = "".join(page.read_text() for page in PAGES)
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"{page.name})" not in text] == []
