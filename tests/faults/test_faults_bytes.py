"""Damaged files: what a later step reads is found to be damaged, and named, or the outcome is the same."""

from functools import partial
from pathlib import Path

import pytest

from certsmooth.artefacts.counts import CountsJournal, read_counts, write_counts
from certsmooth.artefacts.records import read_logs, read_record, write_logs
from certsmooth.experiment.cli import main
from certsmooth.experiment.steps import sample
from certsmooth.science.training.run import TrainingRun
from fault_injection import (
    ATTACKED,
    BROKEN,
    CERTIFICATES,
    COUNTS,
    EXPORTED,
    LABELS,
    MODEL,
    ORDER,
    RECORD,
    STEPS,
    TEACHER,
    flipped,
    in_child,
    killed_in_call,
    log_of,
    outputs,
    tree,
)

pytestmark = pytest.mark.slow

READ = {
    # what is damaged: the step that reads it
    RECORD: "certify",
    MODEL: "sample",
    TEACHER: "label",
    LABELS: "train-student",
    COUNTS: "certify",
    log_of(COUNTS): "certify",
    CERTIFICATES: "table",
    ORDER: "soundness",
    BROKEN: "soundness",
    log_of(BROKEN): "soundness",
    ATTACKED: "empirical",
    log_of(ATTACKED): "empirical",
}
FLIPS = {"sample": 5, "label": 5, "train-student": 10}


def damaged(content, *, flips):
    """Yield what was done to a file, and its bytes: a bit in each region flipped, cut short, bytes added."""
    for at, flip in flipped(content, count=flips, seed=0):
        yield f"bit of byte {at}", flip
    for size in (0, 1, len(content) // 2, len(content) - 1):
        yield f"cut to {size}", content[:size]
    yield "zeros", bytes(len(content))  # what a file system may leave after a loss of power
    yield "grown", content + b"x"


def check(path, step, capsys, *, flips, whole):
    """Damage a file in many ways; each time the step names it and writes nothing, or does what it did."""
    content, refused = path.read_bytes(), 0
    for what, changed in damaged(content, flips=flips):
        path.write_bytes(changed)
        before = tree(path.parents[-2])
        capsys.readouterr()
        if main(STEPS[step]) == 0:
            path.write_bytes(content)
            assert without_times(tree(path.parents[-2])) == whole, what
        else:
            message = capsys.readouterr().err
            assert str(path) in message, what
            assert "Traceback" not in message
            assert tree(path.parents[-2]) == before, what
            refused += 1
    path.write_bytes(content)
    return refused


def without_times(files):
    """Leave out the logs of a training, whose seconds differ from run to run."""
    return {name: content for name, content in files.items() if not name.endswith("training.csv")}


@pytest.mark.parametrize("path", READ, ids=lambda path: "-".join(Path(path).parts[1:2]) + "-" + Path(path).name)
def test_a_damaged_file_is_named_and_not_used(experiment, capsys, monkeypatch, path):
    drawing = "certsmooth.experiment.steps.table.write_figure"  # seconds that say nothing here
    monkeypatch.setattr(drawing, lambda *args, **options: None)
    step = READ[path]
    whole = without_times(tree(Path("results")))
    refused = check(Path(path), step, capsys, flips=FLIPS.get(step, 15), whole=whole)
    assert refused >= 6  # at the least what is cut short, zeros, and something flipped


def test_kept_images_that_are_damaged_are_named(experiment, capsys):
    """They are what the memory pass measures distances between."""
    fingerprint = read_record(Path(RECORD))["parts"]["test"]["fingerprint"]
    path = Path("data", "parts", f"{fingerprint.removeprefix('sha256:')}.npz")
    whole = tree(Path("results"))
    assert check(path, "certify", capsys, flips=10, whole=tree(Path("data"))) >= 10
    assert tree(Path("results")) == whole


def test_a_damaged_training_state_is_named(experiment, capsys):
    whole = Path(MODEL).read_bytes()
    for path in outputs("train"):
        path.unlink()
    in_child(partial(killed_in_call, TrainingRun, "epoch", 2, STEPS["train"]))
    (state,) = Path(MODEL).parent.glob(".*.state")
    content, named = state.read_bytes(), 0
    for what, changed in damaged(content, flips=20):
        state.write_bytes(changed)
        code = main(STEPS["train"])
        message = capsys.readouterr().err
        if code == 0:
            assert Path(MODEL).read_bytes() == whole, what
        else:
            assert str(state) in message, what
            assert "delete it" in message, what
            assert state.read_bytes() == changed, what  # it is the user's to delete
            named += 1
    assert named >= 20
    state.unlink()
    assert main(STEPS["train"]) == 0
    assert Path(MODEL).read_bytes() == whole


def test_damaged_counts_are_sampled_again_and_others_are_not(experiment):
    whole = tree(Path("results"))
    assert main(STEPS["sample"]) == 0
    assert tree(Path("results")) == whole  # with the seconds that the images took then
    for path in (COUNTS, log_of(COUNTS)):
        for what, changed in list(damaged(Path(path).read_bytes(), flips=1))[:2]:
            Path(path).write_bytes(changed)
            assert main(STEPS["sample"]) == 0, what
            assert Path(COUNTS).read_bytes() == whole[str(Path(COUNTS).relative_to("results"))], what
            assert main(STEPS["certify"]) == 0, what


def test_a_damaged_journal_costs_the_rows_from_there_on_and_no_more(experiment):
    whole, parts = Path(COUNTS).read_bytes(), read_counts(Path(COUNTS))
    for path in outputs("sample"):
        path.unlink()
    in_child(partial(killed_in_call, sample, "write_counts", 1, STEPS["sample"]))  # all images are counted
    contents = {path: path.read_bytes() for path in Path(COUNTS).parent.glob(".*.journal")}
    assert {CountsJournal(Path(COUNTS), part.identity).path for part in parts} == contents.keys()
    assert len(contents) == 2
    for journal, content in contents.items():
        for what, changed in list(damaged(content, flips=2))[:3]:
            Path(COUNTS).unlink(missing_ok=True)
            for path in contents:
                path.write_bytes(changed if path == journal else contents[path])
            assert main(STEPS["sample"]) == 0, what
            assert Path(COUNTS).read_bytes() == whole, what


def test_a_checkpoint_other_than_the_one_that_was_sampled_is_named(experiment, capsys):
    Path(MODEL).write_bytes(b"x" + Path(MODEL).read_bytes()[1:])
    assert main(STEPS["certify"]) == 2
    message = capsys.readouterr().err
    assert f"{COUNTS}: checkpoint is 'sha256:" in message


def test_counts_of_another_run_are_named(experiment, capsys):
    """Swapped files, and parts in another's place, are intact, each by itself."""
    parts, logs = read_counts(Path(COUNTS)), read_logs(Path(COUNTS))
    write_counts(Path(COUNTS), parts[1:])
    write_logs(Path(COUNTS), logs[1:])
    assert main(STEPS["certify"]) == 2
    assert f"{COUNTS}: spec.split is 'validation'; must be 'test'" in capsys.readouterr().err
    assert main([*STEPS["sample"], "--shard", "1/2"]) == 0
    for path in (COUNTS, log_of(COUNTS)):
        Path(path.replace("0-of-1", "1-of-2")).replace(path)
    assert main(STEPS["certify"]) == 2
    assert f"{COUNTS}: shard is [1, 2]; must be [0, 1]" in capsys.readouterr().err


def test_certificates_exported_for_other_programs_are_not_read_back(experiment):
    whole = tree(Path("results"))
    for split in ("test", "validation"):
        Path(EXPORTED.format(split)).unlink()
    for table in ("table", "soundness", "empirical"):
        assert main(STEPS[table]) == 0
    exported = {str(Path(EXPORTED.format(split)).relative_to("results")) for split in ("test", "validation")}
    left = {name: content for name, content in whole.items() if name not in exported}
    assert exported < whole.keys()
    assert tree(Path("results")) == left
