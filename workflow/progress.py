"""Runs Snakemake and says in one line what it does, how far it is and how long it will take; `make table1` does so.

    python workflow/progress.py snakemake --cores all results/table1.md

All that Snakemake prints goes to a file in logs/runs. Of a job that fails, its message, the end of its log and the
command are shown. Where the output is no terminal, a line is printed from time to time instead.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

TOTAL = re.compile(r"total +(\d+)")
STEPS = re.compile(r"(\d+) of (\d+) steps \(.*\) done")
RULE = re.compile(r"(?:local)?rule (\w+):")
WILDCARDS = re.compile(r"    wildcards: (.*)")
FAILED = re.compile(r"Error in rule \w+:|\w*(Error|Exception)\b.*:|.*rror: |Directory cannot be locked")
NEW = re.compile(r"\[\w{3} \w{3} +\d+ [\d:]+ \d+\]|Finished jobid|Shutting down|Exiting because|Complete log")
EVERY = 30.0
"""Seconds between lines where these stay."""


class Shown:
    """What a reader sees of a run."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.last = -EVERY
        self.done, self.total = 0, 0
        self.rule = self.job = ""
        self.in_error = False
        self.is_terminal = sys.stdout.isatty()
        self.lock = threading.Lock()  # two threads show

    def keep_time(self, ended: threading.Event) -> None:
        """Show the time as it passes, while a job says nothing."""
        while not ended.wait(1.0):
            with self.lock:
                if not self.in_error:
                    self.status()

    def line(self, text: str) -> None:
        """Take a line of Snakemake's."""
        with self.lock:
            self._line(text)

    def _line(self, text: str) -> None:
        text = text.rpartition("\r")[2]  # of a bar in a job's log
        if found := TOTAL.fullmatch(text):
            self.total = int(found[1])
        elif found := STEPS.match(text):
            self.done, self.total = int(found[1]), int(found[2])
        elif found := RULE.match(text):
            self.rule = self.job = found[1]
        elif found := WILDCARDS.match(text):
            values = [value.partition("=")[2] for value in found[1].split(", ")]
            self.job = f"{self.rule} {'/'.join(values)}"
        if NEW.match(text):
            self.in_error = False
        elif FAILED.match(text):
            self.in_error = True
        if self.in_error:
            self._put(text)
        else:
            self.status()

    def status(self) -> None:
        """Show where it is."""
        now = time.monotonic()
        if not self.job or (not self.is_terminal and now - self.last < EVERY):
            return
        self.last = now
        text = f"{self._clock(now - self.since)}  {self.job}"
        if self.total:
            left = (now - self.since) * (self.total - self.done) / max(self.done, 1)
            about = f", about {self._clock(left)} left" if self.done >= self.total / 10 else ""
            text = f"{self._clock(now - self.since)}  {self.done} of {self.total} jobs{about}  {self.job}"
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width]:<{width}}", end="", flush=True)
        else:
            print(text, flush=True)

    def end(self, code: int, log: Path) -> None:
        """Say how it ended."""
        how = {0: "done", 130: "interrupted; what is finished is kept"}.get(code, f"failed, exit status {code}")
        self._put(f"{self._clock(time.monotonic() - self.since)}  {how}; all that Snakemake said: {log}")

    def _put(self, text: str) -> None:
        if self.is_terminal:
            print(f"\r{'':<{shutil.get_terminal_size().columns - 1}}\r", end="")
        print(text, flush=True)

    @staticmethod
    def _clock(seconds: float) -> str:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def main(command: list[str]) -> int:
    """Run a command; return its exit status."""
    log = Path("logs", "runs", f"{datetime.now():%Y-%m-%d-%H%M%S}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    shown = Shown()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Snakemake gets it, too, and ends its jobs
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process,
    ):
        ended = threading.Event()
        clock = threading.Thread(target=shown.keep_time, args=(ended,), daemon=True)
        clock.start()
        for line in process.stdout or ():  # as bytes: a carriage return ends no line
            file.write(line)
            file.flush()
            shown.line(line.decode(errors="replace").rstrip("\n"))
        ended.set()
        clock.join()
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    shown.end(code, log)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
