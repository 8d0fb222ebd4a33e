"""A cut-down project: what the tests that run Snakemake and DVC for real share."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from certsmooth.experiment.like import written_out

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = (
    "Snakefile",
    "workflow",
    "profiles",
    "params.yaml",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/plots",
    ".dvcignore",
    ".gitignore",
    "src",
)


def call(folder, *command, ok=True):
    """Run a command in a folder; return what it printed."""
    bin_folder = Path(sys.executable).parent
    names = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | names | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
    assert (result.returncode == 0) == ok, result.stdout[-4000:]
    return result.stdout


def copy_project(folder):
    """Copy what the project ships, and make it a git repository."""
    for name in SHIPPED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    call(folder, "git", "init", "--quiet")


def edit(folder, change):
    """Change params.yaml in place."""
    path = folder / "params.yaml"
    # Through JSON: entries that are like others are edited apart.
    params = json.loads(json.dumps(written_out(yaml.safe_load(path.read_text()))))
    change(params)
    path.write_text(plain_yaml(params))


def plain_yaml(content):
    """Return content as YAML in which nothing stands for something else, whatever it shares."""
    return yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, allow_unicode=True)


TABLES = ("table1", "smoothadv_table2")
IDRS = ("toy", "table1", "imagenet")


def cut_down(params):
    datasets, methods = params["datasets"], params["methods"]
    for name in ("digits", "digits-half-labelled", "cones-2"):
        datasets[name]["recipe"] |= {"epochs": 2, "adaptive_from_epoch": 1}
        datasets[name]["certification"] |= {"n": 200}
    for name in ("digits", "digits-half-labelled"):
        datasets[name]["sigmas"] = [0.25]
        datasets[name]["certification"]["shards"] = 2
    for method in ("cohen-ds", "cohen-ds2"):
        methods[method]["policy"]["options"]["iterations"] = [2]
    params["tables"] = {name: params["tables"][name] for name in TABLES}
    params["tables"]["table1"]["methods"].append("t-certify")  # from the counts of cohen
    params["attacks"]["empirical"] |= {"methods": ["cohen"], "stride": 60}
    params["attacks"]["empirical"]["settings"]["digits"]["radii"] = [0, 0.2]
    # A start and a teacher, and the certificates of one row.
    params["tables"]["smoothadv_table2"] |= {"methods": ["smoothadv-both"], "baseline": "smoothadv-both"}
    params["trainings"]["smoothadv-both"]["objective"]["options"]["epsilon"] = 0.25
    # One classifier in the plane for a table of idrs and the toy figures; a sigma(x) that jumps.
    methods["border"]["training"] = "standard"
    datasets["cones-2"]["methods"]["border"]["policy"]["rate"] = float("inf")
    rows = {"methods": ["toy-cohen", "toy-idrs-equal", "border"], "datasets": ["cones-2"]}
    params["idrs"] = {"toy": params["idrs"]["toy"] | rows}
    params["toy"] |= {"dataset": "cones-2", "sigma": 0.5}
    predict = {"n": 100, "alpha": 0.001}
    params["soundness"]["soundness"] |= {"methods": ["cohen-ds"], "predict": predict, "stride": 60, "shuffles": 2}
    params["high_dimension"]["rates"] = [0, 0.001]


def make_project(folder, remote):
    """Make every table of a cut-down project with `dvc repro`, commit it, and push it to a remote on a folder."""
    copy_project(folder)
    edit(folder, cut_down)
    call(folder, "dvc", "remote", "add", "--default", "plain", str(remote))
    call(folder, "dvc", "repro")
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message", "made")
    call(folder, "dvc", "push")


def planned(folder, *targets):
    """Job counts by rule of a dry run; without targets: of everything."""
    text = call(folder, "snakemake", "--dry-run", *targets)
    jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}
    assert bool(jobs) != ("Nothing to be done" in text)
    return {rule: n for rule, n in jobs.items() if rule not in ("all", "total")}


def only_table1(params):
    """Cut down further: to table1 (and what needs no data)."""
    cut_down(params)
    params["tables"] = {"table1": params["tables"]["table1"]}
    params |= {"attacks": {}, "idrs": {}, "soundness": {}}
    params["toy"] = params["high_dimension"] = None
