# Paths and slices of params.yaml. A rule's `params` hold its slice and a hash of the code that it depends on: Snakemake
# reruns a job when one of them changes, and only then.
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

from certsmooth.experiment import runs
from certsmooth.experiment.config import EmpiricalTable, SoundnessTable, read_params
from certsmooth.experiment.library import naming_files
from certsmooth.errors import CertsmoothError
from certsmooth._internal.registry import names
from certsmooth.experiment.code_hash import depends_on, package_digest, source_digest


def read_and_check():
    """Read params.yaml; check the options of all members once per content of it and of the code (that imports torch)."""
    params = read_params(Path("params.yaml"))
    content = f"{params!r} {source_digest('experiment.members')}".encode()
    stamp = Path(".snakemake", "certsmooth", hashlib.sha256(content).hexdigest()[:16])
    if not stamp.exists():
        from certsmooth.experiment.members import check_members

        with naming_files(Path("params.yaml")):
            check_members(params)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    return params


try:
    params = read_and_check()
except CertsmoothError as error:
    raise WorkflowError(str(error)) from None


def check_image():
    """Refuse an image of other code: what it makes would pass for a result of this checkout's."""
    image = workflow.modifier.global_container_img
    code = "from certsmooth.experiment.code_hash import package_digest; print(package_digest())"
    command = ("apptainer", "--silent", "exec", image, "python", "-c", code)
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise WorkflowError(f"apptainer: {error.strerror}; must be installed, or its module loaded") from None
    if found.returncode or found.stdout.strip() != package_digest():
        said = (found.stderr.strip() or "made from other code than this checkout's").splitlines()[-1]
        raise WorkflowError(f"{image}: {said}; `make image` builds one of this checkout's (docs/containers.md)")


if workflow.is_main_process and DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method:
    check_image()


wildcard_constraints:
    dataset="[A-Za-z0-9_.-]+",
    training="[A-Za-z0-9_.-]+",
    method="[A-Za-z0-9_.-]+",
    sigma=r"[0-9.e+-]+",
    seed="[0-9]+",
    variant="[^/]+",
    part="|".join(runs.PARTS),
    shard="[0-9]+",
    shards="[0-9]+",


def one_of(tables):
    """The constraint of a wildcard that is the name of a table; without any, it matches nothing."""
    return "|".join(map(re.escape, tables)) or "(?!)"


def all_runs():
    """Every certification of every table, once."""
    return list(dict.fromkeys(run for run, _ in runs.all_parts(params)))


def model_run(w):
    variant = runs.find_variant(runs.training_variants(params, w.dataset, w.training), w.variant, key="variant")
    return runs.ModelRun(w.dataset, w.training, float(w.sigma), int(w.seed), variant)


def certification_run(w):
    variant = runs.find_variant(runs.variants(params, w.dataset, w.method), w.variant, key="variant")
    return runs.CertificationRun(w.dataset, w.method, float(w.sigma), int(w.seed), variant)


def record(w):
    return f"results/data/{w.dataset}.json"


def checkpoint(run):
    return f"results/checkpoints/{run.folder}/model.safetensors"


def counts_files(run, part):
    shards, run = runs.certification(params, run).shards, runs.sampling_run(params, run)
    return [f"results/counts/{run.folder}/{part}-{shard}-of-{shards}.parquet" for shard in range(shards)]


def certificates(run, part):
    return f"results/certificates/{run.folder}/{part}.tsv"


def data_code(dataset):
    return ["experiment.steps.data", f"science.datasets.{params.datasets[dataset].member or dataset}"]


def noise_code(w):
    return f"science.noise.{runs.noise_of(params.methods[w.method].certificate.name)}"
