"""Every byte of the Markdown, CSV and JSON files of the report, for made results: a change of one shows as a diff.

``CERTSMOOTH_UPDATE_GOLDEN=1 pytest tests/report/test_golden.py`` writes tests/golden anew; git shows what changed.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path

import pytest

from certsmooth.analysis.certified import certified_table
from certsmooth.artefacts.provenance import IMAGE_VARIABLE, MadeBy, made_by
from certsmooth.experiment.config import Member, read_params
from certsmooth.experiment.members import check_members
from certsmooth.experiment.runs import table_runs
from certsmooth.experiment.specs import SPLITS
from certsmooth.experiment.steps.certified import Certified
from certsmooth.experiment.steps.high_dimension import make_high_dimension
from certsmooth.experiment.steps.table import make_table
from certsmooth.experiment.steps.theory import write_theory
from certsmooth.report.render import write_table
from factories import ROOT, MadeResults, golden_plan

pytestmark = pytest.mark.slow

GOLDEN = ROOT / "tests" / "golden"
RESULTS = Path("results")  # relative, as the workflow gives it: no path of this machine is in a file
UPDATE = "CERTSMOOTH_UPDATE_GOLDEN"
REMEDY = f"if the change is meant, set {UPDATE}=1, run again, and commit what changed"
TEXT = (".md", ".csv", ".json")
DIGITS = 12  # of a float: the last ones depend on the processor's instructions


def certified(name):
    def make(made):
        made.table(name)
        return lambda: make_table(made.experiment, name, results=RESULTS)

    return make


def empirical(name, **options):
    def make(made):
        made.empirical_table(name, **options)
        return lambda: make_table(made.experiment, name, results=RESULTS)

    return make


def accuracy(name):
    def make(made):
        made.table(name)
        return lambda: make_table(made.experiment, name, results=RESULTS)

    return make


def soundness(name):
    def make(made):
        made.soundness_table(name)
        return lambda: make_table(made.experiment, name, results=RESULTS)

    return make


def one_seed(make):
    """Make the same with the first training seed alone."""
    return lambda made: make(MadeResults(replace(made.params, training_seeds=made.params.training_seeds[:1]), RESULTS))


def stopped(make):
    """Make the same of samples that a rule stops."""

    def at_radii(entry):
        return replace(entry, certification=replace(entry.certification, stop=Member(name="radii")))

    def params_of(made):
        return replace(made.params, datasets={name: at_radii(each) for name, each in made.params.datasets.items()})

    return lambda made: make(MadeResults(params_of(made), RESULTS))


def unvalidated(made):
    """Tables of runs of which none, or not the baseline's, are on the validation split: no step makes these."""
    made.table("memory")
    certified = Certified(made.experiment, RESULTS)

    def write():
        chosen = [run for run in table_runs(made.params, "memory") if run.method != "cohen-ds-free"]
        runs = [certified.run(run, split) for run in chosen for split in SPLITS]
        for name, validated in (("unvalidated", ()), ("partly_validated", ("cohen-ds",))):
            given = [run for run in runs if run.split == "test" or run.method in validated]
            options = {"name": name, "title": "Chosen on the test set", "radii": (0, 0.25), "baseline_method": "cohen"}
            write_table(certified_table(given, **options), RESULTS)

    return write


def others(name):
    """A table with files that others made, about every second of our images and some more."""

    def make(made):
        made.table(name)
        run = next(run for run in table_runs(made.params, name) if run.dataset == "digits")
        ours = Certified(made.experiment, RESULTS).run(run, "test").frame
        labels = [*ours["label"][::2], 7, 8, 9]
        for sigma in (0.25, 0.5):
            rows = [
                f"{2 * i}\t{c}\t{c if i % 5 else -1}\t{(i % 5) * sigma / 3:.3g}\t{int(i % 5 > 0)}\t0.5"
                for i, c in enumerate(labels)
            ]
            Path(f"theirs-{sigma:.2f}.tsv").write_text("\n".join(["idx\tlabel\tpredict\tradius\tcorrect\ttime", *rows]))
        return lambda: make_table(made.experiment, name, results=RESULTS)

    return make


def theory(made):
    return lambda: write_theory(RESULTS)


def high_dimension(made):
    made.table("memory")
    rows = "0\t3\t3\t0.612\t1\t0:00:13.7\n20\t7\t-1\t0.0\t0\t0:00:13.7\n40\t2\t2\t1.31\t1\t1.5\n"
    Path("published.tsv").write_text(f"idx\tlabel\tpredict\tradius\tcorrect\ttime\n{rows}")
    return lambda: make_high_dimension(made.experiment, results=RESULTS)


def certificates(made):
    """The table of certificates after a memory pass, in the field's format."""
    run = next(run for run in table_runs(made.params, "memory") if run.method == "cohen-ds")
    place = made.experiment.certify(run, "test").place
    path = made.certificates(run).parent / place / "test.tsv"
    return lambda: (RESULTS / "cohen-ds.tsv.csv").write_bytes(path.read_bytes())


CASES = {
    "certified_memory": certified("memory"),
    "certified_linf": certified("linf"),
    "certified_l1": certified("l1"),
    "certified_same_data": one_seed(certified("same_data")),
    "certified_one_setting": one_seed(certified("one_setting")),
    "certified_real_arithmetic": one_seed(certified("real_arithmetic")),
    "certified_stopped": stopped(one_seed(certified("one_setting"))),
    "certified_others": others("others"),
    "certified_unvalidated": one_seed(unvalidated),
    "accuracy_rates": accuracy("rates"),
    "accuracy_dimensions": accuracy("dimensions"),
    "accuracy_others": others("rates_of_others"),
    "accuracy_alone": accuracy("alone"),
    "empirical_attacked": empirical("attacked"),
    "empirical_memory": one_seed(empirical("attacked_memory")),
    "empirical_wrong": one_seed(empirical("attacked_wrong", contradicted=9)),
    "soundness_promises": one_seed(soundness("promises")),
    "soundness_kept": one_seed(soundness("kept_promises")),
    "theory": theory,
    "high_dimension": high_dimension,
    "certificates": one_seed(certificates),
    "plan": golden_plan,
}


@pytest.fixture
def params():
    return read_params(GOLDEN / "params.yaml")


@pytest.mark.parametrize("case", CASES)
def test_golden(case, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(IMAGE_VARIABLE, raising=False)
    RESULTS.mkdir()
    report = CASES[case](MadeResults(params, RESULTS))
    before = text_files(RESULTS)
    report()
    made = made_by()
    texts = {path.as_posix(): settled(RESULTS / path, made) for path in sorted(text_files(RESULTS) - before)}
    assert texts, f"{case}: no files; a report writes some"
    if os.environ.get(UPDATE):
        rewrite(GOLDEN / case, texts)
    golden = {path.as_posix(): exact(GOLDEN / case / path) for path in text_files(GOLDEN / case)}
    changed = "".join(
        diff(f"{case}/{name}", golden.get(name, ""), texts.get(name, "")) for name in sorted({*golden, *texts})
    )
    if changed or texts.keys() != golden.keys():
        pytest.fail(f"{REMEDY}\n{changed}", pytrace=False)


def test_every_golden_folder_is_of_a_case():
    assert sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()) == sorted(CASES)


def test_every_table_of_the_experiment_is_golden(params):
    check_members(params)  # what its keys say can be built
    tables = {*params.tables}
    assert {path.stem for path in GOLDEN.rglob("*.md")} > tables | {"table1", "imagenet", "plan"}


def text_files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.suffix in TEXT}


def exact(path):
    """Return the text of a file with its line ends as they are."""
    return path.read_bytes().decode()


def settled(path, made: MadeBy):
    """Return the text of a file with a fixed word for what differs between machines and between commits."""
    text = exact(path)
    for package, version in made.versions.items():
        for form in ("{} {}", '"{}": "{}"'):
            text = text.replace(form.format(package, version), form.format(package, "VERSION"))
    commit = made.git_commit
    text = text.replace(f'"git_commit": {json.dumps(commit)}', '"git_commit": "COMMIT"')
    digits, dash, suffix = (commit or "unknown").partition("-")
    text = text.replace(f"commit {digits[:12]}{dash}{suffix}", "commit COMMIT")
    return text if path.suffix == ".md" else re.sub(r"\d+\.\d+(e[-+]\d+)?", shortened, text)


def shortened(found: re.Match[str]) -> str:
    number = found[0]
    written = re.sub(r"e.*|\.", "", number).lstrip("0")
    return number if len(written) <= DIGITS else f"{float(number):.{DIGITS}g}"


def diff(name, golden, text):
    return "".join(unified_diff(golden.splitlines(True), text.splitlines(True), f"golden/{name}", f"made/{name}"))


def rewrite(folder, texts):
    for path in text_files(folder):
        (folder / path).unlink()
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
