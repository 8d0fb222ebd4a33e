"""What `make table1` shows: one line of where it is, what failed with its log and its command, and the exit status."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factories import ROOT

pytestmark = pytest.mark.slow

PROGRESS = ROOT / "workflow" / "progress.py"
RUN = """
import sys, time
print('''Building DAG of jobs...
Job stats:
job      count
-----  -------
train        2
total        4

[Sun Nov 29 01:18:43 2026]
rule train:
    input: results/data/digits.json
    output: results/checkpoints/model.safetensors
    jobid: 2
    wildcards: dataset=digits, training=gaussian, sigma=0.25
    resources: tmpdir=/tmp
[Sun Nov 29 01:18:44 2026]
Finished jobid: 2 (Rule: train)
1 of 4 steps (25%) done''', file=sys.stderr, flush=True)
"""
FAILURE = """
print('''[Sun Nov 29 01:18:45 2026]
Error in rule train:
    jobid: 3
    log: logs/train.log (check log file(s) for error details)
    shell:
        certsmooth train digits/gaussian 2> logs/train.log
        (command exited with non-zero exit code)
Logfile logs/train.log:
================================================================================
  1%|  | 1/100\\r  2%|  | 2/100
certsmooth: epoch 3: loss is nan; must be finite
================================================================================
[Sun Nov 29 01:18:46 2026]
Shutting down, this might take some time.''', file=sys.stderr)
sys.exit(1)
"""


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRESS), sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def log_of(folder: Path) -> str:
    (path,) = (folder / "logs" / "runs").iterdir()
    return path.read_text()


def test_it_says_how_far_it_is_and_keeps_the_whole_output(tmp_path):
    found = run(tmp_path, RUN)
    first, last = found.stdout.splitlines()
    assert re.fullmatch(r"\d s  0 of 4 jobs  train", first)
    assert re.fullmatch(r"\d s  done; all that Snakemake said: logs/runs/[\d-]+\.log", last)
    assert (found.returncode, found.stderr) == (0, "")
    assert log_of(tmp_path).startswith("Building DAG of jobs...\n")
    assert log_of(tmp_path).endswith("1 of 4 steps (25%) done\n")


def test_of_what_fails_it_shows_the_end_of_the_log_and_the_command(tmp_path):
    found = run(tmp_path, RUN + FAILURE)
    assert found.returncode == 1
    assert "certsmooth train digits/gaussian 2> logs/train.log" in found.stdout
    assert "\n  2%|  | 2/100\ncertsmooth: epoch 3: loss is nan; must be finite\n" in found.stdout
    assert "1/100" not in found.stdout
    assert "Shutting down" not in found.stdout
    assert "failed, exit status 1" in found.stdout.splitlines()[-1]


def test_an_error_before_any_job_is_shown(tmp_path):
    said = "WorkflowError in file common.smk, line 40:\nparams.yaml: datasets.digits.sigmas.0: '0.25'; must be a number"
    found = run(tmp_path, f"import sys\nprint({said!r}, file=sys.stderr)\nsys.exit(1)")
    assert said in found.stdout
    assert found.returncode == 1


@pytest.mark.parametrize("columns", [40, 200])
def test_on_a_terminal_it_is_one_line_that_fits(tmp_path, columns):
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns)}
    command = [sys.executable, str(PROGRESS), sys.executable, "-c", RUN]
    subprocess.run(command, cwd=tmp_path, stdout=theirs, env=environment, check=True)
    shown = os.read(ours, 100_000).decode()
    os.close(theirs), os.close(ours)
    *states, last = shown.replace("\r\n", "\n").rstrip("\n").split("\r")
    assert all(len(state) < columns and "\n" not in state for state in states)
    if columns == 200:
        assert "1 of 4 jobs, about 0 s left  train digits/gaussian/0.25" in states[-2]
    assert " done; all that Snakemake said" in last


def test_an_interrupt_waits_for_what_is_run(tmp_path):
    program = (
        "import signal, sys, time\n"
        "def end(*_):\n    time.sleep(0.5)\n    print('cleaned up', flush=True)\n    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, end)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, str(PROGRESS), sys.executable, "-c", program]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    while not list(tmp_path.glob("logs/runs/*")) or "ready" not in log_of(tmp_path):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    shown, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; what is finished is kept" in shown
    assert "cleaned up" in log_of(tmp_path)
