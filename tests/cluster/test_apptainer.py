"""The image: built from the shipped definition, tested, and used for Table 1: `make test-apptainer`."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.checkpoint import load
from factories import ROOT
from slurm_cluster import cluster, slurm
from workflow_project import call, copy_project, edit, only_table1, planned

pytestmark = pytest.mark.apptainer

INSTALLER = Path(__file__).parent / "apptainer" / "install.sh"
IMAGE = "containers/certsmooth.sif"
TABLE = "results/table1.md"
IN_IMAGE = ("--profile", "workflow/profiles/apptainer")
RUN = "digits/cohen/seed=0"
CERTIFICATES = f"results/certificates/{RUN}.parquet"
COUNTS_LOG = f"results/counts/{RUN}/0-of-2.log.json"
CHECKPOINT = "results/checkpoints/digits/gaussian/sigma=0.25/seed=0/default/model.safetensors"


@pytest.fixture(scope="module")
def build_options(tmp_path_factory):
    """Make sure that there is an Apptainer that can build; return the options that this machine needs, or skip."""
    if subprocess.run(("unshare", "--user", "--map-root-user", "--mount", "true"), capture_output=True).returncode:
        pytest.skip("this machine allows no user namespaces")
    mirror = debian_mirror()
    with pytest.MonkeyPatch.context() as patch:
        if not shutil.which("apptainer"):
            if os.geteuid() != 0:
                pytest.skip("apptainer is not installed, and installing it takes root")
            if mirror is None:
                pytest.skip("apptainer is not installed, and apt-get knows no mirror of Debian to take it from")
            prefix = tmp_path_factory.mktemp("apptainer")
            prefix.chmod(0o755)
            call(prefix, "bash", str(INSTALLER), str(prefix / "apptainer"), mirror)
            patch.setenv("PATH", f"{prefix}/apptainer/bin{os.pathsep}{os.environ['PATH']}")
        patch.setenv("APPTAINER_TMPDIR", str(tmp_path_factory.mktemp("build")))
        options = []
        if os.geteuid() == 0:  # of a container, perhaps: not all that Apptainer expects of root
            patch.setenv("APPTAINER_USERNS", "1")
            options.append("--fakeroot")
        if mirror is not None and shutil.which("debootstrap"):  # else a registry
            options += ["--build-arg", "BOOTSTRAP=debootstrap", "--build-arg", f"MIRROR={mirror}"]
        yield options


def debian_mirror():
    """The mirror of Debian that this machine's apt-get uses; None without any."""
    if not shutil.which("apt-get"):
        return None
    command = ("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Label: Debian")
    sites = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return sites[0] if sites else None


def new_project(folder):
    """Table 1 cut down to a constant sigma and one per image, in a git repository of its own."""
    folder.mkdir()
    copy_project(folder)
    edit(folder, two_methods)
    return folder


def two_methods(params):
    only_table1(params)
    params["tables"]["table1"]["methods"] = ["cohen", "cohen-ds"]


@pytest.fixture(scope="module")
def built(tmp_path_factory, build_options):
    """A project whose image was built by `make image`, as CI and users do it."""
    folder = new_project(tmp_path_factory.mktemp("image") / "project")
    for name in ("LICENSE", "Makefile", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "containers", folder / "containers", ignore=shutil.ignore_patterns("*.sif*"))
    call(folder, "git", "add", "--all")
    call(folder, "git", "commit", "--quiet", "--message", "shipped")
    call(folder, "make", "image", f"APPTAINER_BUILD=--notest {' '.join(build_options)}")
    assert call(folder, "git", "status", "--porcelain") == ""  # the image is ignored
    yield folder
    (folder / IMAGE).unlink()  # 3 GB


@pytest.fixture(scope="module")
def record(built):
    """What the image says of itself."""
    return json.loads(call(built, "apptainer", "--silent", "exec", IMAGE, "cat", "/opt/certsmooth/image.json"))


@pytest.fixture(scope="module")
def made(built):
    """Table 1, made in the image."""
    call(built, "snakemake", *IN_IMAGE, "--cores", "all", TABLE)
    return built


def test_the_image_is_whole_and_says_what_it_is(built, record):
    call(built, "apptainer", "test", IMAGE)  # against the lock, among others: containers/selftest.py
    labels = json.loads(call(built, "apptainer", "--silent", "inspect", "--json", IMAGE))
    labels = labels["data"]["attributes"]["labels"]
    commit = call(built, "git", "rev-parse", "HEAD").strip()
    definition = hashlib.sha256((built / "containers" / "certsmooth.def").read_bytes()).hexdigest()
    assert labels["org.opencontainers.image.revision"] == record["commit"] == commit
    assert labels["certsmooth.definition"] == record["definition"] == f"sha256:{definition}"
    assert labels["org.opencontainers.image.version"] == record["packages"]["certsmooth"]
    assert record["packages"]["debian:libc6"]


def test_only_the_images_packages_are_used_and_no_home_is_needed(built, tmp_path, monkeypatch):
    for name in ("elsewhere", ".local/lib/python3.11/site-packages"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "certsmooth.py").write_text("raise SystemExit('not the image')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    code = "import certsmooth, matplotlib.pyplot; print(certsmooth.__file__)"
    homes = (["--home", str(tmp_path)], ["--no-home", "--containall"])
    for home in homes:
        found = call(built, "apptainer", "--silent", "exec", *home, IMAGE, "python", "-c", code)
        assert found.splitlines()[-1].startswith("/opt/certsmooth/")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".local", "elsewhere"]


def test_the_numbers_are_those_of_a_run_outside(made, tmp_path):
    outside = new_project(tmp_path / "outside")
    call(outside, "snakemake", "--cores", "all", TABLE)
    for name in ("table1.csv", "figures/table1.svg"):
        assert (made / "results" / "tables" / name).read_bytes() == (outside / "results" / "tables" / name).read_bytes()
    assert numbers(made) == numbers(outside)
    assert [part.provenance["image"] for part in read_certificates(outside / CERTIFICATES)] == [None, None]


def numbers(folder):
    return [part.frame.drop(columns="time").to_csv() for part in read_certificates(folder / CERTIFICATES)]


def counted_by(folder):
    return [part["made_by"]["image"] for part in json.loads((folder / COUNTS_LOG).read_text())["parts"]]


def test_artefacts_say_what_image_made_them(made, record):
    assert counted_by(made) == [record, record]
    image = load(made / CHECKPOINT)[1].made_by.image
    assert {"commit": image.commit, "definition": image.definition, "packages": image.packages} == record


def test_nothing_is_made_again_outside_the_image(made):
    assert planned(made, TABLE) == {}


def test_an_image_of_other_code_is_refused(made, tmp_path, monkeypatch):
    shutil.copytree(made / "src", tmp_path / "src")
    with (tmp_path / "src" / "certsmooth" / "errors.py").open("a") as file:
        file.write("# changed\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "src"))
    message = call(made, "snakemake", *IN_IMAGE, "--cores", "all", TABLE, ok=False)
    assert f"{IMAGE}: made from other code than this checkout's; `make image` builds one" in message


def test_jobs_of_slurm_run_in_the_image(made, record, tmp_path):
    folder = new_project(tmp_path / "project")
    (folder / "containers").mkdir()
    (folder / IMAGE).symlink_to(made / IMAGE)
    for_one_machine(folder / "workflow" / "profiles" / "slurm" / "config.yaml")
    (tmp_path / "slurm").mkdir()
    with cluster(tmp_path / "slurm"):
        call(folder, "snakemake", *IN_IMAGE, "--workflow-profile", "workflow/profiles/slurm", CERTIFICATES)
        assert "rule_sample" in slurm("scontrol", "show", "job", "--oneliner")
    assert numbers(folder) == numbers(made)
    assert counted_by(folder) == [record, record]


def for_one_machine(path):
    """What a user changes: a small machine without GPUs and without Slurm's accounting."""
    profile = json.loads(json.dumps(yaml.safe_load(path.read_text())))  # parts that are one in the file, apart
    for resources in profile["set-resources"].values():
        resources |= {"gpu": 0, "cpus_per_task": 1, "mem_mb": 1500, "runtime": 20}
    waits = {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 2, "latency-wait": 5}
    path.write_text(yaml.safe_dump(profile | waits | {"slurm-status-command": "squeue"}))
