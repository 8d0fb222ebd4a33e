"""Rules that say when enough samples of an image were drawn, one file each.

A member module defines one frozen dataclass, a subclass of `StoppingRule`; its fields are the options that params.yaml
may give. Whatever a rule looks at, certificates stay right (`certsmooth.science.theory.sequential`): a rule decides
what certificates cost, and how much of their radius is found.

Samples are drawn in blocks. An image is looked at when it has 100 samples, then whenever it has a quarter more (up to
2,000), 500 more (up to 5,000) or a tenth more, and at n_max.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Lt
from jaxtyping import Bool, Float, Int
from scipy.special import ndtri

from certsmooth._internal.options import Member
from certsmooth.errors import ConfigError
from certsmooth.science.certificates import Certificate, Smoothing, check_may_stop
from certsmooth.science.sampling.counts import BLOCK
from certsmooth.science.theory.sequential import StoppedTrials, Trials


@dataclass(frozen=True)
class Prospect:
    """What N images have shown so far, and what they may still show.

    Attributes:
        certificate: what the counts are turned into.
        alpha: the probability of error per image.
        most: n_max, the samples that are drawn where nothing stops them.
        selection: int64 [N, k], class counts of the samples that selected the class.
        estimation: int64 [N, k], class counts of the samples that bound its probability, so far.
        smoothing: the noise.
    """

    certificate: Certificate
    alpha: float
    most: int
    selection: Int[np.ndarray, "N k"]
    estimation: Int[np.ndarray, "N k"]
    smoothing: Smoothing

    def radii(self, chance: float) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Return the radii that are certified if the samples stop here, and those that may still be; -1 for abstention.

        The radii after ``most`` samples are above the second with a probability of about ``chance`` at most. The
        successes to come are taken for normal, with the mean and the variance that they have where the probability is
        drawn from its posterior under a uniform prior. It is a guess, on which nothing rests but the cost.

        Args:
            chance: in [0, 1); 0: no more than the second is possible at all.
        """
        n = self.estimation.sum(axis=1)
        selected = self.selection.argmax(axis=1)[:, None]
        k = np.take_along_axis(self.estimation, selected, axis=1)[:, 0]
        left, share = self.most - n, (k + 1) / (n + 2)
        spread = np.sqrt(left * share * (1 - share) * (n + left + 2) / (n + 3))
        more = left if chance == 0 else np.ceil(left * share - ndtri(chance) * spread).clip(0, left).astype(np.int64)
        final = self._scaled(np.where(np.arange(self.estimation.shape[1]) == selected, 0, self.estimation), left - more)
        np.put_along_axis(final, selected, (k + more)[:, None], axis=1)
        now, later = np.split(self._certified(np.concatenate([self.estimation, final])), 2)
        return now, later

    @staticmethod
    def _scaled(others: npt.NDArray[np.int64], failures: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return counts of the other classes after so many more of them, in the same shares."""
        so_far = others.sum(axis=1)
        share = others / np.maximum(so_far, 1)[:, None]
        added = np.floor(share * failures[:, None]).astype(np.int64)
        added[np.arange(len(others)), others.argmax(axis=1)] += failures - added.sum(axis=1)
        total: npt.NDArray[np.int64] = others + added
        return total

    def _certified(self, estimation: Int[np.ndarray, "M k"]) -> npt.NDArray[np.float64]:
        """Return the radii by several counts of all images, one after the other: in one call, as looks are many."""
        times = len(estimation) // len(self.estimation)
        sigma, within = (np.tile(each, times) for each in (self.smoothing.sigma, self.smoothing.constant_within))
        smoothing = replace(self.smoothing, sigma=sigma, constant_within=within)
        bound = self.certificate(np.tile(self.selection, (times, 1)), estimation, smoothing, alpha=self.alpha)
        return np.where(bound.predict >= 0, bound.radius, -1.0)


@dataclass(frozen=True)
class StoppingRule(Member, ABC):
    """Base of the rules: a member defines `decided`.

    Attributes:
        chance: in [0, 1), of what is given up: what an image has less than this chance to get until n_max is a no; 0:
            only what it can no longer get.
        only_correct: stop after the selection where the selected class is not the label. Such images count as errors
            in certified accuracy, whatever their radius, which is then that of the first 100 samples.
    """

    chance: Annotated[float, Ge(0), Lt(1)] = field(default=0.03, kw_only=True)
    only_correct: bool = field(default=False, kw_only=True)

    def trials(self, most: int) -> Trials:
        """Return how the numbers of samples come about."""
        return StoppedTrials(most)

    def next_look(self, n: int, most: int) -> int:
        """Return after how many samples an image that has n, 0 or more, is looked at."""
        step = max(BLOCK, n / 10, min(n / 4, 500))
        return min(most, n + math.ceil(step / BLOCK) * BLOCK)

    @property
    def asked(self) -> tuple[float, ...]:
        """The radii that are asked for by number."""
        return ()

    @abstractmethod
    def decided(self, prospect: Prospect) -> Bool[np.ndarray, " N"]:
        """Return which images need no more samples."""


BASE = StoppingRule


@dataclass(frozen=True)
class Looks:
    """Looks at the images of a group: a `certsmooth.science.sampling.lanes.NextLook`.

    Attributes:
        rule: when samples stop.
        certificate: what the counts are turned into.
        alpha: the probability of error per image.
        most: n_max.
        smoothing: the noise of the g images.
        labels: int64 [g]; None where the rule needs none.
        no_end: whether n_max was chosen after a look.
    """

    rule: StoppingRule
    certificate: Certificate
    alpha: float
    most: int
    smoothing: Smoothing
    labels: Int[np.ndarray, " g"] | None = None
    no_end: bool = False

    def at(
        self,
        sigma: Float[np.ndarray, " g"],
        constant_within: Float[np.ndarray, " g"],
        labels: Int[np.ndarray, " g"] | None = None,
    ) -> Looks:
        """Return the same for other images."""
        return replace(
            self, smoothing=replace(self.smoothing, sigma=sigma, constant_within=constant_within), labels=labels
        )

    def __call__(
        self,
        positions: Int[np.ndarray, " m"],
        selection: Int[np.ndarray, "m k"],
        estimation: Int[np.ndarray, "m k"],
    ) -> npt.NDArray[np.int64]:
        """Return how many estimation samples each is to have at the next look; as many as it has: no more."""
        n = estimation.sum(axis=1)
        until = np.array([self.rule.next_look(int(each), self.most) for each in n], np.int64)
        begun = np.flatnonzero(n)
        if len(begun):
            enough = self._decided(positions[begun], selection[begun], estimation[begun])
            until[begun] = np.where(enough, n[begun], until[begun])
        return until

    def _decided(
        self, at: npt.NDArray[np.int64], selection: npt.NDArray[np.int64], estimation: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        sigma, within = self.smoothing.sigma[at], self.smoothing.constant_within[at]
        trials = self.rule.trials(self.most)
        trials = trials.without_end() if self.no_end else trials
        smoothing = replace(self.smoothing, sigma=sigma, constant_within=within, trials=trials)
        prospect = Prospect(self.certificate, self.alpha, self.most, selection, estimation, smoothing)
        enough: npt.NDArray[np.bool_] = self.rule.decided(prospect)
        if self.rule.only_correct:
            if self.labels is None:
                raise ConfigError("only_correct: true; must be false where images have no labels")
            enough = enough | (selection.argmax(axis=1) != self.labels[at])
        return enough


def decided(radii: npt.ArrayLike, prospect: Prospect, chance: float) -> Bool[np.ndarray, " N"]:
    """Return of which images it is known, for each of some radii, whether it is certified."""
    ordered = np.sort(np.asarray(radii, np.float64))
    reached, reachable = (np.searchsorted(ordered, found, side="right") for found in prospect.radii(chance))
    return np.asarray(reached >= reachable)


def expected_samples(
    looks: Looks, selection: Int[np.ndarray, "g k"], estimation: Int[np.ndarray, "g k"]
) -> Int[np.ndarray, " g"]:
    """Return when samples would stop if they came in the shares of some counts, without chance: a forecast of the cost.

    Args:
        looks: at these images.
        selection: class counts of the samples that select the class.
        estimation: class counts, which give the shares.
    """
    every, seen = np.arange(len(estimation)), np.zeros_like(estimation)
    share = estimation / estimation.sum(axis=1, keepdims=True)
    while True:
        until = looks(every, selection, seen)
        more = np.flatnonzero(until > seen.sum(axis=1))
        if not len(more):
            return np.asarray(until)
        drawn = np.floor(share[more] * until[more, None]).astype(np.int64)
        drawn[np.arange(len(more)), drawn.argmax(axis=1)] += until[more] - drawn.sum(axis=1)
        seen[more] = drawn


def check_can_stop(
    rule: StoppingRule, certificate: Certificate, smoothing: Smoothing, *, most: int, alpha: float
) -> None:
    """Raise unless a rule makes sense for a certificate.

    Args:
        rule: when samples stop.
        certificate: what the counts are turned into.
        smoothing: the noise, of one or more images.
        most: n_max.
        alpha: the probability of error per image.

    Raises:
        ConfigError: the certificate is about a fixed number of samples; or the rule asks for a radius that ``most``
            samples can certify for no image, whatever they show: the message says which is the largest.
    """
    smoothing = replace(smoothing, trials=rule.trials(most))
    check_may_stop(type(certificate), smoothing.trials)
    if not rule.asked:
        return
    best = np.tile(np.array([[most, 0]], np.int64), (len(smoothing.sigma), 1))
    largest = float(certificate(best, best, smoothing, alpha=alpha).radius.max())
    if (asked := max(rule.asked)) > largest:
        raise ConfigError(
            f"radius: {asked:g}; must be at most {np.floor(largest * 1e4) / 1e4:g}, the largest that {most} samples "
            f"can certify at alpha {alpha:g}"
        )
