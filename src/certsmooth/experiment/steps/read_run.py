"""The certificates of a run, as analysis takes them."""

from __future__ import annotations

from pathlib import Path

from certsmooth.analysis import CertifiedRun
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.experiment.config import Params
from certsmooth.experiment.runs import CertificationRun, Part, json_value


def read_run(params: Params, run: CertificationRun, part: Part, *, results: Path) -> CertifiedRun:
    """Read certificates.

    Raises:
        CountsError: certificates are missing or damaged.
    """
    method = params.methods[run.method]
    frame, provenance = read_certificates(results / "certificates" / run.folder / f"{part}.tsv")
    return CertifiedRun(
        method=run.method,
        label=method.label,
        train=method.train,
        certify=method.certify,
        sigma=run.sigma,
        variant={key: json_value(value) for key, value in run.variant if value is not None},
        seed=run.seed,
        part=part,
        frame=frame,
        provenance=provenance,
    )
