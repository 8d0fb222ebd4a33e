"""Table 1 through a real Slurm, with what goes wrong on one: `make test-slurm`."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from certsmooth.artefacts.certificates import read_certificates
from certsmooth.experiment.specs import counts_path
from slurm_cluster import cluster, slurm, wait_for
from workflow_project import call, copy_project, edit, only_table1, planned

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

TABLE = "results/table1.md"
LOG = "results/checkpoints/digits/gaussian-ds/sigma=0.25/seed=0/default/training.csv"
PROFILE = ("--profile", "workflow/profiles/slurm")
PATIENCE = 600  # seconds for one step of the story, on a busy machine


def two_methods(params):
    """Two trainings of a few seconds; four shards of Cohen's counts that take long enough to be hit."""
    only_table1(params)
    params["datasets"]["digits"]["certification"]["shards"] = 4
    params["tables"]["table1"]["methods"] = ["cohen", "cohen-ds2"]
    params["datasets"]["digits"]["recipe"] |= {"epochs": 20, "adaptive_from_epoch": 10}
    params["methods"]["cohen"]["certification"] = {"n": 2000}
    params["methods"]["cohen-ds2"]["policy"]["options"]["iterations"] = [2]


def of_this_cluster(profile):
    """What a user changes: no accounting and no GPUs; and one training that asks for too little of everything."""
    profile["slurm-status-command"] = "squeue"
    for resources in profile["set-resources"].values():
        resources |= {"gpu": 0, "cpus_per_task": 1, "mem_mb": 2500, "runtime": 20}
    profile["set-resources"]["train"] |= {
        "mem_mb": "600 if wildcards.training == 'gaussian-ds' else 2500",
        "runtime": "1 if wildcards.training == 'gaussian-ds' else 20",
    }
    profile["retries"] = 3
    waits = {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 2, "latency-wait": 5}
    profile |= waits


def make_copy(folder):
    folder.mkdir()
    copy_project(folder)
    edit(folder, two_methods)
    path = folder / "workflow" / "profiles" / "slurm" / "config.yaml"
    profile = json.loads(json.dumps(yaml.safe_load(path.read_text())))  # parts that are one in the file, apart
    of_this_cluster(profile)
    path.write_text(yaml.safe_dump(profile))
    return folder


@contextmanager
def started(folder, *options):
    """Run snakemake beside the test; what it prints goes to run.log."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with (folder / "run.log").open("w") as log:
        process = subprocess.Popen(
            ("snakemake", *options), cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(30)
                finally:
                    process.kill()


def steps(folder, verb):
    """The running processes `certsmooth VERB` of a project, with the file that each makes."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if command[2:3] == [verb] and Path(command[1]).name == "certsmooth" and process.cwd() == str(folder):
                found[folder / "results" / made_by(verb, command)] = process
        except psutil.Error:  # it ended meanwhile
            continue
    return found


def made_by(verb, command):
    """The file that a command makes, below the folder of the results."""
    if verb == "sample":
        return counts_path(command[3], *command[command.index("--shard") + 1].split("/"))
    return Path("checkpoints", command[3], "model.safetensors")


def job_of(process):
    environment = process.environ()
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment["SLURM_JOB_ID"]


def journal(output):
    """Seconds of each image that is finished, as the journal beside the counts has them."""
    entries = [json.loads(line[9:]) for path in journals(output) for line in path.read_text().splitlines()[:-1]]
    return [entry["seconds"] for entry in entries if "seconds" in entry]


def journals(output):
    return list(output.parent.glob(f".{output.name}.*.journal"))


def sampling_under_way(folder):
    """Halt a job that has sampled some images of Cohen's counts and is at work; return it and its counts file."""
    for output, process in steps(folder, "sample").items():
        if "cohen/" in str(output) and process.status() != psutil.STATUS_STOPPED and len(journal(output)) >= 5:
            process.suspend()
            return output, process
    return None


def jobs(rule):
    """What Slurm knows of the jobs of a rule, in the order of submission."""
    text = slurm("scontrol", "show", "job", "--oneliner")
    found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines() if f"Comment=rule_{rule}_" in line]
    return sorted(found, key=lambda job: int(job["JobId"]))


class Story:
    """One run of Table 1 through Slurm and what was done to it.

    Attributes:
        folder: the project.
        local: the same, made without Slurm.
        epochs: the log of the training that was halted, at that time.
        finished: per fault, a counts file and the seconds of the images that it had before.
        train, sample: what Slurm knows of the jobs.
    """

    def __init__(self, folder, local):
        self.folder, self.local, self.epochs, self.finished = folder, local, "", {}
        self.faults = {"scancel": self.cancel_job, "SIGKILL": self.kill_process, "node down": self.take_node_down}
        with started(folder, *PROFILE, TABLE) as self.process:
            self.until("all faults", self.next_fault)
            with started(local, "--cores", "2", TABLE) as reference:
                assert reference.wait(PATIENCE) == 0, (local / "run.log").read_text()[-4000:]
            assert self.process.wait(PATIENCE) == 0, (folder / "run.log").read_text()[-4000:]
        self.train, self.sample = jobs("train"), jobs("sample")

    def until(self, what, condition):
        def holds():
            assert self.process.poll() is None, (self.folder / "run.log").read_text()[-4000:]
            return condition()

        return wait_for(what, holds, PATIENCE)

    def next_fault(self):
        """Do what can be done now; tell whether all is done."""
        if not self.epochs:
            self.halt_training()
        name = next((name for name in self.faults if name not in self.finished), None)
        if name and (found := sampling_under_way(self.folder)):
            output, process = found
            self.finished[name] = output, journal(output)
            self.faults[name](process)
        return self.epochs and not name

    def halt_training(self):
        """The second training hangs after some epochs, until its time is over."""
        log = self.folder / LOG
        if log.exists() and len(text := log.read_text().splitlines(keepends=True)) > 3:
            for output, process in steps(self.folder, "train").items():
                if output.parent == log.parent:
                    process.suspend()
                    self.epochs = "".join(text[:4])

    def cancel_job(self, process):
        slurm("scancel", job_of(process))

    def kill_process(self, process):
        process.kill()

    def take_node_down(self, process):
        job = job_of(process)
        node = slurm("squeue", "--noheader", "--job", job, "--format=%N").strip()
        slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        self.until("job queued again", lambda: "PENDING" in slurm("squeue", "--noheader", "--job", job, "--format=%T"))
        slurm("scontrol", "update", f"nodename={node}", "state=resume")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm")):
        folder = tmp_path_factory.mktemp("projects")
        yield Story(make_copy(folder / "cluster"), make_copy(folder / "local"))
    kill_what_is_left(folder)


def kill_what_is_left(folder):
    """Kill the Snakemakes of jobs that were killed below them: without Slurm, nothing ends them."""
    for process in psutil.process_iter():
        try:
            if any(str(folder) in argument for argument in process.cmdline()):
                process.kill()
        except psutil.Error:  # it ended meanwhile
            continue


def made(folder, pattern):
    return {path.relative_to(folder): path for path in (folder / "results").glob(pattern)}


@pytest.mark.parametrize(
    "pattern",
    ["tables/table1.csv", "metrics/*.json", "plots/*.csv", "counts/**/*.parquet", "checkpoints/**/*.safetensors"],
)
def test_files_are_those_of_a_local_run(story, pattern):
    here, there = (made(folder, pattern) for folder in (story.folder, story.local))
    assert here.keys() == there.keys() != set()
    for name in here:
        assert here[name].read_bytes() == there[name].read_bytes()


def test_certificates_are_those_of_a_local_run(story):
    here, there = (made(folder, "certificates/**/*.parquet") for folder in (story.folder, story.local))
    assert here.keys() == there.keys() != set()
    for name in here:
        parts, others = read_certificates(here[name]), read_certificates(there[name])
        assert [part.spec for part in parts] == [other.spec for other in others]
        for part, other in zip(parts, others, strict=True):
            one, another = (each.frame.drop(columns="time") for each in (part, other))
            pd.testing.assert_frame_equal(one, another, check_exact=True)


def test_exported_certificates_are_those_of_a_local_run(story):
    here, there = (made(folder, "certificates/**/*.tsv") for folder in (story.folder, story.local))
    assert here.keys() == there.keys() != set()
    for name in here:
        one, other = (pd.read_csv(path, sep="\t").drop(columns="time") for path in (here[name], there[name]))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_nothing_is_to_be_done_where_the_results_are(story):
    assert planned(story.folder, TABLE) == {}


def test_shards_are_submitted_as_arrays(story):
    arrays = [job["ArrayJobId"] for job in story.sample if "ArrayJobId" in job]
    assert len(arrays) >= 8
    assert len(set(arrays)) <= len(arrays) // 2


@pytest.mark.parametrize("fault", ["scancel", "SIGKILL", "node down"])
def test_finished_images_outlive(story, fault):
    output, before = story.finished[fault]
    parts = json.loads(output.with_suffix(".log.json").read_text())["parts"]
    after = [seconds for part in parts for seconds in part["seconds"]]
    assert len(before) >= 5
    assert set(before) < set(after), "an image that is sampled again takes another time"
    assert journals(output) == []


def test_each_fault_was_the_one_meant(story):
    states = [job["JobState"] for job in story.sample]
    assert states.count("CANCELLED") == 1
    assert states.count("FAILED") == 1
    assert [job["Restarts"] for job in story.sample if job["Restarts"] != "0"] == ["1"]
    assert states.count("COMPLETED") == 8


def test_more_memory_after_running_out_of_it_and_more_time_after_the_limit(story):
    asked = [job for job in story.train if "gaussian-ds" in job["Comment"]]
    states = [job["JobState"] for job in asked]
    assert "FAILED" in states, "out of memory: this Slurm ends the step, and says why in the log only"
    assert states.count("TIMEOUT") == states.count("COMPLETED") == 1
    for number, job in enumerate(asked):
        assert job["MinMemoryNode"] == f"{600 * 2 ** states[:number].count('FAILED')}M"
        assert job["TimeLimit"] == f"00:0{2 ** states[:number].count('TIMEOUT')}:00"


def test_neither_after_another_failure(story):
    assert {job["TimeLimit"] for job in story.sample} == {"00:20:00"}
    assert {int(job["MinMemoryNode"][:-1]) // 10 for job in story.sample} == {250}  # the plugin adds 1 for an array


def test_a_training_over_its_time_limit_goes_on_after_its_last_epoch(story):
    log = (story.folder / LOG).read_text()
    assert log.startswith(story.epochs), "an epoch that is trained again takes another time"
    assert len(log.splitlines()) == 21


def test_no_jobs_are_left(story):
    assert slurm("squeue", "--noheader") == ""


def test_a_limit_on_jobs_is_refused_where_it_would_wait_for_ever(story):
    text = call(story.folder, "snakemake", *PROFILE, "--jobs", "1", "--forcerun", "sample", "--", TABLE, ok=False)
    assert "--jobs 1: job arrays would never be submitted" in text
