"""What is not marked slow stays fast: it may not start the programs, nor run the steps, that take seconds."""

import subprocess
import sys

import pytest

from certsmooth.experiment.cli import main
from factories import ROOT


def test_no_program_is_started():
    with pytest.raises(AssertionError, match=r"test_no_program_is_started runs python.*; must be marked slow$"):
        subprocess.run([sys.executable, "-c", ""], check=True)
    subprocess.run(["true"], check=True)


def test_no_step_that_computes_is_run():
    with pytest.raises(AssertionError, match=r"runs train; must be marked slow$"):
        main(["train", "digits/gaussian/sigma=0.25/seed=0/default", "--params", str(ROOT / "params.yaml")])


@pytest.mark.slow
def test_what_is_marked_slow_may_do_both():
    subprocess.run([sys.executable, "-c", ""], check=True)
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
