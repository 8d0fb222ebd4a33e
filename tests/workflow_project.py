"""A cut-down project: what the tests that run Snakemake and DVC for real share."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from certsmooth.experiment.library import read_content
from factories import ROOT, plain_yaml

SHIPPED = (
    "Snakefile",
    "workflow",
    "profiles",
    "params.yaml",
    "config",
    "published",
    "models",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/plots",
    ".dvcignore",
    ".gitignore",
    "src",
)


def call(folder, *command, ok=True):
    """Run a command in a folder; return what it printed."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 900}
    result = subprocess.run(command, cwd=folder, env=_environment(), **options)
    assert (result.returncode == 0) == ok, result.stdout[-4000:]
    return result.stdout


def _environment():
    """With the programs of this environment, and an author of commits."""
    names = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return os.environ | names | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def copy_project(folder):
    """Copy what the project ships, and make it a git repository."""
    for name in SHIPPED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    call(folder, "git", "init", "--quiet")


def edit(folder, change):
    """Change what params.yaml and its library say: ``change`` gets both as the content of one params.yaml.

    Each section then is one file of the library, and params.yaml holds the rest.
    """
    path, library = folder / "params.yaml", folder / "config"
    params = read_content(path).whole()
    change(params)
    shutil.rmtree(library)
    library.mkdir()
    for section in LIBRARY & {name for name in params if params[name] is not None}:
        (library / f"{section}.yaml").write_text(plain_yaml({section: params[section]}))
    path.write_text(plain_yaml({key: value for key, value in params.items() if key not in LIBRARY}))


TARGETS = ("all", "datasets", "checkpoints", "counts", "certificates")  # of the stages of dvc.yaml
LIBRARY = {"datasets", "trainings", "methods", "modifiers", "tables", "toy", "pictures", "high_dimension"}
TABLES = {"certified": ("table1", "smoothadv_table2"), "empirical": ("empirical",), "accuracy": ("toy",)}
TABLES |= {"soundness": ("soundness",)}


def cut_down(params):
    datasets, methods = params["datasets"], params["methods"]
    for name in ("digits", "cones-2"):
        datasets[name]["recipe"] |= {"epochs": 2, "adaptive_from_epoch": 1}
        datasets[name]["certification"] |= {"n": 200}
    datasets["digits"]["sigmas"] = [0.25]
    datasets["digits"]["certification"]["shards"] = 2
    for method in ("cohen-ds", "cohen-ds2"):
        methods[method]["policy"]["options"]["iterations"] = [2]
    tables = params["tables"] = {name: params["tables"][name] for names in TABLES.values() for name in names}
    tables["table1"]["methods"].append("t-certify")  # from the counts of cohen
    tables["empirical"] |= {"methods": ["cohen"], "stride": 60}
    tables["empirical"]["settings"]["digits"]["radii"] = [0, 0.2]
    # A start and a teacher, and the certificates of one row.
    tables["smoothadv_table2"] |= {"methods": ["smoothadv-both"], "baseline": "smoothadv-both"}
    params["trainings"]["smoothadv-both"]["objective"]["options"]["epsilon"] = 0.25
    # One classifier in the plane for a table of accuracy and the toy figures; a sigma(x) that jumps.
    methods["border"]["training"] = "standard"
    datasets["cones-2"]["methods"]["border"]["policy"]["rate"] = float("inf")
    tables["toy"] |= {"methods": ["toy-cohen", "toy-idrs-equal", "border"], "datasets": ["cones-2"]}
    params["toy"] |= {"dataset": "cones-2", "sigma": 0.5}
    predict = {"n": 100, "alpha": 0.001}
    tables["soundness"] |= {"methods": ["cohen-ds"], "predict": predict, "stride": 60, "shuffles": 2}
    params["high_dimension"]["rates"] = [0, 0.001]


def make_project(folder):
    """Make every table of a cut-down project with `dvc repro`, commit it, and push it to a remote on a folder."""
    copy_project(folder)
    edit(folder, cut_down)
    remote = folder.with_name(f"remote-of-{folder.name}")
    remote.mkdir()
    call(folder, "dvc", "remote", "add", "--default", "plain", str(remote))
    call(folder, "dvc", "repro")
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message", "made")
    call(folder, "dvc", "push")


def make_clone(project, folder):
    """Clone a project, and pull its artefacts."""
    call(project, "git", "clone", "--quiet", str(project), str(folder))
    call(folder, "dvc", "pull")


def start(folder, *command):
    """Start a command in the background; what it prints goes to ``out.txt``."""
    with (folder / "out.txt").open("w") as file:
        return subprocess.Popen(command, cwd=folder, env=_environment(), stdout=file, stderr=file)


def kill_all(folder, process):
    """Kill a command and all that it started, as a batch system or a lack of memory does."""
    process.kill()
    while running := [entry for entry in Path("/proc").glob("[0-9]*") if _works_in(entry, folder)]:
        for entry in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
        process.poll()
    process.wait()


def _works_in(entry, folder):
    try:
        return (entry / "cwd").readlink() == folder.resolve()
    except OSError:  # it has ended, or is another user's
        return False


def planned(folder, *targets):
    """Job counts by rule of a dry run; without targets: of everything."""
    return planned_in(call(folder, "snakemake", "--dry-run", *targets))


def planned_in(text):
    """Job counts by rule of what a dry run printed; without the page, which nobody shares."""
    jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}
    assert bool(jobs) != ("Nothing to be done" in text)
    return {rule: n for rule, n in jobs.items() if rule not in ("total", "page", *TARGETS)}


def only_table1(params):
    """Cut down further: to table1 (and what needs no data)."""
    cut_down(params)
    params["tables"] = {"table1": params["tables"]["table1"]}
    params["toy"] = params["pictures"] = params["high_dimension"] = None
