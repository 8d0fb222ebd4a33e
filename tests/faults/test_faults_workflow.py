"""Faults of whole runs of Snakemake and DVC: killed, started twice, and clocks that jump."""

import json
import os
import random
import time

import pytest

from factories import needs_git
from fault_injection import strays, tree
from workflow_project import call, edit, kill_all, planned, start

pytestmark = [pytest.mark.workflow, needs_git]

COUNTS = "results/counts/digits/cohen-ds/seed=0/0-of-2.parquet"
CERTIFICATES = "results/certificates/digits/cohen-ds/seed=0.parquet"


def test_a_killed_workflow_goes_on(clone):
    """With the image after the last one that was counted; Snakemake wants to be told that it was killed."""
    old, counts, log = seconds(clone), (clone / COUNTS).read_bytes(), log_of(clone / COUNTS).read_bytes()
    edit(clone, lambda params: params["methods"]["cohen-ds"]["policy"]["options"].update(iterations=[2, 20]))
    process = start(clone, "snakemake", "--cores", "1", COUNTS)
    while not (rows := journal(clone)).count(b"\n") > 5:
        assert process.poll() is None, (clone / "out.txt").read_text()
        time.sleep(0.01)
    kill_all(clone, process)
    rows = journal(clone)
    assert ((clone / COUNTS).read_bytes(), log_of(clone / COUNTS).read_bytes()) == (counts, log)
    assert "--unlock" in call(clone, "snakemake", "--cores", "1", COUNTS, ok=False)
    call(clone, "snakemake", "--unlock")
    call(clone, "snakemake", "--cores", "1", COUNTS)
    finished = [json.loads(line[9:]) for line in rows.splitlines(keepends=True) if line.endswith(b"\n")]
    kept = [entry["seconds"] for entry in finished if "seconds" in entry]
    after = seconds(clone)
    assert after[:2] == old  # both splits of the grid point that was sampled before
    assert len(after) == 4
    assert after[2][: len(kept)] == kept != []
    assert strays(clone / "results") == []
    assert planned(clone, COUNTS) == {}


def seconds(clone):
    """Return the seconds of each image, by the parts of the counts."""
    return [part["seconds"] for part in json.loads(log_of(clone / COUNTS).read_bytes())["parts"]]


def log_of(path):
    return path.with_suffix(".log.json")


def journal(clone):
    found = list((clone / COUNTS).parent.glob(f".{(clone / COUNTS).name}.*.journal"))
    return found[0].read_bytes() if found else b""


def test_times_of_files_do_not_matter(clone):
    """A clock that jumped, a copy, another time zone: what a file is made of says whether it is made again."""
    before, times, year = tree(clone / "results"), random.Random(0), 365 * 24 * 3600
    for path in clone.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            moment = time.time() + times.uniform(-20 * year, 5 * year)
            os.utime(path, (moment, moment))
    assert planned(clone) == {}
    assert "up to date" in call(clone, "dvc", "status")
    assert tree(clone / "results") == before


def test_inputs_from_the_future_are_named_and_can_be_touched(clone):
    """Snakemake takes what is older than its inputs for unfinished."""
    before = tree(clone / "results")
    (clone / CERTIFICATES).unlink()
    moment = time.time() + 24 * 3600
    for path in (clone / "results").rglob("*"):
        os.utime(path, (moment, moment))
    text = call(clone, "snakemake", "--cores", "1", CERTIFICATES, ok=False)
    assert "has older modification time" in text
    assert "results/data/digits.json" in text
    call(clone, "bash", "-c", "find results -newermt now -exec touch {} +")
    call(clone, "snakemake", "--cores", "1", CERTIFICATES)
    assert tree(clone / "results") == before
    assert planned(clone) == {}


def test_two_dvc_repro_at_once_exclude_each_other(clone):
    edit(clone, lambda params: params["datasets"]["digits"]["certification"].update(alpha=0.01))
    first = start(clone, "dvc", "repro")
    while "Running stage" not in (clone / "out.txt").read_text():
        assert first.poll() is None, (clone / "out.txt").read_text()
        time.sleep(0.01)
    text = call(clone, "dvc", "repro", ok=False)
    assert "busy" in text, text
    kill_all(clone, first)
