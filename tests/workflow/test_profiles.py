"""The profiles in workflow/profiles, as far as that can be told without a cluster."""

import re

import pytest
import yaml

from factories import ROOT
from workflow_project import call, copy_project, edit, only_table1

PROFILES = ROOT / "workflow" / "profiles"
TARGET = "results/checkpoints/digits/gaussian/sigma=0.25/seed=0/default/model.safetensors"
JOB = "    wildcards: dataset=digits, training=gaussian, sigma=0.25, seed=0, grid=default\n"
ENDS = {
    "time": "slurmstepd: error: *** JOB 7 ON node1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***\n",
    "memory": "slurmstepd: error: Detected 1 oom_kill event in StepId=9.0. Some tasks have been OOM Killed.\n",
    "error": "certsmooth: the disk is full\n",
}


def read(name):
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


def test_slurm_repeats_every_setting_of_default():
    assert read("default").items() <= read("slurm").items()


def test_apptainer_can_be_added_to_any_profile():
    assert not read("apptainer").keys() & (read("default") | read("slurm")).keys()


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    copy_project(folder)
    edit(folder, only_table1)
    return folder


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("earlier", "memory", "minutes"),
    [(["time"], 1, 2), (["memory"], 2, 1), (["error"], 1, 1), (["time", "error", "time", "memory"], 2, 4)],
)
def test_a_job_is_tried_again_with_more_of_what_it_ran_out_of(copy, earlier, memory, minutes):
    first = read("slurm")["set-resources"]["train"]
    folder = copy / "logs" / "slurm" / "rule_train" / "digits_gaussian_0.25_0_default"
    folder.mkdir(parents=True, exist_ok=True)
    for log in folder.iterdir():
        log.unlink()
    # An older run's log (6), one of another job (99), and numbers that are not in the order of names.
    for number, text in {6: JOB + ENDS["time"], 99: JOB.replace("0.25", "0.5") + ENDS["time"]}.items():
        (folder / f"{number}.log").write_text(text)
    for number, end in enumerate(earlier, start=9):
        (folder / f"{number}.log").write_text(JOB + ENDS[end])
    options = ("--profile", "workflow/profiles/slurm", "--dry-run", "--attempt", str(len(earlier) + 1))
    text = call(copy, "snakemake", *options, TARGET)
    asked = re.search(
        r"^rule train:\n(?:    .*\n)*?    resources: .*mem_mb=(\d+),.* runtime=(\d+),", text, re.MULTILINE
    )
    assert [int(number) for number in asked.groups()] == [memory * first["mem_mb"], minutes * first["runtime"]]


@pytest.mark.workflow
def test_a_home_folder_that_cannot_be_written(copy, tmp_path):
    """Not even by root: it would lie in a file."""
    (tmp_path / "file").touch()
    home = ("env", "-u", "XDG_CACHE_HOME", "-u", "MPLCONFIGDIR", f"HOME={tmp_path / 'file' / 'home'}")
    for options in ((), ("--profile", "workflow/profiles/slurm")):
        assert "rule train" in call(copy, *home, "snakemake", *options, "--dry-run", TARGET)
    call(copy, *home, "snakemake", "--cores", "1", "results/data/digits.json", "results/tables/idrs/table1.md")
    assert (copy / "results" / "data" / "digits.json").is_file()
    assert (copy / "results" / "tables" / "figures" / "idrs" / "figure2.svg").is_file()
    # Without the profile it takes the variable that docs/cluster.md names.
    bare = ("snakemake", "--workflow-profile", "none", "--dry-run", TARGET)
    assert "Not a directory" in call(copy, *home, *bare, ok=False)
    assert "rule train" in call(copy, *home, f"XDG_CACHE_HOME={tmp_path / 'cache'}", *bare)
