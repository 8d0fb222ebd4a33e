"""Class counts at attacked images, on disk: as `certsmooth.counts_files`, a row per image, samples and radius."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from certsmooth.counts_files import read_columns, write_columns

_TYPES = {
    "index": np.int64,
    "label": np.int64,
    "samples": np.int64,
    "epsilon": np.float64,
    "distance": np.float64,
    "sigma": np.float64,
    "counts": np.int64,
    "batch_size": np.int64,
}


@dataclass(frozen=True)
class AttackCounts:
    """Class counts of the smoothed classifier's PREDICT at N attacked images.

    Attributes:
        index: int64 [N], position of the image in its data set's split.
        label: int64 [N], the true class.
        samples: int64 [N], noise samples that the attack saw; 0 for none.
        epsilon: float64 [N], the largest l2 norm that the attack was allowed; 0: not attacked, ``samples`` is then 0.
        distance: float64 [N], the l2 norm of the perturbation, in pixel coordinates [0, 1].
        sigma: float64 [N], the noise level used at the attacked image.
        counts: int64 [N, k], class counts under noise that the attack has not seen.
        batch_size: int64 [N], rows per forward pass.
    """

    index: Int[np.ndarray, " N"]
    label: Int[np.ndarray, " N"]
    samples: Int[np.ndarray, " N"]
    epsilon: Float[np.ndarray, " N"]
    distance: Float[np.ndarray, " N"]
    sigma: Float[np.ndarray, " N"]
    counts: Int[np.ndarray, "N k"]
    batch_size: Int[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.index)

    def lists(self) -> dict[str, list[Any]]:
        """Return the columns as lists, which `from_lists` turns into the same counts."""
        return {name: values.tolist() for name, values in asdict(self).items()}


def from_lists(parts: Sequence[Mapping[str, Sequence[Any]]]) -> AttackCounts:
    """Join what `AttackCounts.lists` returned, in the order given."""
    columns = {
        name: np.concatenate([np.asarray(part[name]).astype(kind) for part in parts]) for name, kind in _TYPES.items()
    }
    return AttackCounts(**columns)


def write_attack(path: Path, counts: AttackCounts, identity: Mapping[str, Any]) -> None:
    """Write counts at attacked images, atomically and with the same bytes for the same content.

    Args:
        path: the Parquet file; its columns are the fields of `AttackCounts`.
        counts: what was counted.
        identity: what was attacked and how (JSON); it is stored in the file, and compared when the file is read.

    Raises:
        CountsError: the file cannot be written.
    """
    write_columns(path, asdict(counts), identity)


def read_attack(path: Path, *, expect: Mapping[str, Any] | None = None) -> tuple[AttackCounts, dict[str, Any]]:
    """Read counts at attacked images, and the identity they were written with.

    Args:
        path: the Parquet file.
        expect: entries that the identity must have: attacks on another model or with other settings are refused.

    Raises:
        CountsError: not such a file, corrupt, or an entry differs; the message names it and both values.
    """
    columns, identity = read_columns(path, _TYPES, expect=expect)
    return AttackCounts(**columns), identity
