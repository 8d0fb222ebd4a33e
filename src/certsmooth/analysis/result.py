"""What a table says, as plain values: the Markdown, CSV and JSON files are three ways to write this down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from certsmooth.analysis import CertifiedRun

Metric = Literal["certified_accuracy", "empirical_accuracy", "acr"]
Kind = Literal["measured", "published"]
SelectedOn = Literal["test", "validation", "none", "published"]
"""Where sigma and the options of a row were chosen: on the test images themselves (as DDRS does), on the
validation part, nowhere (the row is one setting), or as the paper that published the row did."""


@dataclass(frozen=True)
class Entry:
    """One number.

    Attributes:
        metric: ``certified_accuracy``, ``empirical_accuracy`` (under attack) or ``acr``.
        radius: of an accuracy; None for the ACR.
        value: percent, or a radius in the row's norm for the ACR.
        lower: lower end of the 95 % interval for the finite test set; None if published.
        upper: its upper end.
        unit: of the value.
        sigma: the setting that the value comes from; None if published as "best".
        variant: its options.
    """

    metric: Metric
    radius: float | None
    value: float
    lower: float | None
    upper: float | None
    unit: str
    sigma: float | None
    variant: Mapping[str, int | float | str]


@dataclass(frozen=True)
class Row:
    """One line of a table: a method, and its certified accuracy at each radius and ACR.

    Attributes:
        kind: measured by us, or published in a paper.
        paper: where it was published; None if measured.
        table: the name of our table, or the number of the paper's.
        dataset: name of the data set.
        norm: of the radii.
        method: label of the method.
        train: sigma in training, FS or DS.
        certify: sigma in certification, FS or DS.
        guarantee: every guarantee that occurs in the method's certificates; empty if published.
        sigma: ``"best"``, or the one sigma of the row.
        selected_on: where sigma and options were chosen.
        seeds: training seeds that each value is the mean of; empty if published.
        images: number of images; None if published.
        entries: one per radius, then the ACR (published rows: those that were published).
    """

    kind: Kind
    paper: str | None
    table: str
    dataset: str
    norm: str
    method: str
    train: str
    certify: str
    guarantee: tuple[str, ...]
    sigma: str
    selected_on: SelectedOn
    seeds: tuple[int, ...]
    images: int | None
    entries: tuple[Entry, ...]

    def at(self, radius: float | None) -> Entry | None:
        """Return the entry at a radius, or the ACR for None; None if the row has no such entry."""
        return next((entry for entry in self.entries if entry.radius == radius), None)


@dataclass(frozen=True)
class PairedTest:
    """McNemar's exact test of a method against the baseline at one radius, on the same test images.

    Attributes:
        method: label of the method.
        baseline: label of the baseline.
        radius: an image counts as a success if it is classified correctly with at least this radius.
        selected_on: where the settings of both were chosen.
        difference: certified accuracy of the method minus that of the baseline, in points of percent.
        method_only: images on which only the method succeeds.
        baseline_only: images on which only the baseline succeeds.
        p_value: two-sided.
        p_holm: adjusted for all tests with the same ``selected_on``.
    """

    method: str
    baseline: str
    radius: float
    selected_on: SelectedOn
    difference: float
    method_only: int
    baseline_only: int
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class MemoryEffect:
    """What the memory pass did to one run on the test set.

    Attributes:
        method: label of the method.
        sigma: of the run.
        variant: its options.
        seed: training seed.
        order: in which order the images were entered.
        images: how many there were.
        conflicts: pairs of images of different classes whose certified regions met before the pass.
        capped: images whose radius was reduced.
        repredicted: images whose prediction became that of an earlier one.
        changed: images whose radius is not the one before the pass.
        largest_loss: the largest reduction of a radius.
        acr_before: ACR before the pass; None if a prediction was changed (the earlier one is not stored).
        acr: ACR after it.
    """

    method: str
    sigma: float
    variant: Mapping[str, int | float | str]
    seed: int
    order: str
    images: int
    conflicts: int
    capped: int
    repredicted: int
    changed: int
    largest_loss: float
    acr_before: float | None
    acr: float


@dataclass(frozen=True)
class Source:
    """How one run was made.

    Attributes:
        method: label of the method.
        sigma: of the run.
        variant: its options.
        seed: training seed.
        part: ``test`` or ``validation``.
        provenance: as in the sidecar of its certificates.
    """

    method: str
    sigma: float
    variant: Mapping[str, int | float | str]
    seed: int
    part: str
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, run: CertifiedRun) -> Source:
        """Return how a run was made."""
        return cls(run.label, run.sigma, dict(run.variant), run.seed, run.part, dict(run.provenance))


@dataclass(frozen=True)
class TableResult:
    """A table.

    Attributes:
        name: stem of its files.
        title: heading.
        data: the data set, as papers name it: several entries of params.yaml may be about one.
        norm: of the radii.
        radii: at which certified accuracy is given.
        baseline: label of the method that the others are compared with.
        on_test: best setting per radius, chosen on the test images themselves.
        on_validation: best setting per radius, chosen on the validation part; no row for a method without
            validation runs.
        per_setting: every setting.
        published: rows of a paper's table, never of ours.
        tests: paired tests, first those whose settings were chosen on the validation part.
        memory: what the memory passes changed.
        sources: how each run was made.
    """

    name: str
    title: str
    data: str
    norm: str
    radii: tuple[float, ...]
    baseline: str
    on_test: tuple[Row, ...]
    on_validation: tuple[Row, ...]
    per_setting: tuple[Row, ...]
    published: tuple[Row, ...]
    tests: tuple[PairedTest, ...]
    memory: tuple[MemoryEffect, ...]
    sources: tuple[Source, ...]
