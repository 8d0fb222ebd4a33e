# What params.yaml asks for, as specs. A rule's `params` hold what the specs of its job say and a hash of the code that it
# depends on: Snakemake reruns a job when one of them changes, and only then.
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

from certsmooth.experiment import runs, specs
from certsmooth.experiment.config import EmpiricalTable, SoundnessTable, read_params
from certsmooth.experiment.library import naming_files
from certsmooth.errors import CertsmoothError
from certsmooth._internal.lazy import load_when_used
from certsmooth._internal.registry import names
from certsmooth.experiment.code_hash import architecture_code, depends_on, package_digest, source_digest
from certsmooth.experiment.resolve import Experiment


def read_and_check():
    """Read params.yaml; check the options of all members once per content of it and of the code."""
    params = read_params(Path("params.yaml"))
    content = f"{params!r} {source_digest('experiment.members')}".encode()
    stamp = Path(".snakemake", "certsmooth", hashlib.sha256(content).hexdigest()[:16])
    if not stamp.exists():
        load_when_used("torch")
        from certsmooth.experiment.members import check_members

        with naming_files(Path("params.yaml")):
            check_members(params)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    return params


try:
    experiment = Experiment(read_and_check())
    params = experiment.params
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
    grid="[^/]+",
    seeds="[0-9]+([+][0-9]+)*",
    shard="[0-9]+",
    shards="[0-9]+",


RESULTS = Path("results")


def one_of(tables):
    """The constraint of a wildcard that is the name of a table; without any, it matches nothing."""
    return "|".join(map(re.escape, tables)) or "(?!)"


def at(paths):
    return [str(RESULTS / path) for path in paths]


def seeds(w):
    return tuple(map(int, w.seeds.split("+")))


def model_run(w):
    """The base classifier that wildcards name."""
    grid = runs.find_grid_point(runs.model_grid_points(params, w.dataset, w.training), w.grid, key="grid point")
    return runs.ModelRun(w.dataset, w.training, float(w.sigma), int(w.seed), grid)


def model(w):
    return experiment.train(model_run(w))


def bases(samples):
    """Records and checkpoints of what is sampled, each once."""
    return {
        "data": at(dict.fromkeys(spec.base.data.path for spec in samples)),
        "models": at(dict.fromkeys(spec.base.path for spec in samples)),
    }


def derived_from(certified):
    """What certificates, or attacks, are computed from."""
    counts = dict.fromkeys(path for spec in certified for path in spec.counts)
    return {**bases([spec.sampled for spec in certified]), "counts": at(counts)}


def with_experts(certified):
    """Certificates, and those that a router chooses between."""
    return [part for spec in certified for part in spec.parts]


def certificates(demanded):
    """The files that hold the certificates of runs, each once."""
    return at(dict.fromkeys(specs.certificates_path(experiment.certificates(run).name) for run in demanded))


def data_code(data):
    return ["experiment.steps.data", f"science.datasets.{data.member}"]


def network_code(base):
    """The members that a base classifier is built from."""
    denoiser = [f"science.denoisers.{base.denoiser.name}"] if base.denoiser else []
    return [architecture_code(base.architecture), *denoiser]


def sample_code(samples):
    """The members that sampling uses."""
    members = [
        code
        for spec in samples
        for code in (
            f"science.noise.{spec.noise}",
            f"science.sigma.{spec.policy.name}",
            *network_code(spec.base),
            *data_code(spec.base.data),
            *stop_code(spec),
        )
    ]
    return list(dict.fromkeys(members))


def stop_code(sampled):
    """The members that stop samples, if any do."""
    stop = sampled.stop
    return [f"science.stopping.{stop.rule.name}", f"science.certificates.{stop.certificate.name}"] if stop else []


def certificate_code(certified):
    members = [
        code
        for spec in certified
        for code in (f"science.certificates.{spec.certificate.name}", *stop_code(spec.sampled))
    ]
    return list(dict.fromkeys(members))
