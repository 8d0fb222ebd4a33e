"""docs/add_an_objective.md, followed to the letter in a copy of this repository."""

import re

import pytest

from factories import ROOT
from followed_page import FILES, Clone, blocks, commands, with_entries

FIRST_HALF, SECOND_HALF = (ROOT / "docs" / "add_an_objective.md").read_text().split("\n## Rows without code\n")

pytestmark = pytest.mark.workflow


def cut_down(files):
    """Return the files with short trainings, few samples, one sigma, and of each table the baseline only."""
    digits = {"recipe": {"epochs": 1}, "certification": {"stride": 5}}
    chosen = {"sigmas": [0.25], "n": 100, "datasets": {"digits": digits}}
    result = files | {"params.yaml": files["params.yaml"] | chosen}
    for name, content in files.items():
        if tables := content.get("tables"):
            with_baseline = {key: each for key, each in tables.items() if "baseline" in each}
            small = {key: each | {"methods": [each["baseline"]]} for key, each in with_baseline.items()}
            result[name] = content | {"tables": tables | small}
    return result


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The clone with the Python of the page: the new file, and the naive version at the end of the contract test."""
    clone = Clone(tmp_path_factory.mktemp("docs") / "clone")
    added, naive = blocks(FIRST_HALF, "python")
    for code, mode in ((added, "x"), (naive, "a")):  # x: the page adds a file that the package lacks
        name, code = re.fullmatch(r"# (\S+)\n(.*)", code, re.DOTALL).groups()
        with (clone.folder / name).open(mode) as file:
            file.write(code if mode == "x" else f"\n\n{code}")
    return clone


@pytest.fixture(scope="module")
def made(clone):
    """The clone after the last command of the first half: the table with the new row."""
    clone.write(with_entries(cut_down(FILES), FIRST_HALF))
    clone.call(commands(FIRST_HALF)[-1])
    return clone


def test_the_commands_are_those_that_are_tested_here():
    assert commands(FIRST_HALF) == [
        "pytest tests/science/test_objectives_contract.py -k logit_squeezing",
        "certsmooth check",
        "snakemake --cores all results/trainings.md",
    ]
    assert all(command.startswith("snakemake --cores all results/") for command in commands(SECOND_HALF))


def test_the_new_objective_passes_the_contract(clone):
    text = clone.call(commands(FIRST_HALF)[0])
    assert int(re.search(r"(\d+) passed, \d+ deselected", text)[1]) >= 10
    for check in ("ruff check", "ruff format --check"):
        clone.call(
            f"{check} src/certsmooth/science/objectives/logit_squeezing.py tests/science/test_objectives_contract.py"
        )


def test_every_entry_is_valid_next_to_those_of_params_yaml(clone):
    clone.write(with_entries(FILES, FIRST_HALF + SECOND_HALF))
    assert re.fullmatch(r"params\.yaml: .*: ok\n", clone.call(commands(FIRST_HALF)[1]))


def test_the_table_has_the_new_row(made):
    text = (made.folder / "results" / "trainings.md").read_text()
    _, rows, tests, *_ = re.split(r"^## .*$", text, flags=re.MULTILINE)
    (row,) = re.findall(r"^\| Logit squeezing +\| FS +\| FS +\| global +\|(.*)\|$", rows, re.MULTILINE)
    *accuracies, acr = (float(cell.split("[")[0]) for cell in row.split("|"))
    assert len(accuracies) == 9
    assert 100 >= accuracies[0] >= accuracies[-1] >= 0
    assert acr > 0
    # With a row of its own, or among those with p = 1.
    assert re.search(r"^\| Logit squeezing +\| +0\.1 \||Logit squeezing \(", tests, re.MULTILINE)


def test_snakemake_plans_the_rows_without_code_and_makes_nothing_twice(made):
    made.write(with_entries(cut_down(FILES), FIRST_HALF + SECOND_HALF))
    targets = [command.removeprefix("snakemake --cores all ") for command in commands(SECOND_HALF)]
    plan = made.call(f"snakemake --dry-run {' '.join(targets)}")
    runs = re.findall(r"output: results/checkpoints/(\S+)/sigma=0.25/seed=0/(\S+)/model.safetensors", plan)
    assert sorted(runs) == [
        ("digits-half-labelled/gaussian", "default"),  # what the pre-trained one starts from
        ("digits-half-labelled/logit-squeezing-pretrained", "default"),
        ("digits-half-labelled/logit-squeezing-self-trained", "default"),
        ("digits-half-labelled/smoothadv-grid", "epsilon=0.25"),  # the baseline of that table
        ("digits-half-labelled/standard", "default"),  # the teacher
        ("digits/logit-squeezing", "default"),  # again: its recipe differs on digits
        ("digits/logit-squeezing-ds", "default"),
        ("digits/stability-grid", "weight=1.0"),
        ("digits/stability-grid", "weight=4.0"),
    ]
    assert len(re.findall(r"^rule label:$", plan, re.MULTILINE)) == 1  # by the teacher
    counts = set(re.findall(r"output: results/counts/(\S+)/seed=0/0-of-", plan))
    rows = {"logit-squeezing", "logit-squeezing-ds", "logit-squeezing-ds2", "stability-grid"}
    assert counts >= {f"digits/{row}" for row in rows}
    assert "digits/cohen" not in counts
