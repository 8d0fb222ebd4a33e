"""What runs are worth beside the numbers of a table: whole curves, the distribution of p_A, abstention and cost.

Curves are numbers of certificates, as integers: at each radius the certificates of all seeds that hold there. Many
settings so share the intervals of few numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from certsmooth.analysis import CertifiedRun, Record
from certsmooth.analysis.metrics import accuracy_interval, difference_interval
from certsmooth.analysis.probabilities import band, label_probability
from certsmooth.analysis.runs import Method, Outcome, guarantees, paired
from certsmooth.science.certificates import ABSTAIN
from certsmooth.science.metrics import certified

PROBABILITIES = np.linspace(0.5, 1, 101)
"""Where the distribution of p_A is given."""
_POINTS = 61


def radii_of(methods: Iterable[Method], shown: Sequence[float]) -> Float[np.ndarray, " r"]:
    """Return the radii at which curves are given: those of a table, and others up to the largest certified radius."""
    outcomes = [outcome for method in methods for outcome in method.outcomes]
    largest = max((float(o.radius[o.correct].max(initial=0.0)) for o in outcomes), default=0.0)
    end = 1.02 * largest or 1.0
    # As they are written: a radius that is rounded up would certify less.
    return np.array(sorted({*np.floor(np.linspace(0, end, _POINTS) * 1e4) / 1e4, *(r for r in shown if r <= end)}))


def curve(outcome: Outcome, radii: Float[np.ndarray, " r"]) -> list[int]:
    """Return how many of all certificates, of every seed, are right and have at least each radius."""
    held = np.sort(outcome.radius[outcome.correct])
    return [int(number) for number in len(held) - np.searchsorted(held, radii, side="left")]


def gain_at(ours: Outcome, theirs: Outcome, radius: float) -> tuple[float, float, float]:
    """Return how much more of the same images, as a fraction, are certified at a radius, and the 95 % interval.

    Args:
        ours: as `certsmooth.analysis.runs.paired` returns it.
        theirs: likewise.
        radius: at which.
    """
    better = certified(ours.correct, ours.radius, radius) - certified(theirs.correct, theirs.radius, radius)
    return (float(better.mean()), *difference_interval(better))


def gains(outcome: Outcome, baseline: Outcome, radii: Float[np.ndarray, " r"]) -> list[list[float]] | None:
    """Return `gain_at` of the images that both have, in points of percent with one decimal.

    Returns:
        At each radius, the values, the lower ends and the upper ends; None without two such images.
    """
    if len(np.intersect1d(outcome.idx, baseline.idx)) < 2:
        return None
    ours, theirs = paired(outcome, baseline)
    found = [gain_at(ours, theirs, radius) for radius in radii.tolist()]
    return [[round(100 * each, 1) + 0.0 for each in column] for column in zip(*found, strict=True)]


def distribution(outcome: Outcome) -> Record | None:
    """Return how many images of every seed have p_A <= each of `PROBABILITIES`, and the half-width of the band (DKW).

    Returns:
        None where p_A is not known.
    """
    if (p_a := label_probability(outcome)) is None:
        return None
    below = np.searchsorted(np.sort(p_a, axis=None), PROBABILITIES, side="right")
    return {"below": [int(number) for number in below], "band": round(band(*p_a.shape), 6)}


def intervals(numbers: Iterable[int], *, of: int, images: int) -> dict[int, tuple[float, float]]:
    """Return the 95 % interval, in percent, of each number of certificates.

    Args:
        numbers: of certificates that hold, on all seeds.
        of: certificates, on all seeds.
        images: that they are about.
    """
    found = {}
    for number in sorted(set(numbers)):
        lower, upper = accuracy_interval(number / of, images)
        found[number] = round(100 * lower, 2), round(100 * upper, 2)
    return found


def setting_record(method: Method, outcome: Outcome) -> Record:
    """Return accuracy, abstention, cost and promise of one setting, the means over seeds.

    Shares are in percent with their 95 % intervals; seconds and samples are those of one certificate.
    """
    frames, provenance = [run.frame for run in outcome.runs], outcome.runs[0].provenance
    abstained = float(np.mean([(frame["predict"] == ABSTAIN).mean() for frame in frames]))
    right = outcome.accuracy(0.0)
    shares = {"accuracy": right, "abstention": abstained, "misclassification": max(0.0, 1 - right - abstained)}
    measured = {name: _share(value, outcome.images) for name, value in shares.items()}
    return {
        **{"method": method.label, "sigma": outcome.setting.sigma, "grid": outcome.setting.options},
        **{"dataset": str(provenance["dataset"]), "kind": outcome.runs[0].kind, "images": outcome.images},
        **{"seeds": len(outcome.runs), "guarantee": guarantees([outcome]), **measured},
        **_cost(outcome.runs),
        **{key: provenance.get(key) for key in ("n0", "n", "alpha", "stop", "step", "norm", "numeric_type")},
        "certificate": provenance.get("certificate", {}).get("name"),
        "memory": bool(provenance.get("memory")),
        "devices": _devices(outcome.runs),
    }


def _share(value: float, images: int) -> Mapping[str, float]:
    lower, upper = accuracy_interval(value, images)
    return {"value": 100 * value, "lower": 100 * lower, "upper": 100 * upper}


def _cost(runs: Sequence[CertifiedRun]) -> Record:
    """Return seconds and samples of one certificate, as means over images and seeds, and the seconds of all."""
    seconds = [float(run.frame["time"].sum()) for run in runs]
    samples = [run.provenance["n0"] + run.frame["n"].mean() for run in runs if "n0" in run.provenance]
    return {
        "seconds": float(np.mean([each / len(run.frame) for each, run in zip(seconds, runs, strict=True)])),
        "samples": float(np.mean(samples)) if samples else None,
        "total_seconds": sum(seconds),
    }


def _devices(runs: Sequence[CertifiedRun]) -> list[str]:
    found = [(run.provenance.get("device"), run.provenance.get("threads")) for run in runs]
    return [
        f"{device}, {threads} {'thread' if threads == 1 else 'threads'}" if device == "cpu" else str(device)
        for device, threads in dict.fromkeys(found)
        if device is not None
    ]


def promised(run: CertifiedRun) -> str:
    """Return every guarantee that occurs in the certificates of a run, a comma between two."""
    return ", ".join(sorted(map(str, run.frame["guarantee"].unique())))


def image_columns(run: CertifiedRun, index: Sequence[int]) -> dict[str, Any]:
    """Return what a run says of some images, in this order: predict, radius, sigma, and p_a where it is known.

    Radii and p_A are rounded down to three decimals; a column of equal values has one.

    Args:
        run: has certificates of these images.
        index: of the images, in the split.
    """
    rows = run.frame.set_index("idx").loc[list(index)]
    columns: dict[str, list[Any]] = {"predict": [int(each) for each in rows["predict"]]}
    for name, column, shorten in (
        ("radius", "radius", np.floor),
        ("sigma", "sigma", np.rint),
        ("p_a", "p_a_lower", np.floor),
    ):
        if column in rows:
            columns[name] = [float(each) for each in shorten(rows[column].to_numpy(dtype=np.float64) * 1000) / 1000]
    return {name: values[:1] if len(set(values)) == 1 else values for name, values in columns.items()}


def hardest(runs: Sequence[CertifiedRun]) -> list[int]:
    """Return the indices of the images that all runs certify, the worst first.

    That is the smallest mean radius, where the radius of a wrong prediction is negative: certified as another class.
    Among images of the same mean, the smaller index comes first.
    """
    frames = [run.frame.set_index("idx") for run in runs]
    common = frames[0].index
    for frame in frames[1:]:
        common = common.intersection(frame.index)
    found = [frame.loc[common] for frame in frames]
    radius = np.mean([np.where(f["correct"] == 1, f["radius"], -f["radius"]) for f in found], axis=0)
    return [int(common[i]) for i in np.lexsort((common.to_numpy(), radius))]
