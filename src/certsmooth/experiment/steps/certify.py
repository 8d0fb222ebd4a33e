"""Turn counts into certificates; no sampling, no base classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from certsmooth._internal.storage import exclusive
from certsmooth.artefacts.certificates import CertificatesPart, export_certificates, write_certificates
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import Log, read_record
from certsmooth.errors import ConfigError, CountsError
from certsmooth.experiment.build import build
from certsmooth.experiment.specs import N_BEFORE, Batch, CertifySpec, SampleSpec, certificates_path
from certsmooth.experiment.steps.data import load_part
from certsmooth.experiment.steps.gathered import Counted, Gathered
from certsmooth.science.certificates import ABSTAIN, Bound, Certificate, Norm, guarantee, linf_radius
from certsmooth.science.memory import memory_pass, shuffled_order
from certsmooth.science.theory.pixel_grid import grid_of


def certify_batch(batch: Batch[CertifySpec], *, results: Path) -> None:
    """Certify all runs of a method, and write the certificates: one Parquet file, and the field's format beside it.

    The tab-separated files are ``sigma=../seed=../GRID POINT/SPLIT.tsv`` in the method's folder.

    Args:
        batch: what to certify.
        results: the folder of the results.

    Raises:
        CountsError: counts are missing, damaged, incomplete, or of something else.
        DataError: so is the record of the data.
    """
    output = results / certificates_path(batch.name)
    counted = Counted(results)
    with exclusive(output, error=CountsError):
        parts = [_certify(spec, counted, results) for spec in batch.parts]
        for spec, part in zip(batch.parts, parts, strict=True):
            export_certificates(output.parent / spec.place / f"{spec.sampled.split}.tsv", part.frame)
        write_certificates(output, parts)


def _certify(spec: CertifySpec, counted: Counted, results: Path) -> CertificatesPart:
    record = read_record(results / spec.sampled.base.data.path, spec=spec.sampled.base.data.identity)
    gathered, certificate, bound = certified_by(spec, counted, record)
    final, report = bound, None
    semi_elasticity = gathered.identity["semi_elasticity"]
    promise = guarantee(certificate, semi_elasticity, grid_of(spec.sampled.step))
    if spec.memory:
        images = images_at(spec.sampled, record, gathered.counts.index)
        final, report = _remember(bound, images, spec, norm=certificate.norm)
        promise = "memory"
    frame = _frame(gathered, final, bound, alpha=spec.alpha, promise=promise)
    dimension = math.prod(record["image_shape"])
    frame["radius_linf"] = linf_radius(final.radius, norm=certificate.norm, dimension=dimension)
    provenance = {
        "description": record["description"],
        "fingerprint": gathered.identity["fingerprint"],
        "images": len(gathered.counts),
        "norm": certificate.norm,
        "semi_elasticity": "inf" if semi_elasticity == math.inf else semi_elasticity,  # JSON
        "dimension": dimension,
        "checkpoint": gathered.identity["checkpoint"],
        "device": gathered.identity["device"],
        "threads": gathered.logs[0].threads,
        "seconds": float(frame["time"].sum()),
        "numeric_type": gathered.identity["model"]["numeric_type"],
        **asdict(made_by()),
        "sampled_by": _makers(gathered.logs),
        "memory": report,
        **({N_BEFORE: gathered.identity[N_BEFORE]} if N_BEFORE in gathered.identity else {}),
    }
    return CertificatesPart(frame, spec.identity, provenance)


def certificate_of(spec: CertifySpec) -> Certificate:
    """Return the certificate.

    Raises:
        ConfigError: an option is not valid, or the counts are of another noise than the certificate's.
    """
    certificate: Certificate = build("certificates", spec.certificate, key="certificate")
    if certificate.noise != spec.sampled.noise:
        raise ConfigError(
            f"certificate: {spec.certificate.name!r} is about {certificate.noise!r} noise; must be about "
            f"{spec.sampled.noise!r} noise, that of the counts"
        )
    return certificate


def certified_by(spec: CertifySpec, counted: Counted, record: Mapping[str, Any]) -> tuple[Gathered, Certificate, Bound]:
    """Return the counts of a run, its certificate, and what that says of the counts, without a memory.

    Raises:
        ConfigError: as `certificate_of`.
        CountsError: as `Counted.gather`.
    """
    certificate = certificate_of(spec)
    gathered = counted.gather(spec.sampled, spec.counts, record)
    return gathered, certificate, gathered.bound(certificate, alpha=spec.alpha, image_shape=record["image_shape"])


def images_at(sampled: SampleSpec, record: Mapping[str, Any], index: npt.NDArray[np.int64]) -> npt.NDArray[np.generic]:
    """Return the pixels of the images of a split whose indices are given, for the memory pass."""
    return load_part(sampled.base.data, sampled.split, record).images_at(index)


def _makers(logs: Sequence[Log]) -> list[dict[str, Any]]:
    """Return what made the counts of all shards, each once."""
    found = [asdict(log.made_by) for log in logs]
    return [maker for place, maker in enumerate(found) if maker not in found[:place]]


def arrival(spec: CertifySpec, images: int) -> npt.NDArray[np.int64]:
    """Return the order in which so many images enter the memory; shuffled, where no memory is asked for."""
    return np.arange(images) if spec.memory == "test_order" else shuffled_order(images, seed=spec.seed)


def _remember(
    bound: Bound, images: npt.NDArray[np.generic], spec: CertifySpec, *, norm: Norm
) -> tuple[Bound, dict[str, Any]]:
    result = memory_pass(images, bound.predict, bound.radius, order=arrival(spec, len(bound.predict)), norm=norm)
    report = {
        "conflicts": result.conflicts,
        "repredicted": int((result.predict != bound.predict).sum()),
        "capped": int(((result.predict == bound.predict) & (result.radius < bound.radius)).sum()),
        "order": f"of the {spec.sampled.split} split" if spec.memory == "test_order" else f"shuffled, seed {spec.seed}",
    }
    return replace(bound, predict=result.predict, radius=result.radius), report


def _frame(gathered: Gathered, final: Bound, before: Bound, *, alpha: float, promise: str) -> pd.DataFrame:
    counts = gathered.counts
    return pd.DataFrame(
        {
            "idx": counts.index,
            "label": counts.label,
            "predict": final.predict,
            "radius": final.radius,
            "correct": ((final.predict == counts.label) & (final.predict != ABSTAIN)).astype(np.int64),
            "time": np.asarray([s for log in gathered.logs for s in log.seconds], dtype=np.float64),
            "sigma": counts.sigma,
            "p_a_lower": final.p_a_lower,
            "p_b_upper": final.p_b_upper,
            "n": counts.estimation.sum(axis=1),
            "alpha": alpha,
            "guarantee": promise,
            "radius_before_memory": before.radius,
        }
    )
