"""README's table of the papers: its files are there, and its targets are what the workflow makes."""

import re
from itertools import product

from certsmooth.experiment.config import read_params
from factories import ROOT

SCIENCE = ROOT / "src" / "certsmooth" / "science"
ALONE = {"ledger.md", "idrs/table1.md", "idrs/imagenet.md"}
FIGURES = re.compile(r"figures/(idrs|ddrs|p_a)/(figure\d+|NAME)\.svg")


def expanded(text):
    """`{a,b}.md` as a shell has it."""
    parts = [part.split(",") if index % 2 else [part] for index, part in enumerate(re.split("[{}]", text))]
    return ["".join(each) for each in product(*parts)]


def cells(column):
    table = re.search(r"^\| of \| what .*?\n\n", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
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
