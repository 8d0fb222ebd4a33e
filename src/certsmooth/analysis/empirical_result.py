"""What a table of empirical accuracy says, as plain values: Markdown, CSV and JSON are ways to write this down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certsmooth.analysis.result import Entry, SelectedOn, Source


@dataclass(frozen=True)
class ShownAttack:
    """An attack as a table shows it.

    Attributes:
        key: of the attack in params.yaml.
        label: its name.
        description: member and options.
        samples: numbers of noise samples that it saw; 0 for none.
    """

    key: str
    label: str
    description: str
    samples: tuple[int, ...]


@dataclass(frozen=True)
class Curve:
    """Certified accuracy of a method by radius, or empirical accuracy under one attack.

    Attributes:
        method: label of the method.
        guarantee: every guarantee that occurs in its certificates.
        attack: label of the attack; None for certified accuracy.
        samples: noise samples that the attack saw; None for certified accuracy.
        sigma: ``"best"`` for the best setting at each radius, or the one sigma.
        selected_on: where the setting was chosen.
        seeds: training seeds that each value is the mean of.
        images: number of images.
        entries: one per radius.
    """

    method: str
    guarantee: tuple[str, ...]
    attack: str | None
    samples: int | None
    sigma: str
    selected_on: SelectedOn
    seeds: tuple[int, ...]
    images: int
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """What the curve shows, without the method."""
        if self.attack is None:
            return "Certified"
        return f"{self.attack}, m = {self.samples}" if self.samples else self.attack


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


@dataclass(frozen=True)
class Soundness:
    """The verdict on one run.

    Attributes:
        method: label of the method.
        sigma: of the run.
        variant: its options.
        seed: training seed.
        verdict: on its certificates.
    """

    method: str
    sigma: float
    variant: Mapping[str, int | float | str]
    seed: int
    verdict: Verdict


@dataclass(frozen=True)
class AttackSource:
    """How one attack on one run was made."""

    method: str
    sigma: float
    variant: Mapping[str, int | float | str]
    seed: int
    attack: str
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class EmpiricalResult:
    """A table of certified against empirical accuracy.

    Attributes:
        name: stem of its files.
        title: heading.
        dataset: name of the data set.
        radii: at which accuracy is given, in pixel coordinates [0, 1]; 0 is without attack.
        n: samples of PREDICT.
        alpha: of PREDICT.
        attacks: which there are.
        envelope: per method the best setting at each radius, chosen on the test images, as in the paper.
        per_setting: per method and setting.
        verdict: on all ``global`` certificates; None if there are none.
        soundness: one per run with such certificates.
        sources: how each run was certified.
        attack_sources: how each attack was made.
    """

    name: str
    title: str
    dataset: str
    radii: tuple[float, ...]
    n: int
    alpha: float
    attacks: tuple[ShownAttack, ...]
    envelope: tuple[Curve, ...]
    per_setting: tuple[Curve, ...]
    verdict: Verdict | None
    soundness: tuple[Soundness, ...]
    sources: tuple[Source, ...]
    attack_sources: tuple[AttackSource, ...]
