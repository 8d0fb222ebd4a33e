"""DVC for a team: two kinds of remote, what a change moves, experiments, and transfers that are killed."""

import csv
import io
import json
import re
import shutil
import time
from pathlib import Path

import boto3
import pandas as pd
import pytest
import yaml
from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides
from moto.server import ThreadedMotoServer

from certsmooth.errors import ConfigError
from certsmooth.experiment.config import parse_params, read_params
from factories import ROOT, needs_git, shipped_content
from workflow_project import TARGETS, call, edit, kill_all, planned, start

pytestmark = [pytest.mark.workflow, needs_git]

SECRET = "a secret that only this machine knows"


class Bucket:
    """A bucket on an S3-compatible server, and how a project finds it."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        keys = {"aws_access_key_id": "certsmooth", "aws_secret_access_key": SECRET}
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        self.client.create_bucket(Bucket="team")

    def add_to(self, folder):
        call(folder, "dvc", "remote", "add", "--default", "s3", "s3://team/certsmooth")
        call(folder, "dvc", "remote", "modify", "s3", "endpointurl", self.endpoint)

    def give_credentials(self, folder):
        call(folder, "dvc", "remote", "modify", "--local", "s3", "access_key_id", "certsmooth")
        call(folder, "dvc", "remote", "modify", "--local", "s3", "secret_access_key", SECRET)

    def objects(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="team")
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


@pytest.fixture
def bucket():
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield Bucket("http://{}:{}".format(*server.get_host_and_port()))
    server.stop()


def git_clone(source, target):
    call(target.parent, "git", "clone", "--quiet", str(source), str(target))
    return target


def objects(store):
    """Hashes in a cache or in a remote on a plain folder."""
    return {"".join(path.parts[-2:]) for path in (store / "files" / "md5").glob("??/*")}


def remote(folder):
    return Path(call(folder, "dvc", "config", "remote.plain.url").strip())


def manifest(folder):
    """The file that each recorded hash belongs to: {path: hash}, and the hashes of the listings of the outs."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"].values()
    outs = [out for stage in stages for out in stage["outs"]]
    files = {}
    for out in outs:
        listing = folder / ".dvc" / "cache" / "files" / "md5" / out["md5"][:2] / out["md5"][2:]
        files |= {f"{out['path']}/{entry['relpath']}": entry["md5"] for entry in json.loads(listing.read_text())}
    return files, {out["md5"] for out in outs}


def kill_when(condition, folder, *command):
    """Start a command; kill it as soon as a condition holds."""
    process = start(folder, *command)
    while not condition():
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.02)
    kill_all(folder, process)


def jobs_run(text):
    """Job counts by rule of what a run printed; without the page, which nobody shares."""
    rules = re.findall(r"^(?:local)?rule (\w+):", text, re.MULTILINE)
    return {rule: rules.count(rule) for rule in rules if rule not in ("page", *TARGETS)}


def test_an_s3_remote_gives_a_clone_all_of_it_also_after_transfers_that_were_killed(clone, bucket, tmp_path):
    bucket.add_to(clone)
    bucket.give_credentials(clone)
    files, listings = manifest(clone)
    hashes = {*files.values(), *listings}
    kill_when(lambda: len(bucket.objects()) >= 10, clone, "dvc", "push", "--jobs", "1")
    assert 10 <= len(bucket.objects()) < len(hashes)
    call(clone, "dvc", "push")
    assert bucket.objects() == {f"certsmooth/files/md5/{each[:2]}/{each[2:]}" for each in hashes}

    call(clone, "git", "commit", "--quiet", "--all", "--message", "an S3 remote")
    assert SECRET in (clone / ".dvc" / "config.local").read_text()
    assert ".dvc/config.local" not in call(clone, "git", "ls-files", "--cached", "--others", "--exclude-standard")
    other = git_clone(clone, tmp_path / "other")
    bucket.give_credentials(other)
    cache = other / ".dvc" / "cache"
    kill_when(lambda: len(objects(cache)) >= 10, other, "dvc", "pull", "--jobs", "1")
    assert 10 <= len(objects(cache)) < len(hashes)
    call(other, "dvc", "pull")
    assert planned(other) == {}
    assert all((other / name).read_bytes() == (clone / name).read_bytes() for name in files)


def test_a_change_of_one_parameter_moves_what_depends_on_it_and_experiments_show_its_effect(clone, tmp_path):
    colleague = git_clone(clone, tmp_path / "colleague")
    call(colleague, "dvc", "pull")
    shared = objects(remote(clone))
    before, _ = manifest(clone)

    change = "+methods.t-certify.certification.alpha=0.01"
    text = call(clone, "dvc", "exp", "run", "--name", "less-sure", "--set-param", change)
    assert jobs_run(text) == {"certify": 1, "certified": 1}
    table = json.loads(call(clone, "dvc", "metrics", "diff", "--json"))
    assert {name: {key.split(".")[0] for key in changes} for name, changes in table.items()} == {
        "results/metrics/table1.json": {"T-CERTIFY"}
    }
    acr = table["results/metrics/table1.json"]["T-CERTIFY.acr"]
    assert acr["new"] == pytest.approx(acr["old"] + acr["diff"])
    assert acr["diff"] > 0  # the same counts, and a larger alpha
    shown = list(csv.DictReader(io.StringIO(call(clone, "dvc", "exp", "show", "--csv", "--only-changed"))))
    shown = {row["Experiment"] or row["rev"]: float(row["T-CERTIFY.acr"]) for row in shown}
    branch = call(clone, "git", "branch", "--show-current").strip()
    assert shown == pytest.approx({"workspace": acr["new"], "less-sure": acr["new"], branch: acr["old"]})
    check_plots(clone)

    call(clone, "git", "commit", "--quiet", "--all", "--message", "alpha = 0.01")
    call(clone, "dvc", "push")
    after, listings = manifest(clone)
    changed = {name for name in after if after[name] != before.get(name)}
    assert after.keys() == before.keys()
    assert changed
    of_row = r"certificates/digits/t-certify/|(tables/(figures/(p_a/)?)?|metrics/|plots/)table1\."
    metadata = r"(certificates|tables)/\.metadata/"
    assert all(re.match(rf"results/({of_row}|{metadata})", name) for name in changed)
    moved = {after[name] for name in changed} | listings
    assert objects(remote(clone)) - shared == moved - shared
    assert len(moved) < len(before) / 5

    cached = objects(colleague / ".dvc" / "cache")
    call(colleague, "git", "pull", "--quiet")
    call(colleague, "dvc", "pull")
    assert objects(colleague / ".dvc" / "cache") - cached == moved - cached
    assert planned(colleague) == {}


@pytest.fixture
def shipped(tmp_path):
    """A copy of params.yaml and its library."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("n=123", "datasets.digits.certification.n", 123),
        ("alpha=1e-3", "datasets.digits.certification.alpha", 0.001),
        ("sigmas=[0.25,1]", "datasets.digits.sigmas", [0.25, 1]),
        ("dataset=mnist", "dataset", "mnist"),
        ("training_seeds=[0,1]", "training_seeds", [0, 1]),
        ("+datasets.digits.certification.n=123", "datasets.digits.certification.n", 123),
        ("+methods.t-certify.certification.n=123", "methods.t-certify.certification.n", 123),
        ("+methods.yang-ds.policy.options.step=1e-05", "methods.yang-ds.policy.options.step", 1e-05),
        ("+tables.table1.baseline=cohen-ds", "tables.table1.baseline", "cohen-ds"),
        ("+toy.sigma=0.5", "toy.sigma", 0.5),
        ("config/methods.yaml:methods.macer-ds2.label=Another", "methods.macer-ds2.label", "Another"),
        ("config/datasets/digits.yaml:datasets.digits.certification.n=9", "datasets.digits.certification.n", 9),
    ],
)
def test_set_param_changes_one_value_of_the_shipped_configuration(shipped, monkeypatch, override, path, value):
    """What `dvc exp run --set-param` does to the files, and what certsmooth then reads; no entry is like these."""
    monkeypatch.chdir(shipped)
    before = written_files(shipped)
    expected = shipped_content()
    *sections, last = path.split(".")
    here = expected
    for section in sections:
        here = here.setdefault(section, {})
    here[last] = value
    file, _, change = override.rpartition(":")
    file = file or "params.yaml"
    apply_overrides(file, [change])
    params = read_params(Path("params.yaml"))
    assert params == parse_params(expected)
    if last == "step":
        assert repr(params.methods["yang-ds"].policy.options["step"]) == "1e-05"
    after = written_files(shipped)
    assert {name for name in after if after[name] != before[name]} == {file}
    assert (shipped / file).read_text().startswith("# yaml-language-server: $schema=")


def written_files(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.yaml")}


@pytest.mark.parametrize("override", ["datasets.digits.certification.n=123", "nn=3"])
def test_set_param_adds_a_key_only_with_a_plus(shipped, override):
    with pytest.raises(InvalidArgumentError):
        apply_overrides(shipped / "params.yaml", [override])
    assert (shipped / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+nn=3", "unknown key nn; did you mean 'n'?"),
        ("+datasets.digits.certification.nn=3", "unknown key datasets.digits.certification.nn; did you mean 'n'?"),
        ("+datasets.digts.certification.n=3", "datasets.digts: incomplete, and not in config/; did you mean 'digits'?"),
        ("+methods.cohn.label=x", "methods.cohn: incomplete, and not in config/; did you mean 'cohen'?"),
        ("n=1e3", "n: 1000.0; must be a whole number: 1000"),
    ],
)
def test_an_override_that_means_no_key_is_refused(shipped, override, words):
    apply_overrides(shipped / "params.yaml", [override])
    with pytest.raises(ConfigError) as caught:
        read_params(shipped / "params.yaml")
    assert f"params.yaml: {words}" in str(caught.value)


def check_plots(folder):
    """`dvc plots diff` draws each row of each table, before and after."""
    call(folder, "dvc", "plots", "diff")
    page = (folder / "dvc_plots" / "index.html").read_text()
    rows = {path.stem: set(pd.read_csv(path)["row"]) for path in folder.glob("results/plots/*.csv")}
    assert {"Cohen", "Cohen-DS", "Cohen-DS2", "T-CERTIFY"} == rows["table1"]
    specifications = [json.loads(text) for text in re.findall(r"var spec = (\{.*\});", page)]
    drawn = [{(point["row"], point["rev"]) for point in each["data"]["values"]} for each in specifications]
    both = ("HEAD", "workspace")
    assert sorted(map(sorted, drawn)) == sorted(
        sorted((row, rev) for row in each for rev in both) for each in rows.values()
    )


def test_checkpoints_alone_leave_what_follows_them_to_do(project, tmp_path):
    folder = git_clone(project, tmp_path / "clone")
    call(folder, "dvc", "pull", "results/data", "results/checkpoints")
    pulled = [path for path in folder.glob("results/**/*") if path.is_file()]
    assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in pulled)  # edited, it would spoil the cache
    rules = planned(folder).keys()
    assert "sample" in rules
    assert not rules & {"data", "train", "label"}
    edit(folder, lambda params: params["datasets"]["digits"]["recipe"].update(epochs=3))
    assert planned(folder)["train"] == 5  # of them, what made a checkpoint came with it


def test_certificates_alone_are_enough_for_a_table(project, tmp_path):
    folder = git_clone(project, tmp_path / "clone")
    call(folder, "dvc", "pull", "results/certificates", "results/data")
    assert planned(folder, "results/tables/table1.md") == {"certified": 1}
    edit(folder, lambda params: params["methods"]["t-certify"].update(certification={"alpha": 0.01}))
    assert "certify" in planned(folder, "results/tables/table1.md")  # what made them came with them


def test_the_stages_are_a_pipeline_whose_end_can_be_chosen(clone):
    edges = set(re.findall(r'"(\w+)" -> "(\w+)"', call(clone, "dvc", "dag", "--dot")))
    assert {("data", "train"), ("train", "sample"), ("sample", "certify"), ("certify", "report")} <= edges
    edit(clone, lambda params: params["methods"]["t-certify"].update(certification={"alpha": 0.01}))
    text = call(clone, "dvc", "repro", "certify")
    assert re.findall(r"^Running stage '(\w+)'", text, re.MULTILINE) == ["data", "train", "sample", "certify"]
    assert jobs_run(text) == {"certify": 1}
    text = call(clone, "dvc", "repro")
    assert re.findall(r"^Running stage '(\w+)'", text, re.MULTILINE) == ["report"]
    assert "certify" not in jobs_run(text)
    assert planned(clone) == {}


def test_what_snakemake_made_is_seen_and_recorded(clone):
    assert "up to date" in call(clone, "dvc", "status")
    edit(clone, lambda params: params["high_dimension"].update(rates=[0, 0.002]))
    assert jobs_run(call(clone, "snakemake", "--cores", "1")) == {"high_dimension": 1}
    status = call(clone, "dvc", "status")
    for name in ("config", "results/tables"):
        assert re.search(rf"^\s+modified:\s+{re.escape(name)}$", status, re.MULTILINE)
    text = call(clone, "dvc", "repro")
    assert "Nothing to be done" in text
    assert jobs_run(text) == {}
    assert "up to date" in call(clone, "dvc", "status")
    assert planned(clone) == {}
