"""Class counts under noise: the expensive artefact that every certificate is derived from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

BLOCK = 100
"""Noise samples per block: the unit that batches are made of."""

GROUP = 50
"""Images that share batches and one call of the sigma policy; shards are unions of whole groups."""


@dataclass(frozen=True)
class Counts:
    """Class counts of N images.

    Attributes:
        index: int64 [N], position of the image in its data set's split.
        label: int64 [N], the true class; -1 where unknown.
        sigma: float64 [N], the noise level used, in pixel coordinates [0, 1].
        constant_within: float64 [N], l2 distance up to which sigma(x) is known to be the same, in pixel coordinates.
        selection: int64 [N, k], class counts of the n0 selection samples.
        estimation: int64 [N, k], class counts of the n estimation samples, independent of the selection samples.
        batch_size: int64 [N], rows per forward pass (the batch size is part of the arithmetic).
    """

    index: Int[np.ndarray, " N"]
    label: Int[np.ndarray, " N"]
    sigma: Float[np.ndarray, " N"]
    constant_within: Float[np.ndarray, " N"]
    selection: Int[np.ndarray, "N k"]
    estimation: Int[np.ndarray, "N k"]
    batch_size: Int[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def predict(self) -> Int[np.ndarray, " N"]:
        """The most frequent class of the selection samples (the smallest class on a tie)."""
        if len(self) == 0:  # a shard without images, whose counts have no second axis
            return np.zeros(0, dtype=np.int64)
        predicted: Int[np.ndarray, " N"] = self.selection.argmax(axis=1)
        return predicted


def concatenate(parts: Sequence[Counts]) -> Counts:
    """Join counts of disjoint sets of images, in the order given; of no images, a set says nothing."""
    full = [part for part in parts if len(part)]
    return Counts(*(np.concatenate([getattr(part, f.name) for part in full or parts]) for f in fields(Counts)))


def shard_of(images: int, shard: int, shards: int) -> range:
    """Return the positions of a shard among some images: whole groups of `GROUP`, as even as can be."""
    each, more = divmod(-(-images // GROUP), shards)
    first = shard * each + min(shard, more)
    return range(min(images, first * GROUP), min(images, (first + each + (shard < more)) * GROUP))
