"""Clean accuracy, abstention, misclassification and class-wise balance over seeds (IDRS, Tables 2 to 20).

What such a table says: means over training seeds, and over the certification seeds of each; ``seed_sd``, the sample
standard deviation over training seeds (none for one) of the means over certification seeds; ``certification_sd``, that
over certification seeds (none for one) of one trained classifier, its square averaged over training seeds: what
repeated Monte Carlo alone does; the standard error ``image_error`` for the finite test set (models taken as given), and
the difference to the baseline in the same column with its standard error, over the ``paired_images`` and with the
number of seeds that both have; sigma(x) over images and seeds; ``chance_std``, about the class-wise standard deviation,
in percent, that the finite test set alone would cause if all classes were equally accurate; how many classes occur.
About it: baseline (its row) and columns. ``by_seed``: the value of each training seed and certification seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float, Int

from certsmooth.analysis import CertifiedRun, Record
from certsmooth.analysis.published import published_numbers
from certsmooth.analysis.result import TableResult, source, tidy
from certsmooth.analysis.runs import Method, Outcome, collect, key_of, one_by_one, paired
from certsmooth.errors import ConfigError, nearest
from certsmooth.science.certificates import ABSTAIN

_COLUMNS = (
    *("paper", "table", "dataset", "norm", "method", "train", "certify", "sigma", "metric", "radius", "value", "unit"),
    *("seed_sd", "certification_sd", "image_error", "difference", "difference_error", "row", "baseline", "kind"),
    *("guarantee", "grid", "sigma_mean", "sigma_min", "sigma_max", "chance_std", "seeds", "certification_seeds"),
    *("images", "image_choice", "classes", "paired_images"),
)
_BY_SEED = ("row", "dataset", "sigma", "metric", "seed", "certification_seed", "value")

Measured = tuple[Float[np.ndarray, "t c"], Float[np.ndarray, " n"]]
"""A quantity of each training seed and certification seed, and what each image adds to their mean (its influence)."""


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

    def __str__(self) -> str:
        return f"column {self.dataset}, sigma {self.sigma}"


Rows = dict[str, Method]
"""The rows of a column by label: methods, each at one grid point alone."""


def rows_by_column(runs_by_column: Mapping[Column, Sequence[CertifiedRun]]) -> dict[Column, Rows]:
    """Group the runs of each column by row, and check that they can be compared.

    Args:
        runs_by_column: on the test split; those on another split are ignored.

    Raises:
        ConfigError: there are no columns, a column has no runs on the test split, or a row has two runs for one column
            and seed.
        CountsError: runs of a method are not about the same images, or runs contradict each other in the label of one.
    """
    if not runs_by_column:
        raise ConfigError("columns: there are none; must be at least one")
    for dataset in dict.fromkeys(column.dataset for column in runs_by_column):
        every = [run for column, runs in runs_by_column.items() if column.dataset == dataset for run in runs]
        # The same run may stand in two columns, as a constant sigma does beside two values of sigma_b.
        collect(list({key_of(run): run for run in every}.values()), "test")
    return {column: _rows(column, collect(runs, "test")) for column, runs in runs_by_column.items()}


def _rows(column: Column, methods: Sequence[Method]) -> Rows:
    if not methods:
        raise ConfigError(f"{column}: no runs on the test split; must have some")
    rows: Rows = {}
    for one, setting in one_by_one(methods):
        label = "; ".join([one.label, *(f"{key} {value}" for key, value in setting.grid)])
        (other,) = rows.setdefault(label, one).outcomes
        if other.setting != setting:
            found = f"{other.setting.sigma:g} and {setting.sigma:g}"
            raise ConfigError(f"{column}: {label} has sigma {found}; must be one")
    return rows


def row_labels(columns: Mapping[Column, Rows]) -> tuple[str, ...]:
    """Return the labels of all rows: methods in the order in which they first appear, then their grid points."""
    rows = {label: method.key for rows in columns.values() for label, method in rows.items()}
    methods = list(rows.values())
    return tuple(sorted(rows, key=lambda label: methods.index(rows[label])))


def accuracy_table(
    runs_by_column: Mapping[Column, Sequence[CertifiedRun]],
    *,
    name: str,
    title: str,
    baseline_method: str,
    published: Sequence[tuple[str, int]] = (),
) -> TableResult:
    """Compare what methods do to clean images, per column, over training seeds and certification seeds.

    Rows are methods with their grid points. Standard errors are those of a mean over test images; the class-wise
    standard deviation is linearised for it (the delta method). A difference is paired by images and by training seeds,
    and its squared error is the sum of the one over images (seeds taken as given) and the one over training seeds
    (images taken as given): in a two-way layout that counts the interaction twice, so it errs on the wide side.

    Args:
        runs_by_column: the runs of each column, on the test split. Runs of one method on one data set must certify the
            same images. A run may stand in several columns, as a constant sigma beside two values of sigma_b.
        name: stem of the files.
        title: heading.
        baseline_method: key of the method that the others are compared with; one row per column.
        published: papers and numbers of the published tables to show beside ours.

    Raises:
        ConfigError: there are no runs, the baseline is not among them or has several rows in a column, or there is no
            such published table.
        CountsError: runs of a method are not about the same images, or runs contradict each other in the label of one.
    """
    columns = rows_by_column(runs_by_column)
    baselines = {column: _baseline(column, rows, baseline_method) for column, rows in columns.items()}
    baseline = next(filter(None, baselines.values()), None)
    if baseline is None:
        keys = {method.key for rows in columns.values() for method in rows.values()}
        raise ConfigError(f"{name}: baseline_method {baseline_method!r} has no runs; {nearest(baseline_method, keys)}")
    labels = row_labels(columns)
    cells = (_cells(column, label, rows, baselines[column]) for column, rows in columns.items() for label in rows)
    rows = sorted(chain.from_iterable(cells), key=lambda cell: labels.index(cell["row"]))
    by_seed = (row | each for row in rows for each in row["by_seed"])
    shared = {"table": name, "baseline": baseline}
    theirs = [number for paper, table in published for number in published_numbers(paper, table)]
    every = [run for rows in columns.values() for method in rows.values() for run in method.outcomes[0].runs]
    return TableResult(
        kind="accuracy",
        name=name,
        title=title,
        about={"baseline": baseline, "columns": [asdict(column) for column in columns]},
        values=tidy([*(row | shared for row in rows), *theirs], _COLUMNS),
        more={"by_seed": tidy(by_seed, _BY_SEED)},
        sources=[source(run) for run in {(run.provenance["dataset"], key_of(run)): run for run in every}.values()],
    )


def _baseline(column: Column, rows: Rows, key: str) -> str | None:
    found = [label for label, method in rows.items() if method.key == key]
    if len(found) > 1:
        raise ConfigError(f"{column}: baseline_method {key!r} has {len(found)} rows ({', '.join(found)}); must be one")
    return found[0] if found else None


def _measure(outcome: Outcome) -> dict[str, Measured]:
    """Return each metric of an outcome, accuracies in percent."""
    frames = [run.frame.sort_values("idx") for run in outcome.runs]
    abstains = np.stack([frame["predict"].to_numpy() == ABSTAIN for frame in frames])
    # Classes without images are not among the labels: they have no class-wise accuracy.
    _, class_of, sizes = np.unique(frames[0]["label"].to_numpy(), return_inverse=True, return_counts=True)
    found = {
        "clean_accuracy": _mean(100.0 * outcome.correct),
        "abstention_rate": _mean(100.0 * abstains),
        "misclassification_rate": _mean(100.0 * (~outcome.correct & ~abstains)),
        "classwise_accuracy_std": _spread(100.0 * outcome.correct, class_of, sizes),
        "acr": _mean(np.where(outcome.correct, outcome.radius, 0.0)),
    }
    trained = len(outcome.seeds)
    return {metric: (each.reshape(trained, -1), influence.mean(axis=0)) for metric, (each, influence) in found.items()}


_OfRuns = tuple[Float[np.ndarray, " s"], Float[np.ndarray, "s n"]]
"""A quantity of each run, and what each image adds to it."""


def _mean(of: Float[np.ndarray, "s n"]) -> _OfRuns:
    mean = of.mean(axis=1)
    return mean, of - mean[:, None]


def _spread(
    correct: Float[np.ndarray, "s n"], class_of: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " k"]
) -> _OfRuns:
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


def _cells(column: Column, label: str, rows: Rows, baseline: str | None) -> Iterator[Record]:
    """Yield the numbers of a row in a column."""
    (outcome,) = rows[label].outcomes
    frames = [run.frame for run in outcome.runs]
    _, sizes = np.unique(frames[0]["label"].to_numpy(), return_counts=True)
    sigma = np.stack([frame["sigma"].to_numpy(dtype=np.float64) for frame in frames])
    accuracy = float(outcome.correct.mean())
    chance = accuracy * (1 - accuracy) * (1 / sizes).mean() * (1 - 1 / len(sizes))
    shared = {
        **rows[label].described,
        **{"row": label, "dataset": column.dataset, "norm": "l2", "sigma": column.sigma},
        **{"grid": outcome.setting.options, "classes": len(sizes), "chance_std": 100 * math.sqrt(chance)},
        **{"sigma_mean": float(sigma.mean()), "sigma_min": float(sigma.min()), "sigma_max": float(sigma.max())},
    }
    differences = {} if baseline in (None, label) else _differences(outcome, rows[baseline].outcomes[0])
    for metric, (each, influence) in _measure(outcome).items():
        values = each.mean(axis=1)
        yield {
            **shared,
            "metric": metric,
            "by_seed": [
                {"seed": run.seed, "certification_seed": run.certification_seed, "value": value}
                for run, value in zip(outcome.runs, each.ravel().tolist(), strict=True)
            ],
            "unit": "l2 radius" if metric == "acr" else "percent",
            "value": float(values.mean()),
            "seed_sd": float(values.std(ddof=1)) if len(values) > 1 else None,
            "certification_sd": math.sqrt(each.var(axis=1, ddof=1).mean()) if each.shape[1] > 1 else None,
            "image_error": _standard_error(influence),
            **differences.get(metric, {}),
        }


def _differences(outcome: Outcome, base: Outcome) -> dict[str, Record]:
    """Return the difference of each metric to the baseline's, over the images that both have; none without two."""
    ours, theirs = paired(outcome, base)
    if ours.images < 2:
        return {}
    found: dict[str, Record] = {}
    for (metric, (each, influence)), (base_each, base_influence) in zip(
        _measure(ours).items(), _measure(theirs).values(), strict=True
    ):
        by_seed = each.mean(axis=1) - base_each.mean(axis=1)
        over_seeds = _standard_error(by_seed) if len(by_seed) > 1 else 0.0
        found[metric] = {
            "difference": float(by_seed.mean()),
            "difference_error": math.hypot(over_seeds, _standard_error(influence - base_influence)),
            "paired_images": ours.images,
        }
    return found


def _standard_error(values: Float[np.ndarray, " n"]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))
