"""Certificates, attacks and audits, as tables and figures read them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from certsmooth._internal.storage import file_digest
from certsmooth.analysis import CertifiedRun, Split
from certsmooth.analysis.high_dimension import with_probabilities
from certsmooth.analysis.runs import AS_PUBLISHED
from certsmooth.artefacts.certificates import (
    CertificatesPart,
    find_certificates,
    read_certificates,
    read_published_certificates,
)
from certsmooth.errors import CountsError
from certsmooth.experiment.build import under
from certsmooth.experiment.labels import labels_of
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import CertificationRun, PublishedRun
from certsmooth.experiment.specs import CertifySpec, RouterSpec, certificates_path, plain


class Certified:
    """Reads the certificates that params.yaml asks for, each file once, and refuses all others.

    Args:
        experiment: what is asked for.
        results: the folder of the results.
    """

    def __init__(self, experiment: Experiment, results: Path) -> None:
        self.experiment = experiment
        self.results = results
        self._files: dict[Path, list[CertificatesPart]] = {}
        self._digests: dict[Path, str] = {}

    def run(self, run: CertificationRun, split: Split) -> CertifiedRun:
        """Return the certificates of a run.

        Raises:
            CountsError: certificates are missing or damaged, or of something else.
        """
        params, spec = self.experiment.params, self.experiment.certify(run, split)
        train, certify = labels_of(params, run.method)
        part = self._part(spec, self.results / certificates_path(self.experiment.certificates(run).name))
        return CertifiedRun(
            method=run.method,
            label=params.our_methods[run.method].label,
            train=train,
            certify=certify,
            sigma=run.sigma,
            grid={key: plain(value) for key, value in run.grid if value is not None},
            seed=run.seed,
            certification_seed=run.certification_seed,
            split=split,
            frame=part.frame,
            provenance={**part.provenance, **_said(spec), **_stopped(spec, part)},
        )

    def published(self, run: PublishedRun) -> CertifiedRun:
        """Return the certificates of a file that others made.

        Where its radii are Gaussian noise's, ``p_a_lower`` follows from them (`with_probabilities`).

        Raises:
            ConfigError: the file is missing or damaged, or its certificates cannot be of the sigma given; the message
                names method and file.
        """
        method, path = self.experiment.params.published_methods[run.method], Path(run.file)
        read = partial(read_published_certificates, path, sigma=run.sigma, norm=method.norm)
        frame = under(f"methods.{run.method}.certificates", read)
        if method.norm == "l2":
            frame = with_probabilities(frame, run.sigma)
        train, certify = labels_of(self.experiment.params, run.method)
        return CertifiedRun(
            method=run.method,
            label=method.label,
            train=train,
            certify=certify,
            sigma=run.sigma,
            grid={},
            seed=None,
            certification_seed=None,
            split="test",
            frame=frame.assign(sigma=run.sigma, guarantee=AS_PUBLISHED),
            provenance={
                **{"dataset": run.dataset, "about": method.dataset, "norm": method.norm, "images": len(frame)},
                **{"file": run.file, "sha256": file_digest(path, error=CountsError)},
            },
            kind="derived",
        )

    def _part(self, spec: CertifySpec, path: Path) -> CertificatesPart:
        if path not in self._files:
            self._files[path] = read_certificates(path)
        part = find_certificates(path, self._files[path], spec.identity)
        said = [part.provenance["checkpoint"], *part.provenance.get("experts", ())]
        for digest, each in zip(said, spec.parts, strict=True):
            model = self.results / each.sampled.base.path
            if model not in self._digests:
                self._digests[model] = file_digest(model, error=CountsError)
            if digest != self._digests[model]:
                raise CountsError(
                    f"{path}: checkpoint is {digest!r}; must be {self._digests[model]!r}, "
                    f"that of {model}; sample and certify again"
                )
        return part


def _said(spec: CertifySpec) -> dict[str, Any]:
    """Return what the spec says of how certificates were made, under the names that tables show."""
    sampled = spec.sampled
    return {
        "dataset": sampled.base.data.dataset,
        "split": sampled.split,
        "stride": sampled.stride,
        **{key: sampled.identity[key] for key in ("first", "last") if key in sampled.identity},
        "n0": sampled.n0,
        "n": sampled.n,
        "alpha": spec.alpha,
        "seed": sampled.seed,
        "policy": plain(sampled.policy),
        "step": sampled.step,
        "certificate": plain(spec.certificate),
        **({"router": _routing(spec.router)} if spec.router else {}),
    }


def _routing(router: RouterSpec) -> dict[str, Any]:
    """Return what a router chooses between, and the shares of alpha, as tables say it."""
    experts = [f"{each.sampled.base.training}, sigma {each.sampled.base.sigma:g}" for each in router.experts]
    return {"experts": experts, "router_share": router.router_share, "others_share": router.others_share}


def _stopped(spec: CertifySpec, part: CertificatesPart) -> dict[str, Any]:
    """Return what tables say of samples that a rule stopped; nothing of others."""
    if (stop := spec.sampled.stop) is None:
        return {}
    options = [f"{key} {_listed(value)}" for key, value in stop.rule.options.items()]
    return {
        "stop": f"{stop.rule.name} ({'; '.join(options)})" if options else stop.rule.name,
        "mean_n": float(part.frame["n"].mean()),
    }


def _listed(value: object) -> str:
    return " ".join(f"{each:g}" for each in value) if isinstance(value, tuple | list) else str(value)
