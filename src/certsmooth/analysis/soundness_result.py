"""What a table of soundness says, as plain values: Markdown, CSV and JSON are ways to write this down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from certsmooth.analysis.empirical_result import AttackSource
from certsmooth.analysis.result import Source
from certsmooth.science.audit.order import OrderCost
from certsmooth.science.certificates import Guarantee, Norm


@dataclass(frozen=True)
class Attacked:
    """What an attack on certificates found.

    A certificate is broken if PREDICT, at the candidate that promised most, answers another class than the certified
    one; an abstention does not break it. PREDICT is asked once per certificate, with noise that nothing else has seen.

    Attributes:
        images: whose certificates were attacked unless they abstain.
        certificates: attacked.
        broken: of these.
        lower: lower end of the 95 % interval for the broken share, in percent, for the finite test set.
        upper: its upper end.
        abstained: certificates at whose candidate PREDICT abstains.
        false_alarms: at most so many answers of PREDICT are expected to be wrong: its alpha, once per certificate.
        p_value: upper bound on the probability of as many broken ones if certificates are wrong no more often than
            their alpha.
        kinds: kind of candidate -> certificates that broke there.
        candidates: points tried in a ball.
    """

    images: int
    certificates: int
    broken: int
    lower: float
    upper: float
    abstained: int
    false_alarms: float
    p_value: float
    kinds: Mapping[str, int]
    candidates: int


@dataclass(frozen=True)
class SoundnessRow:
    """What is known about the certificates of one run.

    Attributes:
        method: label of the method.
        sigma: of the run.
        variant: its options.
        seed: training seed.
        norm: of its radii.
        before: what its certificates promise without a memory.
        after: what they promise as reported; every guarantee that occurs.
        order: conflicts, and what a memory's order costs.
        attacked: what the attack found, on the certificates without a memory.
    """

    method: str
    sigma: float
    variant: Mapping[str, int | float | str]
    seed: int
    norm: Norm
    before: Guarantee
    after: tuple[Guarantee, ...]
    order: OrderCost
    attacked: Attacked


@dataclass(frozen=True)
class SoundnessResult:
    """A table of soundness.

    Attributes:
        name: stem of its files.
        title: heading.
        dataset: name of the data set.
        radii: at which certified accuracy is given.
        n: samples of PREDICT.
        alpha: of PREDICT.
        rows: one per run.
        sources: how each run was certified, in the order of the rows.
        attack_sources: how each was attacked, likewise.
    """

    name: str
    title: str
    dataset: str
    radii: tuple[float, ...]
    n: int
    alpha: float
    rows: tuple[SoundnessRow, ...]
    sources: tuple[Source, ...]
    attack_sources: tuple[AttackSource, ...]
