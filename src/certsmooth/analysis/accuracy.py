"""Clean accuracy, abstention, misclassification and class-wise balance over training seeds (IDRS, Tables 2 to 20)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.accuracy_result import AccuracyMetric, AccuracyResult, Cell, Column, Quantity
from certsmooth.analysis.published import published_numbers
from certsmooth.analysis.result import Source
from certsmooth.analysis.runs import Method, Outcome, collect, guarantees, name_of, setting_of
from certsmooth.errors import ConfigError, nearest
from certsmooth.report.accuracy_markdown import render
from certsmooth.report.files import write_result
from certsmooth.science.certificates import ABSTAIN


@dataclass(frozen=True)
class RowOutcome:
    """The outcome of one row, a method with a variant, in one column."""

    row: str
    method: Method
    outcome: Outcome


def rows_by_column(runs_by_column: Mapping[Column, Sequence[CertifiedRun]]) -> dict[Column, tuple[RowOutcome, ...]]:
    """Group the runs of each column by row, and check that they can be compared.

    Args:
        runs_by_column: on the test part; those on another part are ignored.

    Raises:
        ConfigError: there are no columns, a column has no runs on the test part, or a row has two runs for one column
            and seed.
        CountsError: runs on one data set are not about the same images.
    """
    if not runs_by_column:
        raise ConfigError("columns: there are none; must be at least one")
    for dataset in dict.fromkeys(column.dataset for column in runs_by_column):
        every = [run for column, runs in runs_by_column.items() if column.dataset == dataset for run in runs]
        # The same run may stand in two columns, as a constant sigma does beside two values of sigma_b.
        collect(list({(run.method, setting_of(run), run.seed, run.part): run for run in every}.values()), "test")
    return {column: _rows(column, collect(runs, "test")) for column, runs in runs_by_column.items()}


def _rows(column: Column, methods: Sequence[Method]) -> tuple[RowOutcome, ...]:
    if not methods:
        raise ConfigError(f"{_name(column)}: no runs on the test part; must have some")
    rows: dict[str, RowOutcome] = {}
    for method in methods:
        for outcome in method.outcomes:
            variant = "; ".join(f"{key} {value}" for key, value in outcome.setting.variant)
            row = RowOutcome(f"{method.label}; {variant}" if variant else method.label, method, outcome)
            if (other := rows.setdefault(row.row, row)) is not row:
                found = f"{other.outcome.setting.sigma:g} and {outcome.setting.sigma:g}"
                raise ConfigError(f"{_name(column)}: {row.row} has sigma {found}; must be one")
    return tuple(rows.values())


def _name(column: Column) -> str:
    return f"column {column.dataset}, sigma {column.sigma}"


def row_labels(columns: Mapping[Column, Sequence[RowOutcome]]) -> tuple[str, ...]:
    """Return the labels of all rows: methods in the order in which they first appear, then their variants."""
    rows = [row for column in columns.values() for row in column]
    methods = list(dict.fromkeys(row.method.label for row in rows))
    return tuple(dict.fromkeys(row.row for method in methods for row in rows if row.method.label == method))


def build_accuracy_table(
    runs_by_column: Mapping[Column, Sequence[CertifiedRun]],
    *,
    name: str,
    title: str,
    baseline_method: str,
    published: Sequence[tuple[str, int]] = (),
) -> AccuracyResult:
    """Compare what methods do to clean images, per column, over training seeds.

    Rows are methods with their variants. Standard errors are those of a mean over test images; the class-wise standard
    deviation is linearised for it (the delta method). A difference is paired by images and by training seeds, and its
    squared error is the sum of the one over images (seeds taken as given) and the one over seeds (images taken as
    given): in a two-way layout that counts the interaction twice, so it errs on the wide side.

    Args:
        runs_by_column: the runs of each column, on the test part. Columns of one data set must certify the same images.
            A run may stand in several columns, as a constant sigma beside two values of sigma_b.
        name: stem of the files.
        title: heading.
        baseline_method: key of the method that the others are compared with; one row per column.
        published: papers and numbers of the published tables to show beside ours.

    Raises:
        ConfigError: there are no runs, the baseline is not among them or has several rows in a column, or there is no
            such published table.
        CountsError: runs on one data set are not about the same images.
    """
    columns = rows_by_column(runs_by_column)
    baselines = {column: _baseline(column, rows, baseline_method) for column, rows in columns.items()}
    shown = [row.row for row in baselines.values() if row is not None]
    if not shown:
        keys = {row.method.key for rows in columns.values() for row in rows}
        raise ConfigError(f"{name}: baseline_method {baseline_method!r} has no runs; {nearest(baseline_method, keys)}")
    cells = [_cell(column, row, baselines[column]) for column, rows in columns.items() for row in rows]
    labels = row_labels(columns)
    return AccuracyResult(
        name=name,
        title=title,
        columns=tuple(columns),
        rows=labels,
        baseline=shown[0],
        cells=tuple(cell for label in labels for cell in cells if cell.row == label),
        published=tuple(number for paper, table in published for number in published_numbers(paper, table)),
        sources=_sources(columns),
    )


def _baseline(column: Column, rows: Sequence[RowOutcome], key: str) -> RowOutcome | None:
    found = [row for row in rows if row.method.key == key]
    if len(found) > 1:
        raise ConfigError(
            f"{_name(column)}: baseline_method {key!r} has {len(found)} rows "
            f"({', '.join(row.row for row in found)}); must be one"
        )
    return found[0] if found else None


def _sources(columns: Mapping[Column, Sequence[RowOutcome]]) -> dict[str, tuple[Source, ...]]:
    sources: dict[str, dict[str, Source]] = {}
    for column, rows in columns.items():
        for run in (run for row in rows for run in row.outcome.runs):
            sources.setdefault(column.dataset, {}).setdefault(name_of(run), Source.of(run))
    return {dataset: tuple(found.values()) for dataset, found in sources.items()}


class _Measured:
    """Each metric of one outcome: a value per seed, and what each image adds to it (its influence)."""

    def __init__(self, outcome: Outcome) -> None:
        frames = [run.frame.sort_values("idx") for run in outcome.runs]
        label = frames[0]["label"].to_numpy()
        abstains = np.stack([frame["predict"].to_numpy() == ABSTAIN for frame in frames])
        self.sigma = np.stack([frame["sigma"].to_numpy(dtype=np.float64) for frame in frames])
        # Classes without images are not among the labels: they have no class-wise accuracy.
        self.sizes: Int[np.ndarray, " k"]
        _, class_of, self.sizes = np.unique(label, return_inverse=True, return_counts=True)
        self.accuracy = float(outcome.correct.mean())
        self.values: dict[AccuracyMetric, Float[np.ndarray, " s"]] = {}
        self.influence: dict[AccuracyMetric, Float[np.ndarray, "s n"]] = {}
        means: dict[AccuracyMetric, Float[np.ndarray, "s n"] | Bool[np.ndarray, "s n"]] = {
            "clean_accuracy": outcome.correct,
            "abstention_rate": abstains,
            "misclassification_rate": ~outcome.correct & ~abstains,
        }
        for metric, hits in means.items():
            self._add(metric, *_mean(100.0 * hits))
        self._add("classwise_accuracy_std", *_spread(100.0 * outcome.correct, class_of, self.sizes))
        self._add("acr", *_mean(np.where(outcome.correct, outcome.radius, 0.0)))

    def _add(
        self, metric: AccuracyMetric, values: Float[np.ndarray, " s"], influence: Float[np.ndarray, "s n"]
    ) -> None:
        self.values[metric], self.influence[metric] = values, influence


def _mean(of: Float[np.ndarray, "s n"]) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, "s n"]]:
    mean = of.mean(axis=1)
    return mean, of - mean[:, None]


def _spread(
    correct: Float[np.ndarray, "s n"], class_of: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, "s n"]]:
    """Return the population standard deviation over classes of the class-wise accuracy, and its influence.

    Its derivative by the accuracy a_k of one of K classes is (a_k - mean a) / (K std a); an image of class k moves a_k
    by its own deviation / (size of the class).
    """
    classes = len(sizes)
    accuracy = np.stack([np.bincount(class_of, weights=row, minlength=classes) for row in correct]) / sizes
    spread = accuracy.std(axis=1)
    centred = accuracy - accuracy.mean(axis=1, keepdims=True)
    derivative = np.divide(centred, classes * spread[:, None], out=np.zeros_like(centred), where=spread[:, None] > 0)
    images = len(class_of)
    return spread, (derivative * images / sizes)[:, class_of] * (correct - accuracy[:, class_of])


def _cell(column: Column, row: RowOutcome, baseline: RowOutcome | None) -> Cell:
    ours = _Measured(row.outcome)
    base = _Measured(baseline.outcome) if baseline is not None and baseline is not row else None
    classes = len(ours.sizes)
    chance = ours.accuracy * (1 - ours.accuracy) * (1 / ours.sizes).mean() * (1 - 1 / classes)
    return Cell(
        row=row.row,
        method=row.method.label,
        variant=dict(row.outcome.setting.variant),
        train=row.method.train,
        certify=row.method.certify,
        column=column,
        guarantee=guarantees([row.outcome]),
        seeds=row.outcome.seeds,
        images=row.outcome.correct.shape[1],
        classes=classes,
        sigma=float(ours.sigma.mean()),
        sigma_min=float(ours.sigma.min()),
        sigma_max=float(ours.sigma.max()),
        chance_std=100 * math.sqrt(chance),
        quantities=tuple(_quantity(metric, ours, base) for metric in ours.values),
    )


def _quantity(metric: AccuracyMetric, ours: _Measured, base: _Measured | None) -> Quantity:
    values, influence = ours.values[metric], ours.influence[metric]
    difference = difference_error = None
    if base is not None:
        by_seed = values - base.values[metric]
        difference = float(by_seed.mean())
        over_seeds = _standard_error(by_seed) if len(by_seed) > 1 else 0.0
        difference_error = math.hypot(over_seeds, _standard_error((influence - base.influence[metric]).mean(axis=0)))
    return Quantity(
        metric=metric,
        unit="l2 radius" if metric == "acr" else "percent",
        value=float(values.mean()),
        seed_values=tuple(float(value) for value in values),
        seed_sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        image_error=_standard_error(influence.mean(axis=0)),
        difference=difference,
        difference_error=difference_error,
    )


def _standard_error(values: Float[np.ndarray, " n"]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def write_accuracy_table(result: AccuracyResult, folder: Path, *, figure: str | None = None) -> tuple[Path, Path, Path]:
    """Write a table to a folder by `certsmooth.report.files.write_result`; its stem is the table's name.

    Args:
        result: the table.
        folder: must exist.
        figure: a picture that the Markdown file shows; its path relative to ``folder``.
    """
    return write_result(folder / result.name, result, markdown=render(result, figure=figure), values=_csv(result))


_CSV_COLUMNS = (
    *("paper", "table", "dataset", "norm", "method", "train", "certify", "sigma", "metric", "radius", "value", "unit"),
    *("seed_sd", "image_error", "difference", "difference_error", "baseline", "kind", "guarantee", "variant"),
    *("sigma_mean", "sigma_min", "sigma_max", "chance_std", "seeds", "images", "classes"),
)


def _csv(result: AccuracyResult) -> str:
    """Return the long form: the columns of ``published.csv``, then what we add. Absent values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(_measured_records(result))
    for number in result.published:
        unit = "fraction" if number.metric == "threshold" else "percent"
        writer.writerow(asdict(number) | {"norm": "l2", "unit": unit, "kind": "published"})
    return text.getvalue()


def _measured_records(result: AccuracyResult) -> Iterable[dict[str, object]]:
    for cell in result.cells:
        shared = asdict(cell) | {
            "table": result.name,
            "dataset": cell.column.dataset,
            "norm": "l2",
            "sigma": cell.column.sigma,
            "baseline": result.baseline,
            "kind": "measured",
            "guarantee": ", ".join(cell.guarantee),
            "variant": " ".join(f"{key}={value}" for key, value in cell.variant.items()),
            "sigma_mean": cell.sigma,
            "seeds": " ".join(map(str, cell.seeds)),
        }
        for quantity in cell.quantities:
            yield shared | asdict(quantity)
