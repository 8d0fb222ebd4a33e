import os
import signal
import stat
import subprocess
import sys
from argparse import Namespace
from contextlib import ExitStack

import pytest
import torch

from certsmooth._internal.devices import leased_gpu, local_gpus
from certsmooth.errors import CertsmoothError
from certsmooth.experiment import cli
from factories import ROOT

UUIDS = [f"GPU-0000000{i}-1111-2222-3333-444444444444" for i in range(3)]
MIG = "MIG-11111111-2222-3333-4444-555555555555"
HOLD = """
import sys, time
from certsmooth._internal.devices import leased_gpu
with leased_gpu() as uuid:
    import os
    print(uuid, os.environ["CUDA_VISIBLE_DEVICES"] == uuid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of its own: no GPUs visible by name, no nvidia-smi, a fresh folder for temporary files."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.fixture
def nvidia_smi(machine):
    """Install a program of that name; each call of it is a line of the file that is returned with it."""

    def install(script):
        path = machine / "bin" / "nvidia-smi"
        path.write_text(f'#!/bin/sh\necho "$@" >> {machine}/calls\n{script}\n')
        path.chmod(0o755)

    def rows(count):
        install("\n".join(f"echo '{i}, {uuid}'" for i, uuid in enumerate(UUIDS[:count])))

    install.rows = rows
    return install


def calls(machine):
    path = machine / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_without_nvidia_smi_there_are_no_gpus(machine, capfd):
    assert local_gpus() == ()
    assert capfd.readouterr().err == ""


def test_all_gpus_are_those_of_nvidia_smi(machine, nvidia_smi):
    nvidia_smi.rows(3)
    assert local_gpus() == tuple(UUIDS)
    assert calls(machine) == ["--query-gpu=index,uuid --format=csv,noheader"]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("2,0", [UUIDS[2], UUIDS[0]]),
        (" 1 ", [UUIDS[1]]),
        ("0,-1,1", [UUIDS[0]]),  # as in CUDA, what follows an entry that is no device does not count
        ("0,7,1", [UUIDS[0]]),
        ("GPU-00000002", [UUIDS[2]]),
        ("GPU-0000000", []),  # of three
        (f"0,{MIG}", [UUIDS[0], MIG]),
    ],
)
def test_visible_devices_choose_and_order(nvidia_smi, monkeypatch, visible, expected):
    nvidia_smi.rows(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == tuple(expected)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("", []), ("-1", []), ("NoDevFiles", []), (MIG, [MIG]), (f"{UUIDS[1]},{MIG}", [UUIDS[1], MIG])],
)
def test_full_names_and_none_need_no_nvidia_smi(machine, nvidia_smi, monkeypatch, visible, expected):
    nvidia_smi.rows(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == tuple(expected)
    assert calls(machine) == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Failed to initialize NVML'; exit 18", ["exit status 18", "Failed to initialize NVML"]),
        ("echo '0, ../../etc'", ["../../etc"]),
        ("echo nothing", ["nothing"]),
    ],
)
def test_a_failing_nvidia_smi_is_reported(nvidia_smi, capfd, script, words):
    nvidia_smi(script)
    assert local_gpus() == ()
    message = capfd.readouterr().err
    for word in ("warning", "nvidia-smi", *words):
        assert word in message


def test_without_gpus_a_lease_changes_nothing(machine):
    before = dict(os.environ)
    with leased_gpu() as uuid:
        assert uuid is None
        assert dict(os.environ) == before
    assert list((machine / "tmp").iterdir()) == []


@pytest.mark.parametrize("before", [None, ",".join(UUIDS[1:])])
def test_a_lease_shows_one_gpu_and_then_all_again(nvidia_smi, monkeypatch, before):
    nvidia_smi.rows(3)
    if before:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    for _ in range(2):
        with leased_gpu() as uuid:
            assert uuid == os.environ["CUDA_VISIBLE_DEVICES"] == (UUIDS[1] if before else UUIDS[0])
            assert local_gpus() == (uuid,)
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


@pytest.mark.parametrize(
    ("device", "cuda", "leased"),
    [("auto", "13.2", UUIDS[0]), ("auto", None, None), ("cpu", "13.2", None)],
)
def test_a_verb_that_computes_on_a_gpu_leases_it(nvidia_smi, monkeypatch, device, cuda, leased):
    nvidia_smi.rows(2)
    monkeypatch.setattr(torch.version, "cuda", cuda)  # a build without CUDA has no use for a GPU
    with ExitStack() as held:
        assert cli._device(Namespace(device=device, threads=None, held=held)).type == "cpu"  # no such GPU in truth
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == leased
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.fixture
def holder(machine):
    """Start processes that lease a GPU and hold it."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_processes_get_gpus_of_their_own_and_a_killed_one_frees_its(nvidia_smi, holder):
    nvidia_smi.rows(2)
    first, second = holder(), holder()
    held = {process: process.stdout.readline().split() for process in (first, second)}
    assert sorted(held.values()) == [[UUIDS[0], "True"], [UUIDS[1], "True"]]
    third = holder()
    assert third.stderr.readline() == "certsmooth: waiting for a GPU: all 2 are in use\n"
    assert third.poll() is None
    second.send_signal(signal.SIGKILL)
    assert third.stdout.readline().split() == held[second]


def test_locks_are_in_a_folder_that_is_this_users_alone(machine, nvidia_smi):
    nvidia_smi.rows(1)
    with leased_gpu():
        (folder,) = (machine / "tmp").iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [path.name for path in folder.iterdir()] == [f"{UUIDS[0]}.lock"]


@pytest.mark.parametrize("attack", ["link", "open", "file", "lock"])
def test_a_folder_of_somebody_else_is_refused(machine, nvidia_smi, attack):
    nvidia_smi.rows(1)
    folder, aim = machine / "tmp" / f"certsmooth-{os.getuid()}", machine / "aim"
    aim.mkdir(mode=0o700)
    if attack == "link":
        folder.symlink_to(aim)
    elif attack == "open":
        folder.mkdir()
        folder.chmod(0o777)
    elif attack == "file":
        folder.touch(mode=0o600)
    else:
        folder.mkdir(mode=0o700)
        (folder / f"{UUIDS[0]}.lock").symlink_to(aim / "made")
    with pytest.raises(CertsmoothError, match="certsmooth-"), leased_gpu():
        pass
    assert list(aim.iterdir()) == []


def test_a_mig_instance_of_old_drivers_has_a_lock_in_the_folder(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"MIG-{UUIDS[0]}/7/0")
    with leased_gpu() as uuid:
        assert uuid == f"MIG-{UUIDS[0]}/7/0"
        (folder,) = (machine / "tmp").iterdir()
        assert [path.name for path in folder.iterdir()] == [f"MIG-{UUIDS[0]}_7_0.lock"]


SNAKEFILE = f"""
import os
import sys
include: {str(ROOT / "workflow" / "rules" / "devices.smk")!r}
rule all:
    input: expand("{{i}}.txt", i=range(4))
rule use:
    output: "{{i}}.txt"
    resources: gpu=1
    shell: "{{sys.executable}} use.py > {{output}}"
"""
USE = """
import time
from certsmooth._internal.devices import leased_gpu
with leased_gpu() as uuid:
    start = time.time()
    time.sleep(2)
    print(uuid, start, time.time())
"""


@pytest.mark.slow
def test_jobs_of_a_workflow_queue_for_the_gpus_and_each_sees_its_own(machine, nvidia_smi, monkeypatch):
    nvidia_smi.rows(2)
    monkeypatch.setenv("PATH", f"{machine / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    (machine / "Snakefile").write_text(SNAKEFILE)
    (machine / "use.py").write_text(USE)
    command = [sys.executable, "-m", "snakemake", "--cores", "4", "--quiet", "all"]
    result = subprocess.run(command, cwd=machine, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    jobs = [path.read_text().split() for path in machine.glob("*.txt")]
    assert {uuid for uuid, *_ in jobs} == set(UUIDS[:2])
    at_once = [[uuid for uuid, start, end in jobs if float(start) <= float(now) < float(end)] for _, now, _ in jobs]
    assert max(map(len, at_once)) == 2
    assert all(len(set(each)) == len(each) for each in at_once)
    assert "waiting for a GPU" not in result.stderr
    assert len(calls(machine)) == 1
