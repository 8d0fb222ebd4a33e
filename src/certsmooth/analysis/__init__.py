"""Tables: what the certificates of several methods say, compared, with intervals, tests and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Split = Literal["test", "validation"]
"""Which images were certified: the test split, or the validation split of the training split."""


Kind = Literal["measured", "derived"]
"""Where certificates are from: certified here, or a file that others made, from which numbers are derived."""

Record = dict[str, Any]
"""A row of a table, by column."""


@dataclass(frozen=True)
class CertifiedRun:
    """The certificates of one method at one setting, for one training seed, on one split of the data.

    Attributes:
        method: key of the method, for example ``"cohen_ds"``.
        label: its name in tables, ``"Cohen-DS"``.
        train: sigma in training, as the columns of DDRS say it: ``"FS"`` (fixed) or ``"DS"``
            (data-dependent).
        certify: sigma in certification, likewise.
        sigma: the fixed sigma, or the one that a data-dependent sigma starts from, in pixel coordinates [0,
            1].
        grid: what else is chosen among, for example ``{"iterations": 100}``; empty if nothing.
        seed: the training seed; None where that is not known.
        certification_seed: the seed of the noise that certified; None likewise.
        split: which images were certified.
        frame: one row per image, with the columns of a certificates file (`certsmooth.artefacts.certificates`).
        provenance: how the certificates were made: what a certificates file says, and what its spec says under the
            names that tables show (`certsmooth.experiment.steps.certified`). Of a file that others made: data set,
            norm, images, name and sha256 of the file.
        kind: where the certificates are from.
    """

    method: str
    label: str
    train: str
    certify: str
    sigma: float
    grid: Mapping[str, int | float | str]
    seed: int | None
    certification_seed: int | None
    split: Split
    frame: pd.DataFrame
    provenance: Mapping[str, Any]
    kind: Kind = "measured"
