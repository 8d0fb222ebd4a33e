"""A small experiment made by the command line's verbs, and real faults: kills, full and read-only disks."""

import contextlib
import copy
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from certsmooth.experiment.cli import main
from factories import ROOT
from workflow_project import cut_down, edit

_MODEL = "digits/gaussian/sigma=0.25/seed=0/default"
_TEACHER = "digits-half-labelled/standard/sigma=0.25/seed=0/default"
_STUDENT = "digits-half-labelled/taught/sigma=0.25/seed=0/default"
_METHOD = "digits/cohen-ds/seed=0"
RECORD = "results/data/digits.json"
MODEL = f"results/checkpoints/{_MODEL}/model.safetensors"
TEACHER = f"results/checkpoints/{_TEACHER}/model.safetensors"
LABELS = f"results/checkpoints/{_TEACHER}/pseudo_labels.json"
STUDENT = f"results/checkpoints/{_STUDENT}/model.safetensors"
COUNTS = f"results/counts/{_METHOD}/0-of-1.parquet"
CERTIFICATES = f"results/certificates/{_METHOD}.parquet"
EXPORTED = "results/certificates/digits/cohen-ds/sigma=0.25/seed=0/iterations=2/{}.tsv"
ORDER = f"results/audits/soundness/{_METHOD}/order.json"
BROKEN = f"results/audits/soundness/{_METHOD}/broken.parquet"
ATTACKED = f"results/audits/empirical/{_METHOD}/base.parquet"

STEPS = {
    "data": ["data", "digits"],
    "train": ["train", _MODEL],
    "sample": ["sample", _METHOD],
    "certify": ["certify", _METHOD],
    "order-cost": ["order-cost", _METHOD, "--table", "soundness"],
    "break-certificates": ["break-certificates", _METHOD, "--table", "soundness"],
    "attack": ["attack", _METHOD, "--table", "empirical", "--attack", "base"],
    "data-half": ["data", "digits-half-labelled"],
    "teach": ["train", _TEACHER],
    "label": ["label", _TEACHER],
    "train-student": ["train", _STUDENT],
    "table": ["table", "table1"],
    "soundness": ["table", "soundness"],
    "empirical": ["table", "empirical"],
}
"""The steps of the experiment in order: their arguments. Sampling has two parts: the test images, then validation."""

_OUTPUTS = {
    "data": [RECORD],
    "train": [MODEL, str(Path(MODEL).with_name("training.csv"))],
    "sample": [COUNTS],
    "certify": [CERTIFICATES, EXPORTED.format("test"), EXPORTED.format("validation")],
    "order-cost": [ORDER],
    "break-certificates": [BROKEN],
    "attack": [ATTACKED],
    "label": [LABELS],
    "train-student": [STUDENT, str(Path(STUDENT).with_name("training.csv"))],
    "table": ["results/tables/table1.md"],
}


def make_experiment(folder):
    """Make the whole experiment, without a fault."""
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "config", folder / "config")
    edit(folder, _small)
    with contextlib.chdir(folder):
        for arguments in STEPS.values():
            assert main(arguments) == 0


@pytest.fixture
def experiment(made_experiment, tmp_path, monkeypatch):
    """A copy of it to work in."""
    shutil.copytree(made_experiment, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _small(params):
    """One method with a memory, one sigma; two epochs, 200 samples."""
    cut_down(params)
    params["datasets"]["digits"]["certification"]["shards"] = 1
    params["trainings"]["taught"] = copy.deepcopy(params["trainings"]["gaussian"]) | {"teacher": "standard"}
    tables = params["tables"]
    tables["table1"] |= {"methods": ["cohen-ds"], "baseline": "cohen-ds"}
    attack = {"label": "PGD", "attack": {"name": "base_pgd", "options": {"steps": 2}}}
    tables["empirical"] |= {"methods": ["cohen-ds"], "attacks": {"base": attack}}


# --- kills


def in_child(action, *, timeout=300):
    """Run a function in a forked process; return how that ended (as `subprocess`) and what it wrote to stderr."""
    process, log = start_child(action)
    process.join(timeout)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode, log.read_text()


def start_child(action):
    """Start a function in a forked process; return that and the file of what it writes to stderr."""
    log = Path(f"child-{time.monotonic_ns()}.txt").resolve()
    process = multiprocessing.get_context("fork").Process(target=_child, args=(action, log))
    process.start()
    return process, log


def _child(action, log):
    sys.stderr = log.open("w", buffering=1)
    try:
        code = action()
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)  # what pytest registered to be done at an exit is not for the child


def killed_before_change(number, arguments):
    """Run a verb, killed before the ``number``-th time that it opens, renames or removes a file of results."""
    folder, seen = str(Path("results").resolve()), 0

    def hook(event, values):
        nonlocal seen
        changes = event in ("os.rename", "os.remove", "os.mkdir")
        changes |= event == "open" and bool(values[2] & (os.O_WRONLY | os.O_RDWR))
        if changes and not isinstance(values[0], int):
            seen += os.path.realpath(os.fsdecode(values[0])).startswith(folder)
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return main(arguments)


def killed_in_call(where, name, number, arguments):
    """Run a verb, killed in the ``number``-th call of ``where.name``, before that does anything."""
    real, calls = getattr(where, name), 0

    def counted(*args, **options):
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    setattr(where, name, counted)
    return main(arguments)


def run(arguments):
    """Return the action of a verb, for `in_child`."""
    return partial(main, arguments)


# --- disks


class Disk:
    """A small disk of its own: a tmpfs in a mount namespace, which ends with the process that holds it.

    Attributes:
        path: leads to it, from outside of the namespace.
    """

    def __init__(self, folder, *, size):
        place = folder / "mounted"
        place.mkdir()
        flags = [] if os.geteuid() == 0 else ["--map-root-user"]
        command = ["unshare", *flags, "--mount", "sh"]
        try:
            self.holder = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        except FileNotFoundError:
            pytest.skip("unshare is not installed: no disk of its own can be mounted")
        self.size = size
        self.path = folder / "disk"
        self.path.symlink_to(f"/proc/{self.holder.pid}/root{place.resolve()}")
        self.place = place
        if answer := self._do(f"mount -t tmpfs -o size={size} none '{place}'"):
            self.close()
            pytest.skip(f"no disk of its own can be mounted here: {answer}")

    def _do(self, command):
        """Run a command in the namespace; return what it said if it failed."""
        try:
            self.holder.stdin.write(f"{command} && echo; echo .\n")
            self.holder.stdin.flush()
        except BrokenPipeError:
            return self.holder.stdout.read().strip()
        lines = []
        while (line := self.holder.stdout.readline()) not in (".\n", ""):
            lines.append(line.strip())
        return None if lines[-1:] == [""] else " ".join(lines) or "no answer"

    def set_read_only(self, *, value):
        answer = self._do(f"mount -o remount,{'ro' if value else 'rw'} '{self.place}'")
        assert answer is None, answer

    def leave(self, free):
        """Fill it up but for ``free`` bytes, in whole pages."""
        ballast = self.path / "ballast"
        ballast.write_bytes(b"")
        room = shutil.disk_usage(self.path).free - free
        ballast.write_bytes(bytes(max(room, 0)))

    def clear(self):
        """Take away what fills it."""
        (self.path / "ballast").unlink()

    def close(self):
        self.holder.stdin.close()
        self.holder.wait()
        self.holder.stdout.close()


def limit_memory(extra):
    """Let this process have only so many bytes more than it uses: of its address space, and of holes of 1 MiB in it."""
    pages, held = int(Path("/proc/self/statm").read_text().split()[0]), []
    limit, (_, most) = pages * resource.getpagesize(), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    for size in (2**26, 2**23, 2**20):
        with contextlib.suppress(MemoryError):
            while True:
                held.append(bytearray(size))
    resource.setrlimit(resource.RLIMIT_AS, (limit + extra, most))
    return held


# --- what is left


METADATA = ".metadata"  # of Snakemake, beside results; what is in it differs from run to run


def tree(folder):
    """Return the content of every file below, by its path."""
    files = [path for path in folder.rglob("*") if path.is_file() and METADATA not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def strays(folder):
    """Return the files below that are no results: temporaries, locks, journals and states."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name != METADATA)


def outputs(step):
    """Return the paths that a step makes, the main one first; without logs of counts, and without all of a table's."""
    return [Path(path) for path in _OUTPUTS[step]]


def log_of(path):
    """Return the path of the log of counts."""
    return str(Path(path).with_suffix(".log.json"))


def logged_seconds():
    """Return the seconds of each counted image, by the parts of the counts."""
    return [part["seconds"] for part in json.loads(Path(log_of(COUNTS)).read_bytes())["parts"]]


def seconds_of(path):
    """Return the column of seconds of a training's log."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return [row[rows[0].index("seconds")] for row in rows[1:]]


def flipped(content, *, count, seed):
    """Yield copies of a file with one bit flipped: in each of ``count`` regions of equal size, at random in each."""
    generator = np.random.default_rng(seed)
    for region in np.array_split(np.arange(len(content)), min(count, len(content))):
        damaged = bytearray(content)
        at = int(generator.choice(region))
        damaged[at] ^= 1 << int(generator.integers(8))
        yield at, bytes(damaged)
