"""Samples until they show enough: what a group's images draw next, from look to look.

The images of a group form two lanes. Those of a lane that need more samples draw them together, up to their next look;
when all are counted, they are looked at, and those that still need more draw on. While one lane is looked at the other
one computes. Which rows share a batch thus follows from the counts, n0, the rule and the batch size alone: not from
threads or interruptions, as a run that goes on does so from the last look of each lane.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int

from certsmooth.science.sampling.batches import Run, Stretch, cut
from certsmooth.science.sampling.counts import BLOCK

NextLook = Callable[
    [Int[np.ndarray, " m"], Int[np.ndarray, "m k"], Int[np.ndarray, "m k"]],
    Int[np.ndarray, " m"],
]
"""Positions of images in their group, their selection and estimation counts -> how many estimation samples each is to
have at the next look; as many as it has if it needs no more."""

_LANES = 2


@dataclass(frozen=True)
class Looked:
    """Counts of some images of a group after a look.

    Attributes:
        positions: int64 [m], of the images in the group.
        selection: int64 [m, k], their class counts.
        estimation: int64 [m, k], likewise.
        drawn: int64 [m], how many samples were drawn of each since the last look.
        finished: bool [m], whether an image needs no more.
        batch_size: rows per forward pass at most.
    """

    positions: Int[np.ndarray, " m"]
    selection: Int[np.ndarray, "m k"]
    estimation: Int[np.ndarray, "m k"]
    drawn: Int[np.ndarray, " m"]
    finished: Bool[np.ndarray, " m"]
    batch_size: int


@dataclass
class _Lane:
    positions: npt.NDArray[np.int64]  # of the images that need more
    until: npt.NDArray[np.int64]  # how many estimation samples each has at the next look
    waiting: deque[list[Run]] = field(default_factory=deque)
    missing: int = 0  # batches whose tables are still to come


class Lanes:
    """What is drawn next of a group's images.

    Args:
        n0: selection samples.
        next_look: how long to draw.
        selection: int64 [g, k], the counts so far, which change; zero for an image that begins.
        estimation: int64 [g, k], likewise.
        most_blocks: of a batch.
    """

    def __init__(
        self,
        n0: int,
        next_look: NextLook,
        selection: npt.NDArray[np.int64],
        estimation: npt.NDArray[np.int64],
        most_blocks: int,
    ) -> None:
        self.n0 = n0
        self.next_look = next_look
        self.selection, self.estimation = selection, estimation
        self.most_blocks = most_blocks
        self._counted = np.zeros((len(selection), 2, selection.shape[1]), np.int64)  # since the last look
        every = np.arange(len(selection))
        self._lanes = [self._planned(every[lane::_LANES]) for lane in range(_LANES)]

    def batches(self) -> Iterator[list[Run] | None]:
        """Yield what to compute next, in any order; None where that depends on a table that is still to come."""
        while any(lane.missing for lane in self._lanes):
            ready = [lane for lane in self._lanes if lane.waiting]
            yield ready[0].waiting.popleft() if ready else None

    def credit(self, batch: Sequence[Run], counts: Sequence[npt.NDArray[np.int64]], batch_size: int) -> Looked | None:
        """Add the counts of a batch's runs; with the last one before a look, return what that shows."""
        place = batch[0].position % _LANES
        lane = self._lanes[place]
        for run, found in zip(batch, counts, strict=True):
            self._counted[run.position, int(run.stage == "estimation")] += found
        lane.missing -= 1
        if lane.missing:
            return None
        at = lane.positions
        drawn = self._counted[at].sum(axis=(1, 2))
        self.selection[at] += self._counted[at, 0]
        self.estimation[at] += self._counted[at, 1]
        self._counted[at] = 0
        self._lanes[place] = self._planned(at)
        finished = np.isin(at, self._lanes[place].positions, invert=True)
        return Looked(at, self.selection[at], self.estimation[at], drawn, finished, batch_size)

    def _planned(self, positions: npt.NDArray[np.int64]) -> _Lane:
        """Return what those of some images draw that need more."""
        if not len(positions):
            return _Lane(positions, positions)
        selection, estimation = self.selection[positions], self.estimation[positions]
        n, until = estimation.sum(axis=1), self.next_look(positions, selection, estimation)
        more = np.flatnonzero(until > n)
        lane = _Lane(positions[more], until[more])
        stretches = []
        for position, begun, start, end in zip(
            lane.positions, selection[more].sum(axis=1), n[more], lane.until, strict=True
        ):
            stretches += [] if begun else [Stretch(int(position), "selection", 0, self.n0)]
            stretches.append(Stretch(int(position), "estimation", int(start), int(end)))
        if stretches:
            lane.waiting.extend(cut(stretches, self._blocks(stretches)))
            lane.missing = len(lane.waiting)
        return lane

    def _blocks(self, stretches: Sequence[Stretch]) -> int:
        """Return of how many blocks batches are: as many batches as are needed, of one size."""
        blocks = sum(-(-(each.end - each.start) // BLOCK) for each in stretches)
        return -(-blocks // -(-blocks // self.most_blocks))
