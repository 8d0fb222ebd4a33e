"""A table: tidy frames of numbers, and how the runs behind them were made.

Rows of ``values`` are numbers, in long form; a column means the same in every kind of table:

    paper, table, kind      where the number is from: ``published`` in a table of a paper, ``derived`` from per-image
                            certificates that others made, or ``measured`` for this table
    dataset, norm           of the radii
    method, train, certify  label of the method; how sigma was chosen in training and in certification
    sigma                   the one that the row is about, or ``best`` where one was chosen per number
    metric, radius          what the number is, and at which radius; none where it has none
    value, unit             the number
    lower, upper            its 95 % interval for the finite test set, the trained models taken as given
    guarantee               every guarantee that occurs in the certificates
    selected_on             where sigma and options were chosen: on the test images themselves (as DDRS does), on the
                            validation split, nowhere (the row is one setting), or as the paper that published it did
    chosen_sigma, chosen_grid    the setting that the number comes from; ``key=value`` for each option
    seeds, images           training seeds that the number is the mean of, if they are known; how many images it is
                            about
    quantile                of what the number is one, as a share of the images; none where it is no quantile
    image_choice            which images these are, by their index in the test split
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from certsmooth.analysis import CertifiedRun, Record

Kind = Literal["certified", "accuracy", "empirical", "soundness", "thresholds", "high_dimension", "ledger"]
SelectedOn = Literal["test", "validation", "none", "published"]


@dataclass(frozen=True, eq=False)
class TableResult:
    """A table.

    Attributes:
        kind: of the table.
        name: stem of its files.
        title: heading.
        about: what holds for all of it, as JSON values; the function that makes a kind says what.
        values: every number, in long form: the CSV file.
        more: further frames, by name.
        views: numbers of ``values`` once more, as people read them; in no file but the Markdown.
        sources: how the certificates were made, by `source`.
        attack_sources: how attacks on them were made, likewise.
    """

    kind: Kind
    name: str
    title: str
    about: Mapping[str, Any]
    values: pd.DataFrame
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    views: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    sources: Sequence[Record] = ()
    attack_sources: Sequence[Record] = ()

    def content(self) -> dict[str, Any]:
        """Return the table as JSON values; an absent number is None."""
        return {
            **{"kind": self.kind, "name": self.name, "title": self.title, **self.about},
            **{name: records(frame) for name, frame in {"values": self.values, **self.more}.items()},
            "sources": list(self.sources),
            "attack_sources": list(self.attack_sources),
        }


def source(run: CertifiedRun, attack: str | None = None, provenance: Mapping[str, Any] | None = None) -> Record:
    """Return how the certificates of a run were made, or an attack on them (its key, and its own provenance)."""
    return {
        **{"method": run.label, "sigma": run.sigma, "grid": dict(run.grid), "seed": run.seed, "split": run.split},
        **{"attack": attack, "provenance": dict(run.provenance if provenance is None else provenance)},
    }


def tidy(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Return a frame with these columns; what a row has beside them is left out, and what it lacks is absent."""
    frame = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    dtypes = {"integer": "Int64", "floating": "float64", "mixed-integer-float": "float64"}
    return frame.astype({name: dtypes.get(pd.api.types.infer_dtype(frame[name]), "object") for name in columns})


def records(frame: pd.DataFrame) -> list[Record]:
    """Return the rows of a frame; an absent value is None."""
    rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False)
    return [dict(zip(map(str, frame.columns), row, strict=True)) for row in rows]
