"""A table: tidy frames of numbers, and how the runs behind them were made.

Rows of ``values`` are numbers, in long form; a column means the same in every kind of table:

    paper, table, kind      where the number is from: ``published`` in a table of a paper, or ``measured`` for this one
    dataset, norm           of the radii
    method, train, certify  label of the method; how sigma was chosen in training and in certification
    sigma                   the one that the row is about, or ``best`` where one was chosen per number
    metric, radius          what the number is, and at which radius; none where it has none
    value, unit             the number
    lower, upper            its 95 % interval for the finite test set, the trained models taken as given
    guarantee               every guarantee that occurs in the certificates
    selected_on             where sigma and options were chosen: on the test images themselves (as DDRS does), on the
                            validation part, nowhere (the row is one setting), or as the paper that published it did
    chosen_sigma, chosen_grid    the setting that the number comes from; ``key=value`` for each option
    seeds, images           training seeds that the number is the mean of; how many images it is about
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

from certsmooth.analysis import CertifiedRun, Record

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["certified", "accuracy", "empirical", "soundness", "thresholds", "high_dimension", "ledger"]
SelectedOn = Literal["test", "validation", "none", "published"]


@dataclass(frozen=True)
class Source:
    """How the certificates of one run, or an attack on them, were made.

    Attributes:
        method: label of the method.
        sigma: of the run.
        grid: its options.
        seed: training seed.
        part: ``test`` or ``validation``.
        attack: which one; None for the certificates.
        provenance: as in the sidecar of its certificates, or as the attack says.
    """

    method: str
    sigma: float
    grid: Mapping[str, int | float | str]
    seed: int
    part: str
    attack: str | None
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, run: CertifiedRun, attack: str | None = None, provenance: Mapping[str, Any] | None = None) -> Source:
        """Return how the certificates of a run were made, or an attack on them."""
        made = dict(run.provenance if provenance is None else provenance)
        return cls(run.label, run.sigma, dict(run.grid), run.seed, run.part, attack, made)


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
        sources: how the certificates were made.
        attack_sources: how attacks on them were made.
    """

    kind: Kind
    name: str
    title: str
    about: Mapping[str, Any]
    values: pd.DataFrame
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    views: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    sources: Sequence[Source] = ()
    attack_sources: Sequence[Source] = ()

    def content(self) -> dict[str, Any]:
        """Return the table as JSON values; an absent number is None."""
        return {
            **{"kind": self.kind, "name": self.name, "title": self.title, **self.about},
            **{name: records(frame) for name, frame in {"values": self.values, **self.more}.items()},
            "sources": [asdict(source) for source in self.sources],
            "attack_sources": [asdict(source) for source in self.attack_sources],
        }


def tidy(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Return a frame with these columns; what a row has beside them is left out, and what it lacks is absent."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    return frame.astype({name: _dtype(frame[name].dropna()) for name in columns})


def _dtype(values: Iterable[object]) -> str:
    found = list(values)
    if not found or not all(isinstance(value, Real) for value in found):
        return "object"
    return "Int64" if all(isinstance(value, Integral) for value in found) else "float64"


def records(frame: pd.DataFrame | Sequence[Record]) -> list[Record]:
    """Return the rows of a frame; an absent value is None. Rows stay as they are."""
    if isinstance(frame, Sequence):
        return list(frame)
    rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False)
    return [dict(zip(map(str, frame.columns), row, strict=True)) for row in rows]
