"""Kills: whatever is killed, whenever, a second run ends with the bytes of an unbroken one and repeats nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from certsmooth.artefacts.counts import CountsJournal, Journal, read_counts
from certsmooth.experiment.cli import main
from certsmooth.science import memory
from certsmooth.science.sampling.sampler import GROUP
from fault_injection import (
    COUNTS,
    MODEL,
    STEPS,
    in_child,
    killed_before_change,
    killed_in_call,
    logged_seconds,
    outputs,
    run,
    seconds_of,
    start_child,
    strays,
    tree,
)
from workflow_project import edit

pytestmark = pytest.mark.slow


def timeless(folder):
    """Return what must be the same in each run: all but logs of times, and what copies times from those."""
    return {name: content for name, content in tree(folder).items() if not name.endswith((".log.json", "training.csv"))}


def published(folder):
    """Return the files that have their names: not temporaries, locks, journals, states."""
    return {name: content for name, content in timeless(folder).items() if not Path(name).name.startswith(".")}


def remove(step):
    for path in outputs(step):
        path.unlink()


@pytest.mark.parametrize(
    ("step", "every"),
    [
        ("data", 1),
        ("train", 1),
        ("train-student", 9),
        ("label", 1),
        ("sample", 2),
        ("certify", 1),
        ("order-cost", 1),
        ("table", 4),
    ],
)
def test_killed_before_any_change_of_a_file_and_run_again(experiment, step, every):
    whole = timeless(experiment / "results")
    if step == "table":
        for path in (experiment / "results" / "tables").glob("table1.*"):
            path.write_text("old")  # that of another run
    else:
        remove(step)
    before = published(experiment / "results")
    for number in range(1, 100, every):
        code, text = in_child(partial(killed_before_change, number, STEPS[step]))
        if code == 0:
            break
        assert code == -signal.SIGKILL, text
        for name, content in published(experiment / "results").items():
            assert content in (before.get(name), whole[name]), f"{name} is neither the old one nor the new one"
    assert number > 1
    assert main(STEPS[step]) == 0
    assert timeless(experiment / "results") == whole
    assert strays(experiment / "results") == []


def test_finished_epochs_are_not_trained_again(experiment):
    model, log = Path(MODEL), outputs("train")[1]
    whole, rows = model.read_bytes(), []
    remove("train")
    for number in range(4, 20, 2):  # after the first epoch, and so on
        code, _ = in_child(partial(killed_before_change, number, STEPS["train"]))
        if log.exists():
            found = seconds_of(log)
            assert found[: len(rows)] == rows
            rows = found
        if code == 0:
            break
    assert (len(rows), model.read_bytes()) == (2, whole)


def torn_at(number, arguments):
    """Run a verb, killed while it writes the ``number``-th line of its journal."""
    real, calls = Journal.append, 0

    def append(journal, entry):
        nonlocal calls
        calls += 1
        if calls == number:
            journal._file.write(json.dumps(entry).encode()[:40])
            os.kill(os.getpid(), signal.SIGKILL)
        real(journal, entry)

    Journal.append = append
    return main(arguments)


def finished_rows(parts):
    """Return position -> seconds of the images in the journal of each part of the counts."""
    found = []
    for part in parts:
        journal = CountsJournal(Path(COUNTS), part.identity)
        if journal.path.exists():
            with journal:
                found.append({position: row["seconds"] for position, row in journal.rows.items()})
    return found


def test_counted_images_are_not_counted_again(experiment):
    """Not those of the first part either, when the second is under way."""
    whole, parts = Path(COUNTS).read_bytes(), read_counts(Path(COUNTS))
    images = [len(part.counts) for part in parts]
    remove("sample")
    kept = [{}]
    for number in (1, 2, 53, 150, 90, 120, 40):
        code, text = in_child(partial(torn_at, number, STEPS["sample"]))
        assert code == -signal.SIGKILL, text
        rows = finished_rows(parts)
        for before, after in zip(kept, rows, strict=False):
            assert before.items() <= after.items()  # with the seconds that they took: they were not made again
        assert sum(map(len, rows)) > sum(map(len, kept)) or number <= 2  # sigmas come first
        kept = rows
    assert len(kept[0]) == images[0]
    assert 0 < len(kept[1]) < images[1]
    assert not Path(COUNTS).exists()
    assert main(STEPS["sample"]) == 0
    assert Path(COUNTS).read_bytes() == whole
    for seconds, before in zip(logged_seconds(), kept, strict=True):
        assert [seconds[position] for position in sorted(before)] == [before[position] for position in sorted(before)]
    assert strays(experiment / "results") == []


@pytest.mark.parametrize("step", ["certify", "order-cost"])
@pytest.mark.parametrize("number", [1, 100])
def test_killed_in_the_memory_pass(experiment, step, number):
    whole = tree(experiment / "results")
    remove(step)
    code, text = in_child(partial(killed_in_call, memory._Session, "answer", number, STEPS[step]))
    assert code == -signal.SIGKILL, text
    assert not any(path.exists() for path in outputs(step))
    assert main(STEPS[step]) == 0
    assert tree(experiment / "results") == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_ends_and_what_is_finished_stays(experiment, number):
    """What Slurm sends at the time limit, and Ctrl-C; for real, to the command itself."""
    whole, parts = Path(COUNTS).read_bytes(), read_counts(Path(COUNTS))
    remove("sample")
    waiting = (
        "import sys, time; from certsmooth.experiment.steps import sample; from certsmooth.experiment.cli import main\n"
    )
    waiting += "real = sample.CountsJournal.append\n"
    waiting += "def append(self, entry):\n    real(self, entry)\n    time.sleep(600 * (len(self.rows) == 120))\n"
    waiting += "sample.CountsJournal.append = append\nsys.exit(main())"
    command = [sys.executable, "-c", waiting, *STEPS["sample"]]
    # A shell starts what it puts into the background with SIGINT ignored, and the tests may be there.
    not_ignored = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=not_ignored) as process:
        try:
            while not (journal := list(Path(COUNTS).parent.glob(".*.journal"))) or lines(journal[0]) < 123:
                assert process.poll() is None, process.stderr.read().decode()
                time.sleep(0.01)
            process.send_signal(number)
            text = process.communicate(timeout=120)[1].decode()
        finally:
            process.kill()
    assert process.returncode == (-number if number == signal.SIGTERM else 130), text
    assert "Traceback" not in text
    assert [len(rows) for rows in finished_rows(parts)] == [120]
    assert not Path(COUNTS).exists()
    assert main(STEPS["sample"]) == 0
    assert Path(COUNTS).read_bytes() == whole


def test_what_was_sampled_before_outlives_kills_while_more_is_added(experiment):
    """Also between the writing of the counts and that of their log, which belong to each other."""
    known, times = read_counts(Path(COUNTS)), logged_seconds()
    options = {"iterations": [1, 2]}
    edit(experiment, lambda params: params["methods"]["cohen-ds"]["policy"]["options"].update(options))
    for number in range(1, 100):
        code, text = in_child(partial(killed_before_change, number, STEPS["sample"]))
        if code == 0:
            break
        assert code == -signal.SIGKILL, text
    assert number > 10
    parts = read_counts(Path(COUNTS))
    assert [part.identity["spec"]["policy"]["options"]["iterations"] for part in parts] == [1, 1, 2, 2]
    for part, old in zip(parts[2:], known, strict=True):
        assert part.identity == old.identity
        assert {name: values.tolist() for name, values in vars(part.counts).items()} == {
            name: values.tolist() for name, values in vars(old.counts).items()
        }
    assert logged_seconds()[2:] == times  # they were not sampled again
    assert strays(experiment / "results") == []


def interrupted(where, name, number, arguments):
    """Run a verb, interrupted as by Ctrl-C before the ``number``-th call of ``where.name`` does anything."""
    real, calls = getattr(where, name), 0

    def counted(*args, **options):
        nonlocal calls
        calls += 1
        if calls == number:
            raise KeyboardInterrupt
        return real(*args, **options)

    setattr(where, name, counted)
    return main(arguments)


def test_a_part_that_is_finished_outlives_an_interrupt_of_the_next(experiment):
    whole, parts = Path(COUNTS).read_bytes(), read_counts(Path(COUNTS))
    remove("sample")
    number = (
        len(parts[0].counts) + -(-len(parts[0].counts) // GROUP) + 10
    )  # lines of the first part's journal, and more
    code, text = in_child(partial(interrupted, Journal, "append", number, STEPS["sample"]))
    assert code == 130, text
    assert "interrupted; what is finished is kept" in text
    kept = finished_rows(parts)
    assert [len(rows) for rows in kept] == [len(parts[0].counts), 8]
    assert main(STEPS["sample"]) == 0
    assert Path(COUNTS).read_bytes() == whole
    for seconds, before in zip(logged_seconds(), kept, strict=True):
        assert [seconds[position] for position in sorted(before)] == [before[position] for position in sorted(before)]
    assert strays(experiment / "results") == []


def lines(path):
    return path.read_bytes().count(b"\n")


@pytest.mark.parametrize("step", ["train", "sample", "certify"])
def test_two_runs_at_once_on_one_output(experiment, step):
    whole = timeless(experiment / "results")
    remove(step)
    started = [start_child(run(STEPS[step])) for _ in range(3)]
    ends = []
    for process, log in started:
        process.join(300)
        ends.append((process.exitcode, log.read_text()))
    assert sorted({code for code, _ in ends}) in ([0], [0, 2])
    for code, text in ends:
        assert code == 0 or "another run is writing it; wait for it or stop it" in text
    assert timeless(experiment / "results") == whole
    assert strays(experiment / "results") == []


def test_a_temporary_file_of_a_killed_run_is_used_up(experiment):
    """It has one name: kills in a row leave one file at most, and the next run takes it."""
    remove("certify")
    for _ in range(3):
        code, _ = in_child(partial(killed_before_change, 5, STEPS["certify"]))
        assert code == -signal.SIGKILL
        assert [Path(name).suffix for name in strays(experiment / "results")] == [".lock", ".tmp"]
    assert main(STEPS["certify"]) == 0
    assert strays(experiment / "results") == []
