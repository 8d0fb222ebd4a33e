"""Certificates, attacks and audits, as tables and figures read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certsmooth._internal.storage import file_digest
from certsmooth.analysis import CertifiedRun
from certsmooth.artefacts.certificates import CertificatesPart, find_certificates, read_certificates
from certsmooth.errors import CountsError
from certsmooth.experiment.labels import labels_of
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import CertificationRun
from certsmooth.experiment.specs import CertifySpec, Split, certificates_path, plain


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
            label=params.methods[run.method].label,
            train=train,
            certify=certify,
            sigma=run.sigma,
            grid={key: plain(value) for key, value in run.grid if value is not None},
            seed=run.seed,
            certification_seed=run.certification_seed,
            split=split,
            frame=part.frame,
            provenance={**part.provenance, **_said(spec)},
        )

    def _part(self, spec: CertifySpec, path: Path) -> CertificatesPart:
        if path not in self._files:
            self._files[path] = read_certificates(path)
        part = find_certificates(path, self._files[path], spec.identity)
        model = self.results / spec.sampled.base.path
        if model not in self._digests:
            self._digests[model] = file_digest(model, error=CountsError)
        if part.provenance["checkpoint"] != self._digests[model]:
            raise CountsError(
                f"{path}: checkpoint is {part.provenance['checkpoint']!r}; must be {self._digests[model]!r}, "
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
        "n0": sampled.n0,
        "n": sampled.n,
        "alpha": spec.alpha,
        "seed": sampled.seed,
        "policy": plain(sampled.policy),
        "step": sampled.step,
        "certificate": plain(spec.certificate),
    }
