"""Which noise samples share a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from certsmooth.science.sampling.counts import BLOCK


@dataclass(frozen=True)
class Stretch:
    """Consecutive samples of one image and stage.

    Attributes:
        position: of the image in its group.
        stage: "selection" or "estimation".
        start: number of the first sample, that of the first of a block.
        end: number of the sample after the last.
    """

    position: int
    stage: str
    start: int
    end: int


@dataclass(frozen=True)
class Run:
    """Consecutive noise blocks of one image and stage, within one batch.

    Attributes:
        position: of the image in its group.
        stage: "selection" or "estimation".
        first: number of the first block in the stream of that image and stage.
        start: number of that block in the batch.
        blocks: how many blocks.
        samples: how many samples of them count: all but the end of a stage's last block.
        completes: whether the image's estimation is finished with it.
    """

    position: int
    stage: str
    first: int
    start: int
    blocks: int
    samples: int
    completes: bool


def cut(stretches: Iterable[Stretch], blocks: int) -> list[list[Run]]:
    """Cut stretches of samples, in the order given, into batches of ``blocks`` blocks; the last has the rest."""
    batches: list[list[Run]] = [[]]
    room = blocks
    for stretch in stretches:
        drawn = stretch.start
        while drawn < stretch.end:
            if room == 0:
                batches.append([])
                room = blocks
            taken = min(room, -(-(stretch.end - drawn) // BLOCK))
            counted = min(taken * BLOCK, stretch.end - drawn)
            last = drawn + counted == stretch.end and stretch.stage == "estimation"
            batches[-1].append(
                Run(stretch.position, stretch.stage, drawn // BLOCK, blocks - room, taken, counted, last)
            )
            drawn, room = drawn + counted, room - taken
    return batches
