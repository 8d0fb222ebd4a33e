"""Turn counts into certificates; no sampling, no base classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from certsmooth.artefacts.certificates import write_certificates
from certsmooth.artefacts.counts import read_counts
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import Log, read_log, read_record
from certsmooth.errors import CountsError
from certsmooth.science.certificates import ABSTAIN, Bound, Certificate, Norm, Smoothing, guarantee, linf_radius
from certsmooth.science.memory import memory_pass, shuffled_order
from certsmooth.science.sampling.counts import Counts, concatenate
from certsmooth.science.theory.pixel_grid import grid_of

ImagesAt = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.generic]]
"""Indices of images -> their pixels, for the memory pass."""


@dataclass(frozen=True)
class Order:
    """The order in which images enter the memory: a shuffle with this seed."""

    seed: int


def certify_counts(
    counts_paths: Sequence[Path],
    *,
    certificate: Certificate,
    alpha: float,
    described: Mapping[str, Any],
    expect: Mapping[str, Any],
    record: Path,
    memory: Order | None,
    images_at: ImagesAt,
    output: Path,
) -> None:
    """Certify the gathered shards of one part of a data set.

    Args:
        counts_paths: one file per shard.
        certificate: what to compute.
        alpha: each certificate is wrong with at most this probability.
        described: name and options of the certificate, for the provenance.
        expect: what the counts' identity must say: the counts of another data set, model or setting are refused; so are
            those of another noise than the certificate's.
        record: the data set's record; the fingerprint of the counts must be there.
        memory: order of the memory pass; None for no memory.
        images_at: where the memory pass gets pixels from.
        output: certificates (TSV), with their provenance beside them (JSON).

    Raises:
        CountsError: counts that are damaged, incomplete, or of something else.
    """
    content = read_record(record)
    counts, identity, bound = gather_bound(
        counts_paths, certificate=certificate, alpha=alpha, expect=expect, record=record
    )
    promise = guarantee(certificate, identity["semi_elasticity"], grid_of(identity["step"]))
    dimension = math.prod(content["image_shape"])
    final, report = bound, None
    if memory is not None:
        final, report = _remember(bound, images_at(counts.index), memory, norm=certificate.norm)
        promise = "memory"
    logs = [read_log(path) for path in counts_paths]
    seconds = [s for log in logs for s in log.seconds]
    if len(seconds) != len(counts):
        raise CountsError(f"{counts_paths[0]}: {len(counts)} images, but the logs have {len(seconds)}; sample again")
    frame = _frame(counts, final, bound, seconds, alpha=alpha, promise=promise)
    frame["radius_linf"] = linf_radius(final.radius, norm=certificate.norm, dimension=dimension)
    provenance = {
        "dataset": identity["dataset"],
        "description": content["description"],
        "part": identity["part"],
        "fingerprint": identity["fingerprint"],
        "images": len(counts),
        "stride": identity["stride"],
        "n0": identity["n0"],
        "n": identity["n"],
        "alpha": alpha,
        "seed": identity["seed"],
        "policy": identity["policy"],
        "step": identity["step"],
        "certificate": described,
        "norm": certificate.norm,
        "semi_elasticity": "inf" if identity["semi_elasticity"] == math.inf else identity["semi_elasticity"],  # JSON
        "dimension": dimension,
        "checkpoint": identity["checkpoint"],
        "device": identity["device"],
        "threads": logs[0].threads,
        "seconds": float(frame["time"].sum()),
        "numeric_type": identity["model"]["numeric_type"],
        **asdict(made_by()),
        "sampled_by": _makers(logs),
        "memory": report,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_certificates(output, frame, provenance)


def _makers(logs: Sequence[Log]) -> list[dict[str, Any]]:
    """Return what made the counts of all shards, each once."""
    found = [asdict(log.maker()) for log in logs]
    return [maker for place, maker in enumerate(found) if maker not in found[:place]]


def gather_bound(
    counts_paths: Sequence[Path], *, certificate: Certificate, alpha: float, expect: Mapping[str, Any], record: Path
) -> tuple[Counts, dict[str, Any], Bound]:
    """Read the counts of all shards, and certify them without a memory.

    Args:
        counts_paths: one file per shard.
        certificate: what to compute.
        alpha: each certificate is wrong with at most this probability.
        expect: what the counts' identity must say, besides the certificate's noise.
        record: the data set's record; the fingerprint of the counts must be there.

    Returns:
        The counts, their identity without the shard, and the certificates.

    Raises:
        CountsError: counts that are damaged, incomplete, or of something else.
    """
    content = read_record(record)
    counts, identity = gather_counts(counts_paths, expect={**expect, "noise": certificate.noise})
    fingerprint = content["parts"][identity["part"]]["fingerprint"]
    if identity["fingerprint"] != fingerprint:
        raise CountsError(
            f"{counts_paths[0]}: sampled on data {identity['fingerprint']}; {record} says {fingerprint}: sample again"
        )
    for name in ("selection", "estimation"):
        _check_sums(counts_paths[0], name, getattr(counts, name), identity["n0" if name == "selection" else "n"])
    smoothing = Smoothing(
        counts.sigma,
        math.prod(content["image_shape"]),
        identity["semi_elasticity"],
        counts.constant_within,
        grid=grid_of(identity["step"]),
    )
    return counts, identity, certificate(counts.selection, counts.estimation, smoothing, alpha=alpha)


def _check_sums(path: Path, name: str, counts: npt.NDArray[np.int64], samples: int) -> None:
    wrong = np.flatnonzero(counts.sum(axis=1) != samples)
    if len(wrong):
        found = counts[wrong[0]].sum()
        raise CountsError(f"{path}: {name} of row {wrong[0]} sums to {found}; must be {samples} samples; sample again")


def gather_counts(paths: Sequence[Path], *, expect: Mapping[str, Any]) -> tuple[Counts, dict[str, Any]]:
    """Read the counts of all shards, and their identity without the shard.

    Args:
        paths: one file per shard, in order.
        expect: entries that every identity must have.

    Raises:
        CountsError: counts that are damaged, incomplete, or of something else.
    """
    parts = [read_counts(path, expect=expect) for path in paths]
    shards = [identity.pop("shard") for _, identity in parts]
    if shards != [[i, len(paths)] for i in range(len(paths))]:
        raise CountsError(f"{paths[0].parent}: shards {shards}; must be each of {len(paths)}, in order")
    for path, (_, identity) in zip(paths, parts, strict=True):
        for key, value in identity.items():
            if value != parts[0][1][key]:
                raise CountsError(f"{path}: {key} is {value!r}, but {parts[0][1][key]!r} in {paths[0]}; sample again")
    return concatenate([counts for counts, _ in parts]), parts[0][1]


def _remember(
    bound: Bound, images: npt.NDArray[np.generic], memory: Order, *, norm: Norm
) -> tuple[Bound, dict[str, Any]]:
    order = shuffled_order(len(bound.predict), seed=memory.seed)
    result = memory_pass(images, bound.predict, bound.radius, order=order, norm=norm)
    report = {
        "conflicts": result.conflicts,
        "repredicted": int((result.predict != bound.predict).sum()),
        "capped": int(((result.predict == bound.predict) & (result.radius < bound.radius)).sum()),
        "order": f"shuffled, seed {memory.seed}",
    }
    return replace(bound, predict=result.predict, radius=result.radius), report


def _frame(
    counts: Counts, final: Bound, before: Bound, seconds: Sequence[float], *, alpha: float, promise: str
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "idx": counts.index,
            "label": counts.label,
            "predict": final.predict,
            "radius": final.radius,
            "correct": ((final.predict == counts.label) & (final.predict != ABSTAIN)).astype(np.int64),
            "time": np.asarray(seconds, dtype=np.float64),
            "sigma": counts.sigma,
            "p_a_lower": final.p_a_lower,
            "p_b_upper": final.p_b_upper,
            "n": counts.estimation.sum(axis=1),
            "alpha": alpha,
            "guarantee": promise,
            "radius_before_memory": before.radius,
        }
    )
