"""Whether attacks contradict certificates more often than the certificates' alpha and PREDICT's allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betainc

from certsmooth.analysis import CertifiedRun
from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.science.certificates import ABSTAIN, GLOBAL, cohen


@dataclass(frozen=True)
class AttackedRun:
    """The certificates of one run, and what attacks found at the same images.

    Attributes:
        run: on the test split; its frame holds the attacked images and no others.
        attacks: by key of the attack.
        provenance: how each was made, likewise.
    """

    run: CertifiedRun
    attacks: Mapping[str, AttackCounts]
    provenance: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """Whether attacks contradicted certificates with the guarantee ``global``.

    A check is an attack's result nearer to an image than its certified radius. It contradicts the certificate if
    PREDICT gives another class than the certified one; an abstention does not.

    A certificate is wrong with probability at most its alpha. If it is right, PREDICT contradicts it at one result with
    probability at most PREDICT's alpha, because its noise is new. So by the union bound an image is contradicted with
    probability at most alpha + checks x alpha of PREDICT. Images with no check count with their alpha as well: which
    images have checks depends on the certificates.

    Attributes:
        images: attacked images whose certificate has the guarantee ``global``, whether it abstains or not.
        checked: of these, images with at least one check.
        checks: their number.
        contradicted: images with at least one contradiction.
        expected: at most so many are to be expected: the sum of the bounds over the images.
        p_value: an upper bound on the probability of at least as many.
    """

    images: int
    checked: int
    checks: int
    contradicted: int
    expected: float
    p_value: float


def check_certificates(attacked: AttackedRun, *, alpha: float) -> Verdict | None:
    """Count the certificates of a run that hold anywhere but its attacks contradict; None if there are none.

    Args:
        attacked: the run.
        alpha: of PREDICT.
    """
    frame = attacked.run.frame
    frame = frame[frame["guarantee"].isin(GLOBAL)].set_index("idx")
    if frame.empty:
        return None
    radius, certified = frame["radius"].to_numpy(), frame["predict"].to_numpy()
    checks, contradictions = np.zeros((2, len(frame)), dtype=np.int64)
    for counts in attacked.attacks.values():
        image = frame.index.get_indexer(pd.Index(counts.index))  # -1: no such certificate
        inside = (counts.epsilon > 0) & (image >= 0) & (counts.distance < radius[image])
        predict = cohen.predict(counts.counts, alpha=alpha)
        other = inside & (predict != ABSTAIN) & (predict != certified[image])
        np.add.at(checks, image[inside], 1)
        np.add.at(contradictions, image[other], 1)
    contradicted = int((contradictions > 0).sum())
    expected = float((frame["alpha"].to_numpy() + checks * alpha).sum())
    return Verdict(
        images=len(frame),
        checked=int((checks > 0).sum()),
        checks=int(checks.sum()),
        contradicted=contradicted,
        expected=expected,
        p_value=contradiction_p_value(contradicted, images=len(frame), expected=expected),
    )


def over_all(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return one verdict on several runs; None on none.

    Runs share noise, so their numbers are not independent: the p value is the smallest one times how many there are
    (Bonferroni).
    """
    if not verdicts:
        return None
    sums = {field.name: sum(getattr(each, field.name) for each in verdicts) for field in fields(Verdict)}
    return Verdict(**sums | {"p_value": min(1.0, len(verdicts) * min(each.p_value for each in verdicts))})


def contradiction_p_value(contradicted: int, *, images: int, expected: float) -> float:
    """Return an upper bound on the probability that at least so many of some images are contradicted.

    The images' noise is independent, so the number is a sum of independent 0/1 variables, whose probabilities sum to at
    most ``expected``. From ``expected`` + 1 on, its tail is at most that of the binomial distribution with the mean
    probability (Hoeffding 1956, Theorem 4). Below, nothing speaks against the certificates: 1. The number of checks,
    which ``expected`` depends on, is taken as given.

    Args:
        contradicted: how many were.
        images: of how many.
        expected: upper bound on the expected number.
    """
    if contradicted < expected + 1:
        return 1.0
    return float(betainc(contradicted, images - contradicted + 1, min(expected / images, 1.0)))
