"""The pages of docs/ that add a file, followed to the letter in a copy of this repository."""

import re
from dataclasses import dataclass

import pytest

from factories import ROOT
from followed_page import FILES, Clone, blocks, commands, with_entries

pytestmark = pytest.mark.workflow


@dataclass(frozen=True)
class Page:
    """A page that adds a file, and what comes of it.

    name: of the page.
    contract: how its first command runs the tests of the new file.
    passed: at least so many of them.
    table: that the last command makes.
    row: its cells before the numbers.
    broken: text of the new file, and other text in its place, of which ``certsmooth check`` says what ``lacks`` says.
    """

    name: str
    contract: str
    passed: int
    table: str
    row: tuple[str, ...]
    broken: tuple[str, str]
    lacks: str

    @property
    def parts(self):
        """What goes as far as the table, and the rest."""
        first, _, second = (ROOT / "docs" / self.name).read_text().partition("\n## Rows without code\n")
        return first, second

    @property
    def first(self):
        return self.parts[0]


OBJECTIVE = Page(
    "add_an_objective.md",
    contract="tests/science/test_objectives_contract.py -k logit_squeezing",
    passed=10,
    table="trainings",
    row=("Logit squeezing", "FS", "FS", "global"),
    broken=("def __call__(", "def called("),
    lacks="LogitSqueezing lacks __call__; must define what TrainingObjective asks for",
)
POLICY = Page(
    "add_a_sigma_policy.md",
    contract="tests/science/test_sigma_contract.py -k contrast",
    passed=15,
    table="policies",
    row=("Contrast", "FS", "CO", "global"),
    broken=("    label: ", "    title: "),
    lacks="no label; must be a class attribute, label: ClassVar",
)
CERTIFICATE = Page(
    "add_a_certificate.md",
    contract="tests/science/test_certificates_contract.py tests/science/test_certificates_coverage.py -k hoeffding",
    passed=30,
    table="bounds",
    row=("Hoeffding", "FS", "FS", "global"),
    broken=("def _certify(", "def certify("),
    lacks="HoeffdingCertificate lacks _certify; must define what Certificate asks for",
)
PAGES = (OBJECTIVE, POLICY, CERTIFICATE)


def added(page):
    """Return the name and the content of what the page adds: a file, and what it puts at the end of others."""
    return [re.fullmatch(r"# (\S+)\n(.*)", code, re.DOTALL).groups() for code in blocks(page.first, "python")]


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


@pytest.fixture(scope="module", params=PAGES, ids=lambda page: page.name)
def page(request):
    return request.param


@pytest.fixture(scope="module")
def clone(page, tmp_path_factory):
    """The clone with the Python of the page: a file that the package lacks, and ends of files that it has."""
    clone = Clone(tmp_path_factory.mktemp("docs") / "clone")
    (new, content), *ends = added(page)
    with (clone.folder / new).open("x") as file:
        file.write(content)
    for name, end in ends:
        with (clone.folder / name).open("a") as file:
            file.write(f"\n\n{end}")
    return clone


@pytest.fixture(scope="module")
def made(page, clone):
    """The clone after the last command of the page's first part: the table with the new row."""
    clone.write(with_entries(cut_down(FILES), page.first))
    clone.call(commands(page.first)[-1])
    return clone


def test_the_commands_are_those_that_are_tested_here(page):
    assert commands(page.first) == [
        f"pytest {page.contract}",
        "certsmooth check",
        f"snakemake --cores all results/{page.table}.md",
    ]


def test_the_new_file_passes_the_contract(page, clone):
    text = clone.call(commands(page.first)[0])
    assert int(re.search(r"(\d+) passed, .*\d+ deselected", text)[1]) >= page.passed
    names = " ".join(name for name, _ in added(page))
    for check in ("ruff check", "ruff format --check"):
        clone.call(f"{check} {names}")


def test_every_entry_is_valid_next_to_those_of_params_yaml(page, clone):
    clone.write(with_entries(FILES, "".join(page.parts)))
    assert re.fullmatch(r"params\.yaml: .*: ok\n", clone.call(commands(page.first)[1]))


def test_the_check_names_what_the_new_file_lacks(page, clone):
    clone.write(with_entries(FILES, page.first))
    name, content = added(page)[0]
    assert content.count(page.broken[0]) == 1
    (clone.folder / name).write_text(content.replace(*page.broken))
    try:
        text = clone.call(commands(page.first)[1], code=2)
    finally:
        (clone.folder / name).write_text(content)
    assert re.fullmatch(rf"certsmooth: params\.yaml: \S*/{name}: {page.lacks}.*\n", text)


def test_the_table_has_the_new_row(page, made):
    text = (made.folder / "results" / f"{page.table}.md").read_text()
    _, rows, tests, *_ = re.split(r"^## .*$", text, flags=re.MULTILINE)
    label, *_ = page.row
    start = "".join(rf"\| {cell} +" for cell in page.row)
    (row,) = re.findall(rf"^{start}\|(.*)\|$", rows, re.MULTILINE)
    *accuracies, acr = (float(cell.split("[")[0]) for cell in row.split("|"))
    assert len(accuracies) == 9
    assert 100 >= accuracies[0] >= accuracies[-1] >= 0
    assert acr > 0
    # With a row of its own, or among those with p = 1.
    assert re.search(rf"^\| {label} +\| +0\.1 \||{label} \(", tests, re.MULTILINE)


@pytest.mark.parametrize("page", [OBJECTIVE], ids=lambda page: page.name, indirect=True)
def test_snakemake_plans_the_rows_without_code_and_makes_nothing_twice(page, made):
    made.write(with_entries(cut_down(FILES), "".join(page.parts)))
    asked = commands(page.parts[1])
    assert all(command.startswith("snakemake --cores all results/") for command in asked)
    targets = [command.removeprefix("snakemake --cores all ") for command in asked]
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
