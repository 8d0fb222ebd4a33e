"""A real Slurm of two nodes on this machine: what the tests that submit jobs share."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

CONFIGURATION = Path("/etc/slurm/slurm.conf")  # Slurm looks here; the plugin hides SLURM_CONF from jobs
TEMPLATE = Path(__file__).parent / "cluster" / "slurm" / "slurm.conf"
NODES = ("one", "two")


def slurm(*command):
    """Run a command of Slurm; return what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def wait_for(what, condition, seconds=60):
    """Wait until a condition holds; return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return value


@contextmanager
def cluster(folder):
    """Start the cluster; stop its daemons and remove its configuration at the end. Skips where that cannot be done."""
    _install()
    (folder / "state").mkdir()
    ports = _free_ports(3)
    filled = TEMPLATE.read_text().format(
        folder=folder,
        host=socket.gethostname().partition(".")[0],
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 2 // 5,
        **dict(zip(("port", "port1", "port2"), ports, strict=True)),
    )
    (folder / "slurm.conf").write_text(filled)
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.symlink_to(folder / "slurm.conf")
    try:
        _start(folder)
        yield
    finally:
        try:
            _stop(folder)
        finally:
            CONFIGURATION.unlink()


def _install():
    """Make sure that Slurm is there and that no other is configured, or skip."""
    if CONFIGURATION.is_symlink() and not CONFIGURATION.exists():
        CONFIGURATION.unlink()  # of a test run that was killed, whose folder is gone
    if CONFIGURATION.is_symlink() or CONFIGURATION.exists():
        pytest.skip(f"{CONFIGURATION}: a Slurm is configured on this machine, which is left alone")
    if os.geteuid() != 0:
        pytest.skip("starting a Slurm of our own takes root")
    if shutil.which("slurmctld") and shutil.which("slurmd") and shutil.which("munged"):
        return
    if not shutil.which("apt-get"):
        pytest.skip("Slurm is not installed, and there is no apt-get to install it")
    install = ("apt-get", "install", "--yes", "--no-install-recommends", "slurm-wlm", "munge")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (install, ("apt-get", "update"), install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode == 0 and command == install:
            return
    pytest.skip(f"Slurm cannot be installed: {done.stderr.strip()[-300:]}")


def _free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _start(folder):
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    files = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
    options = [f"--{name if name == 'socket' else f'{name}-file'}={path}" for name, path in files.items()]
    slurm("munged", "--force", f"--key-file={key}", *options)
    slurm("slurmctld", "-i")
    for node in NODES:
        (folder / node).mkdir()
        slurm("slurmd", "-N", node)
    wait_for("nodes are idle", lambda: slurm("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle"] * 2)


def _stop(folder):
    """End the jobs and then the daemons, which wrote their numbers into files."""
    subprocess.run(("scancel", "--user=root"), capture_output=True, timeout=60)
    files = [folder / f"{name}.pid" for name in (*NODES, "slurmctld", "munge")]
    numbers = [int(file.read_text()) for file in files if file.exists()]
    for number in numbers:
        os.kill(number, signal.SIGTERM)
    for number in numbers:
        wait_for(f"{number} has stopped", lambda number=number: not Path(f"/proc/{number}").exists())
