"""What attacks on images and on certificates share: they go group by group, and a killed run goes on with the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from certsmooth._internal.storage import exclusive
from certsmooth.artefacts.counts import CountsTable, Journal
from certsmooth.artefacts.records import write_logs
from certsmooth.errors import CountsError
from certsmooth.experiment.specs import TrainSpec
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.science.models import numerics
from certsmooth.science.sampling.counts import GROUP

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """What is attacked of one run.

    Attributes:
        name: for the progress bar.
        base: the base classifier.
        identity: of what is found.
        rows: what is attacked, in groups of `GROUP`.
        attack: rows -> what is found there, in ``results`` parts with a row for each.
        results: per row.
    """

    name: str
    base: TrainSpec
    identity: Mapping[str, Any]
    rows: Rows
    attack: Callable[[Rows], Iterable[CountsTable]]
    results: int = 1

    @property
    def groups(self) -> Sequence[Rows]:
        """The rows of each group."""
        return [self.rows[i : i + GROUP] for i in range(0, len(self.rows), GROUP)]


def attack_in_groups(output: Path, asked: Iterable[Asked], found: type[CountsTable], loaded: Loaded) -> None:
    """Attack what the journals beside the output do not hold yet, and write what was found, and its log.

    Args:
        output: a Parquet file; the log is the same name with ``.log.json``: seconds per group, device, versions.
        asked: what is attacked, run by run.
        found: the type of what is found.
        loaded: reads the base classifiers.

    Raises:
        CountsError: another run is writing it, or the disk is full.
    """
    with exclusive(output, error=CountsError):
        parts, logs, journals = [], [], []
        for each in asked:
            journal = Journal(output, each.identity)
            with journal, numerics(loaded.classifier(each.base).spec.numeric_type):
                _attack_groups(each, journal)
            journals.append(journal)
            lists = [part for entry in journal.entries for part in entry["found"]]
            parts.append((found.from_lists(lists), each.identity))
            logs.append(loaded.log([entry["seconds"] for entry in journal.entries]))
        found.write(output, parts)
        write_logs(output, logs)
        for journal in journals:
            journal.remove()


def _attack_groups(asked: Asked, journal: Journal) -> None:
    done = len(journal.entries)
    total, finished = (sum(map(len, some)) * asked.results for some in (asked.groups, asked.groups[:done]))
    with tqdm(total=total, initial=finished, unit="attack", desc=asked.name) as bar:
        for group in asked.groups[done:]:
            since, found = time.perf_counter(), []
            for part in asked.attack(group):
                found.append(part.lists())
                bar.update(len(group))
            journal.append({"seconds": time.perf_counter() - since, "found": found})
