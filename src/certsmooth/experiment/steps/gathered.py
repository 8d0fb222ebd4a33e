"""Counts of all shards, as the steps that derive something from them read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from certsmooth._internal.storage import file_digest
from certsmooth.artefacts.counts import COUNTS, CountsPart, read_counts
from certsmooth.artefacts.records import Log, read_logs
from certsmooth.errors import CountsError
from certsmooth.experiment.build import build
from certsmooth.experiment.specs import N_BEFORE, MemberSpec, SampleSpec, sources
from certsmooth.science.certificates import Bound, Certificate, Smoothing
from certsmooth.science.sampling.counts import Counts, concatenate
from certsmooth.science.stopping import StoppingRule
from certsmooth.science.theory.pixel_grid import grid_of
from certsmooth.science.theory.sequential import FIXED, Trials


@dataclass(frozen=True)
class Gathered:
    """The counts of one run on one split.

    Attributes:
        counts: of all images.
        identity: without the shard.
        logs: how each shard was made.
    """

    counts: Counts
    identity: Mapping[str, Any]
    logs: Sequence[Log]

    @property
    def trials(self) -> Trials:
        """How the number of samples came about."""
        spec = self.identity["spec"]
        if (stop := spec.get("stop")) is None:
            return FIXED
        rule: StoppingRule = build("stopping", MemberSpec(**stop["rule"]), key="certification.stop")
        trials = rule.trials(spec["n"])
        return trials.without_end() if self.identity.get(N_BEFORE) else trials

    def bound(self, certificate: Certificate, *, alpha: float, image_shape: Sequence[int]) -> Bound:
        """Return the certificates, without a memory."""
        smoothing = Smoothing(
            self.counts.sigma,
            math.prod(image_shape),
            self.identity["semi_elasticity"],
            self.counts.constant_within,
            grid=grid_of(self.identity["spec"]["step"]),
            trials=self.trials,
        )
        return certificate(self.counts.selection, self.counts.estimation, smoothing, alpha=alpha)


class Counted:
    """Reads the counts that specs name, each file once.

    Args:
        results: the folder of the results.
    """

    def __init__(self, results: Path) -> None:
        self.results = results
        self._files: dict[Path, tuple[list[CountsPart], list[Log]]] = {}

    def gather(self, sampled: SampleSpec, files: Sequence[Path], record: Mapping[str, Any]) -> Gathered:
        """Return the counts of a run, if they are of the images and of the base classifier that are there now.

        Args:
            sampled: what they must be.
            files: one a shard, in order, below the folder of the results.
            record: of the data set.

        Raises:
            CountsError: counts that are missing, damaged, incomplete, or of something else.
        """
        expect = sources(sampled, record, file_digest(self.results / sampled.base.path, error=CountsError))
        found = [self._find(self.results / file, {**expect, "shard": [i, len(files)]}) for i, file in enumerate(files)]
        first = {key: value for key, value in found[0][0].identity.items() if key != "shard"}
        alike = replace(COUNTS, remedy=f"as in {files[0]}; sample again")
        for file, (part, _) in zip(files, found, strict=True):
            alike.check(self.results / file, part.identity, first)
        counts = concatenate([part.counts for part, _ in found])
        _check_sums(self.results / files[0], "selection", counts.selection, sampled.n0, sampled.n0)
        fewest = sampled.n if sampled.stop is None else 1
        _check_sums(self.results / files[0], "estimation", counts.estimation, fewest, sampled.n)
        return Gathered(counts, first, [log for _, log in found])

    def _find(self, path: Path, expect: Mapping[str, Any]) -> tuple[CountsPart, Log]:
        if path not in self._files:
            parts, logs = read_counts(path), read_logs(path)
            if [len(part.counts) for part in parts] != [len(log.seconds) for log in logs]:
                raise CountsError(f"{path}: the log is about other images; sample again")
            self._files[path] = parts, logs
        parts, logs = self._files[path]
        place = COUNTS.find(path, [part.identity for part in parts], expect)
        return parts[place], logs[place]


def _check_sums(path: Path, name: str, counts: npt.NDArray[np.int64], fewest: int, most: int) -> None:
    sums = counts.sum(axis=1)
    wrong = np.flatnonzero((sums < fewest) | (sums > most))
    if len(wrong):
        right = most if fewest == most else f"{fewest} to {most}"
        found = f"{name} of row {wrong[0]} sums to {sums[wrong[0]]}"
        raise CountsError(f"{path}: {found}; must be {right} samples; sample again")
