"""Turn counts into certificates; no sampling, no base classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from certsmooth.science.certificates import (
    ABSTAIN,
    GUARANTEES,
    Bound,
    Certificate,
    Guarantee,
    Norm,
    guarantee,
    linf_radius,
)
from certsmooth.science.memory import memory_pass, shuffled_order
from certsmooth.science.theory.dual import dual_certificates, others_matter, shares
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
    found = certificates_of(spec, counted, record)
    gathered, final, report = found.gathered, found.bound, None
    if spec.memory:
        images = images_at(spec.sampled, record, gathered.counts.index)
        final, report = _remember(found.bound, images, spec, norm=found.norm)
        found = replace(found, promise="memory")
    frame = _frame(found, final, alpha=spec.alpha)
    dimension = math.prod(record["image_shape"])
    frame["radius_linf"] = linf_radius(final.radius, norm=found.norm, dimension=dimension)
    semi_elasticity = gathered.identity["semi_elasticity"] if spec.router is None else None
    provenance = {
        "description": record["description"],
        "fingerprint": gathered.identity["fingerprint"],
        "images": len(gathered.counts),
        "norm": found.norm,
        "semi_elasticity": "inf" if semi_elasticity == math.inf else semi_elasticity,  # JSON
        "dimension": dimension,
        "checkpoint": gathered.identity["checkpoint"],
        "device": gathered.identity["device"],
        "threads": gathered.logs[0].threads,
        "seconds": float(frame["time"].sum()),
        "numeric_type": gathered.identity["model"]["numeric_type"],
        **asdict(made_by()),
        "sampled_by": _makers([*gathered.logs, *(log for each in found.experts for log in each.logs)]),
        "memory": report,
        **({N_BEFORE: gathered.identity[N_BEFORE]} if N_BEFORE in gathered.identity else {}),
        **found.of_experts,
    }
    return CertificatesPart(frame, spec.identity, provenance)


@dataclass(frozen=True)
class Found:
    """What files of certificates say of a run, before any memory pass.

    Attributes:
        gathered: its counts; those of a router, if there is one.
        bound: its certificates.
        norm: of their radii.
        promise: their guarantee.
        sigma: float64 [N], of each image; that of the expert that a router chooses.
        n: int64 [N], estimation samples that the certificate rests on.
        seconds: float64 [N], that these took.
        experts: their counts, if there is a router.
    """

    gathered: Gathered
    bound: Bound
    norm: Norm
    promise: Guarantee
    sigma: npt.NDArray[np.float64]
    n: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    experts: Sequence[Gathered] = ()

    @property
    def of_experts(self) -> dict[str, list[str]]:
        """What identifies the experts, if there are any: their checkpoints."""
        return {"experts": [each.identity["checkpoint"] for each in self.experts]} if self.experts else {}


def certificates_of(spec: CertifySpec, counted: Counted, record: Mapping[str, Any]) -> Found:
    """Return the certificates of a run, of one smoothed classifier or of a router's, before any memory pass.

    Raises:
        ConfigError: as `certificate_of`.
        CountsError: as `Counted.gather`; or counts of an expert are of other images than the router's.
    """
    return _by_itself(spec, counted, record) if spec.router is None else _by_router(spec, counted, record)


def _by_itself(spec: CertifySpec, counted: Counted, record: Mapping[str, Any]) -> Found:
    gathered, certificate, bound = certified_by(spec, counted, record)
    promise = guarantee(certificate, gathered.identity["semi_elasticity"], grid_of(spec.sampled.step))
    counts, seconds = gathered.counts, [s for log in gathered.logs for s in log.seconds]
    n = counts.estimation.sum(axis=1)
    return Found(gathered, bound, certificate.norm, promise, counts.sigma, n, np.asarray(seconds, dtype=np.float64))


def _by_router(spec: CertifySpec, counted: Counted, record: Mapping[str, Any]) -> Found:
    """Return the certificates of the classifier that a router and its experts make together.

    Of an image that the router abstains at, sigma, p_A and p_B are those of the first expert. Samples and seconds are
    those of the router, of the expert that it chooses, and of the others where these can enlarge the radius.

    Raises:
        CountsError: as `Counted.gather`; or counts of an expert are of other images.
    """
    router = spec.router
    assert router is not None
    of_router, of_chosen, of_others = shares(spec.alpha, router.router_share, router.others_share, len(router.experts))
    own = _by_itself(replace(spec, alpha=of_router), counted, record)
    experts = [_by_itself(replace(each, alpha=of_chosen), counted, record) for each in router.experts]
    for place, each in zip(router.experts, experts, strict=True):
        if not np.array_equal(each.gathered.counts.index, own.gathered.counts.index):
            raise CountsError(f"{place.counts[0]}: of other images than those of the router; sample again")
    others = [
        each.gathered.bound(certificate_of(place), alpha=of_others, image_shape=record["image_shape"])
        for place, each in zip(router.experts, experts, strict=True)
    ]
    route, route_radius = own.bound.predict, own.bound.radius
    rows, first = np.arange(len(route)), np.where(route == ABSTAIN, 0, route)
    is_chosen = np.arange(len(experts)) == route[:, None]

    def each_of(found: Sequence[object], key: str) -> npt.NDArray[Any]:
        return np.stack([getattr(each, key) for each in found], axis=1)

    chosen = [each.bound for each in experts]
    predict, radius = dual_certificates(
        route,
        route_radius,
        *(np.where(is_chosen, each_of(chosen, key), each_of(others, key)) for key in ("predict", "radius")),
    )
    matter = others_matter(route, route_radius, np.where(is_chosen, each_of(chosen, "radius"), 0.0).max(axis=1))
    used = is_chosen | matter[:, None]
    return replace(
        own,
        bound=Bound(predict, radius, *(each_of(chosen, key)[rows, first] for key in ("p_a_lower", "p_b_upper"))),
        promise=max((each.promise for each in (own, *experts)), key=GUARANTEES.index),
        sigma=each_of(experts, "sigma")[rows, first],
        n=own.n + (each_of(experts, "n") * used).sum(axis=1),
        seconds=own.seconds + (each_of(experts, "seconds") * used).sum(axis=1),
        experts=[each.gathered for each in experts],
    )


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


def _frame(found: Found, final: Bound, *, alpha: float) -> pd.DataFrame:
    counts = found.gathered.counts
    return pd.DataFrame(
        {
            "idx": counts.index,
            "label": counts.label,
            "predict": final.predict,
            "radius": final.radius,
            "correct": ((final.predict == counts.label) & (final.predict != ABSTAIN)).astype(np.int64),
            "time": found.seconds,
            "sigma": found.sigma,
            "p_a_lower": final.p_a_lower,
            "p_b_upper": final.p_b_upper,
            "n": found.n,
            "alpha": alpha,
            "guarantee": found.promise,
            "radius_before_memory": found.bound.radius,
        }
    )
