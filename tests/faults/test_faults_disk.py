"""Disks that are full or read-only, and memory that runs out: a clear error, nothing lost, and it goes on after."""

import json
import shutil
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest

from certsmooth.artefacts.counts import read_counts
from certsmooth.experiment.cli import main
from certsmooth.science.sampling import sampler
from fault_injection import (
    COUNTS,
    STEPS,
    Disk,
    in_child,
    limit_memory,
    logged_seconds,
    outputs,
    strays,
    tree,
)
from workflow_project import edit

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(experiment):
    """A small disk that holds the results of the experiment."""
    disk = Disk(experiment, size=2**22)
    shutil.copytree("results", disk.path / "results")
    shutil.rmtree("results")
    Path("results").symlink_to(disk.path / "results")
    yield disk
    disk.close()


def results():
    """Return every file of the results, without logs of time."""
    found = tree(Path("results"))
    return {name: content for name, content in found.items() if not name.endswith((".log.json", "training.csv"))}


@pytest.mark.parametrize(
    ("step", "room"),
    [
        ("data", [0]),
        ("train", [0, 8, 120, 250, 330]),
        ("label", [0]),
        ("sample", [0, 4, 40]),
        ("certify", [0, 8, 40]),
        ("order-cost", [0]),
        ("attack", [0, 4]),
        ("table", [0, 8, 24]),
    ],
)
def test_a_full_disk(experiment, disk, capsys, step, room):
    """Full at various moments of a step: its files stay the old ones, and with room again it ends as ever."""
    whole = results()
    for path in outputs(step):
        path.write_bytes(b"old")
    old, failed = results(), 0
    for free in room:
        disk.leave(1024 * free)
        if main(STEPS[step]) == 0:
            break
        failed += 1
        message = capsys.readouterr().err
        assert "No space left on device" in message
        assert "results/" in message.split("certsmooth: ")[-1]
        assert "Traceback" not in message
        left = results()
        for name in old.keys() & left.keys():
            assert left[name] in (old[name], whole[name]), name
        assert all(name.endswith((".journal", ".state")) for name in strays(Path("results")))
        disk.clear()
    assert failed == len(room), "there was room for all of it"
    assert main(STEPS[step]) == 0
    assert results() == whole


def test_images_counted_before_the_disk_was_full_are_kept(experiment, disk):
    for path in outputs("sample"):
        path.unlink()
    disk.leave(40 * 1024)
    assert main(STEPS["sample"]) == 2
    disk.clear()
    (journal,) = Path(COUNTS).parent.glob(".*.journal")  # the disk was full in the first part
    kept = [json.loads(line[9:]) for line in journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    seconds = {entry["position"]: entry["seconds"] for entry in kept if "seconds" in entry}
    assert len(seconds) > 50
    assert main(STEPS["sample"]) == 0
    logged = logged_seconds()[0]
    assert [logged[position] for position in sorted(seconds)] == [seconds[position] for position in sorted(seconds)]


class Reached(BaseException):
    """The work began."""


WORK = {
    "data": "certsmooth.experiment.steps.data.load_data",
    "train": "certsmooth.science.training.run.TrainingRun.epoch",
    "label": "certsmooth.artefacts.checkpoint.load",
    "sample": "certsmooth.science.sampling.sampler.Sampler.count",
    "certify": "certsmooth.experiment.steps.certify.memory_pass",
    "order-cost": "certsmooth.experiment.steps.order_cost.order_cost",
    "attack": "certsmooth.experiment.steps.attack.attack_group",
    "break-certificates": "certsmooth.experiment.steps.break_certificates.break_group",
}


@pytest.mark.parametrize("step", WORK)
def test_a_read_only_folder_is_named_before_any_work_is_done(experiment, disk, capsys, monkeypatch, step):
    def reached(*args, **options):
        raise Reached

    for path in outputs(step):
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(WORK[step], reached)
        with pytest.raises(Reached):  # what is replaced is what does the work
            main(STEPS[step])
        whole = results()
        disk.set_read_only(value=True)
        assert main(STEPS[step]) == 2
    message = capsys.readouterr().err.split("certsmooth: ")[-1]
    assert str(outputs(step)[0]) in message
    assert "Read-only file system" in message
    disk.set_read_only(value=False)
    assert results() == whole
    assert main(STEPS[step]) == 0


def test_a_table_in_a_read_only_folder_is_an_error_that_names_it(experiment, disk, capsys):
    disk.set_read_only(value=True)
    for name in ("table1", "soundness", "empirical"):
        assert main(["table", name]) == 2
        message = capsys.readouterr().err
        assert "results/" in message
        assert "Read-only file system" in message
    disk.set_read_only(value=False)


# --- memory


def with_little_memory(arguments, *, extra, batch=1):
    """Run a verb that may take only so much more memory; a batch of sampling is so many times the usual."""
    sampler._CPU_BATCH_ELEMENTS *= batch
    held = limit_memory(extra)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
        code = main(arguments)
    held.clear()
    return code


def test_out_of_memory_in_sampling_takes_smaller_batches(experiment):
    whole = read_counts(Path(COUNTS))
    for path in outputs("sample"):
        path.unlink()
    code, text = in_child(partial(with_little_memory, STEPS["sample"], extra=150 * 2**20, batch=16))
    assert code == 0, text
    assert "out of memory: going on with batches of" in text
    parts = read_counts(Path(COUNTS))
    assert [part.identity for part in parts] == [part.identity for part in whole]
    for counts, full in ((part.counts, other.counts) for part, other in zip(parts, whole, strict=True)):
        assert 1000 <= counts.batch_size.max() < 16 * 4000
        assert (counts.estimation.sum(1) == 200).all()
        assert abs(counts.estimation - full.estimation).sum() <= 0.01 * full.estimation.sum()  # the same noise


def test_out_of_memory_in_training_names_the_key_to_change(experiment):
    edit(experiment, lambda params: params["datasets"]["digits"]["recipe"].update(batch_size=1200))
    code, text = in_child(partial(with_little_memory, STEPS["train"], extra=8 * 2**20))
    assert code == 2, text
    message = text.split("certsmooth: ")[-1]
    assert "epoch 0: out of memory on cpu" in message
    assert "recipe.batch_size, 1200, smaller" in message
    assert "Traceback" not in text


def test_out_of_memory_elsewhere_is_a_message(experiment):
    before = results()
    code, text = in_child(partial(with_little_memory, STEPS["label"], extra=0))
    assert code == 2, text
    assert "certsmooth: out of memory: " in text
    assert "Traceback" not in text
    assert results() == before
