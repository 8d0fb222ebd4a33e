"""Which artefacts the experiment consists of: what params.yaml asks for, as runs with names and paths.

Imports no numerical library: the workflow reads it to build its graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from certsmooth.config import Certification, Method, Option, Params, merge_certification
from certsmooth.errors import ConfigError, nearest

Part = Literal["test", "validation"]
PARTS: tuple[Part, ...] = ("test", "validation")


@dataclass(frozen=True)
class ModelRun:
    """One base classifier: a training at one sigma with one seed on one data set."""

    dataset: str
    training: str
    sigma: float
    seed: int

    @property
    def folder(self) -> Path:
        """Folder of the checkpoint, relative to the results."""
        return Path(self.dataset, self.training, f"sigma={self.sigma!r}", f"seed={self.seed}")


@dataclass(frozen=True)
class CertificationRun:
    """One certification of one base classifier; ``variant`` tells the values of the policy options that are lists."""

    dataset: str
    method: str
    sigma: float
    seed: int
    variant: tuple[tuple[str, Option], ...]

    @property
    def folder(self) -> Path:
        """Folder of counts and certificates, relative to the results."""
        return Path(self.dataset, self.method, f"sigma={self.sigma!r}", f"seed={self.seed}", variant_name(self.variant))


def variant_name(variant: tuple[tuple[str, Option], ...]) -> str:
    """Return the variant as one part of a path: ``iterations=100``; ``default`` if the policy has no list."""
    return ",".join(f"{key}={value}" for key, value in variant) or "default"


def variants(method: Method) -> tuple[tuple[tuple[str, Option], ...], ...]:
    """Return every combination of the values of the policy options that are lists."""
    lists = {key: value for key, value in method.policy.options.items() if isinstance(value, tuple)}
    return tuple(tuple(zip(lists, values, strict=True)) for values in product(*lists.values()))


def find_variant(method: Method, name: str, *, key: str) -> tuple[tuple[str, Option], ...]:
    """Return the variant of that name.

    Raises:
        ConfigError: the method has no such variant.
    """
    known = {variant_name(variant): variant for variant in variants(method)}
    if name not in known:
        raise ConfigError(f"{key}: unknown variant {name!r}; {nearest(name, known)}")
    return known[name]


def table_runs(params: Params, table: str) -> Iterator[CertificationRun]:
    """Yield the certifications that a table is made of, for the data set of params.yaml."""
    chosen = params.tables[table]
    for method in dict.fromkeys((*chosen.methods, chosen.baseline)):
        for sigma, seed, variant in product(
            params.datasets[params.dataset].sigmas, params.training_seeds, variants(params.methods[method])
        ):
            yield CertificationRun(params.dataset, method, sigma, seed, variant)


def model_run(params: Params, run: CertificationRun) -> ModelRun:
    """Return the base classifier that a certification is about."""
    return ModelRun(run.dataset, params.methods[run.method].training, run.sigma, run.seed)


def certification(params: Params, run: CertificationRun) -> Certification:
    """Return how a run is certified: the data set's setting with the method's changes."""
    method = params.methods[run.method]
    return merge_certification(
        params.datasets[run.dataset].certification, method.certification, key=f"methods.{run.method}.certification"
    )


# The slices below are what each step depends on: a rule gives its slice as ``params``, so that editing a key reruns
# the steps that read it, and no others.


def data_slice(params: Params, dataset: str) -> dict[str, Any]:
    """Return what the data depend on."""
    chosen = params.datasets[dataset]
    return {
        "dataset": dataset,
        "source": chosen.source,
        "options": dict(chosen.options),
        "validation": chosen.validation,
        "seed": params.seed,
    }


def train_slice(params: Params, run: ModelRun) -> dict[str, Any]:
    """Return what a checkpoint depends on, besides the data."""
    chosen, training = params.datasets[run.dataset], params.trainings[run.training]
    return {
        "architecture": chosen.architecture,
        "normalisation": dict(chosen.normalisation or {}),
        "numeric_type": chosen.numeric_type,
        "channels_last": chosen.channels_last,
        "recipe": dict(chosen.recipe) | dict(chosen.recipes.get(run.training, {})),
        "training": asdict(training),
    }


def sample_slice(params: Params, run: CertificationRun) -> dict[str, Any]:
    """Return what counts depend on, besides data and checkpoint."""
    chosen, method = certification(params, run), params.methods[run.method]
    return {
        "policy": {"name": method.policy.name, "options": dict(method.policy.options) | dict(run.variant)},
        "n0": chosen.n0,
        "n": chosen.n,
        "stride": chosen.stride,
        "seed": params.seed,
    }


def certify_slice(params: Params, run: CertificationRun) -> dict[str, Any]:
    """Return what certificates depend on, besides counts."""
    method = params.methods[run.method]
    return {
        "alpha": certification(params, run).alpha,
        "certificate": method.certificate,
        "memory": method.memory,
        "seed": params.seed,
    }


def table_slice(params: Params, table: str) -> dict[str, Any]:
    """Return what a table depends on, besides certificates."""
    chosen = params.tables[table]
    methods = {name: params.methods[name] for name in chosen.methods}
    labels = {name: (method.label, method.train, method.certify) for name, method in methods.items()}
    radii = params.datasets[params.dataset].radii
    return {"dataset": params.dataset, "radii": radii, "table": asdict(chosen), "labels": labels}
