"""What a table of clean accuracies over training seeds says, as plain values: Markdown, CSV and JSON write it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from certsmooth.analysis.published import PublishedNumber
from certsmooth.analysis.result import Source

AccuracyMetric = Literal["clean_accuracy", "abstention_rate", "misclassification_rate", "classwise_accuracy_std", "acr"]


@dataclass(frozen=True)
class Column:
    """A column of the table: one data set at one sigma.

    Attributes:
        dataset: its name, as it is shown.
        sigma: the sigma (IDRS: sigma_b) that the rows of the column are compared at, in pixel coordinates; None where
            the data set alone names the column. A row may smooth with another one, as a constant C sigma does: what it
            used is in its cells.
    """

    dataset: str
    sigma: float | None


@dataclass(frozen=True)
class Quantity:
    """One quantity of a row in a column, measured on every training seed.

    Attributes:
        metric: what it is.
        unit: ``percent``, or ``l2 radius`` for the ACR.
        value: mean over training seeds.
        seed_values: one per seed, in the order of the seeds.
        seed_sd: sample standard deviation of ``seed_values``; None for one seed.
        image_error: standard error of ``value`` for the finite test set, the trained models taken as given.
        difference: ``value`` less that of the baseline in the same column; None for the baseline, or without one.
        difference_error: standard error of the difference, over images and training seeds.
    """

    metric: AccuracyMetric
    unit: str
    value: float
    seed_values: tuple[float, ...]
    seed_sd: float | None
    image_error: float
    difference: float | None
    difference_error: float | None


@dataclass(frozen=True)
class Cell:
    """A row in a column.

    Attributes:
        row: label of the row, the method with its variant.
        method: label of the method.
        variant: its options.
        train: sigma in training, FS or DS.
        certify: sigma in certification, FS, DS or NN.
        column: of the cell.
        guarantee: every guarantee that occurs in the certificates.
        seeds: training seeds.
        images: number of test images.
        classes: number of classes that occur among them; others cannot have a class-wise accuracy.
        sigma: mean of sigma(x) over images and seeds.
        sigma_min: its smallest value.
        sigma_max: its largest value.
        chance_std: about the class-wise standard deviation, in percent, that the finite test set alone would cause if
            all classes were equally accurate.
        quantities: one per metric.
    """

    row: str
    method: str
    variant: Mapping[str, int | float | str]
    train: str
    certify: str
    column: Column
    guarantee: tuple[str, ...]
    seeds: tuple[int, ...]
    images: int
    classes: int
    sigma: float
    sigma_min: float
    sigma_max: float
    chance_std: float
    quantities: tuple[Quantity, ...]

    def of(self, metric: AccuracyMetric) -> Quantity:
        """Return the quantity of a metric."""
        return next(quantity for quantity in self.quantities if quantity.metric == metric)


@dataclass(frozen=True)
class AccuracyResult:
    """A table.

    Attributes:
        name: stem of its files.
        title: heading.
        columns: in order.
        rows: labels, in order.
        baseline: label of the row that the others are compared with.
        cells: those that exist, by row and then by column.
        published: numbers of papers, never of ours.
        sources: how each run was made, by the name of its data set.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    baseline: str
    cells: tuple[Cell, ...]
    published: tuple[PublishedNumber, ...]
    sources: Mapping[str, tuple[Source, ...]]

    def at(self, row: str, column: Column) -> Cell | None:
        """Return the cell of a row in a column; None if the row has no runs there."""
        return next((cell for cell in self.cells if cell.row == row and cell.column == column), None)
