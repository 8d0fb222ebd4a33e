"""Accuracy against radius: certified, over training seeds, under attack, and in high dimension."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from certsmooth.analysis import CertifiedRun, Record
from certsmooth.analysis.accuracy import Column, Rows, row_labels, rows_by_column
from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.analysis.probabilities import band, distribution, label_probability
from certsmooth.analysis.result import TableResult
from certsmooth.analysis.runs import Method, Outcome, collect, guarantees
from certsmooth.errors import ConfigError
from certsmooth.report.figures.differences import NEAR, draw_differences, nearly_equal
from certsmooth.report.figures.panels import line, panels_figure
from certsmooth.report.formats import at_columns, curve
from certsmooth.report.render import where

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def certified_curves(
    runs: Sequence[CertifiedRun],
    *,
    title: str,
    norm: str = "l2",
    baseline: str | None = None,
    published: Sequence[Record] = (),
) -> Figure:
    """Draw certified-accuracy curves.

    Each panel shows one sigma, the next one the envelope over all. Where a method has several options at a
    sigma, its line is the best of them at each radius, as in the paper: chosen on the test images, which the
    bands (95 % Clopper-Pearson, for the finite test set) do not cover. Where a curve nearly coincides with the
    baseline's, a last panel shows the difference (`report.figures.differences`).

    Args:
        runs: those on the test split are shown; lines are means over training seeds.
        title: above the panels.
        norm: of the radii.
        baseline: the label of a method; None for no differences.
        published: certified accuracies that a paper gives for this data set (method, sigma, radius, value), drawn
            dashed where a method of ours has that name, in the panel of that sigma; ``best`` is the envelope.

    Raises:
        ConfigError: there are no runs on the test split, or they are given twice.
        CountsError: runs of a method are not about the same images, or runs contradict each other in the label of one.
    """
    methods = collect(runs, "test")
    if not methods:
        raise ConfigError(f"{title}: no runs on the test split; a figure needs at least one")
    sigmas = sorted({outcome.setting.sigma for method in methods for outcome in method.outcomes})
    near = nearly_equal(methods, baseline)

    def draw(axis: Axes, panel: tuple[str, Collection[float]]) -> None:
        name, shown = panel
        if name == "difference":
            draw_differences(axis, near, baseline=str(baseline), numbers=[method.label for method in methods])
            return
        found = [[o for o in method.outcomes if o.setting.sigma in shown] for method in methods]
        radii = _radius_axis(axis, *(o.radius[o.correct] for outcomes in found for o in outcomes))
        for number, (method, outcomes) in enumerate(zip(methods, found, strict=True)):
            if outcomes:
                label = f"{method.label} ({guarantees(method.outcomes)})"
                _draw_envelope(axis, outcomes, radii, number=number, label=label)
                _draw_published(axis, published, method.label, name, number=number)

    panels = [(f"σ = {sigma:g}", (f"{sigma:g}", [sigma])) for sigma in sigmas]
    panels += [("Envelope", ("best", sigmas))] if len(sigmas) > 1 else []
    panels += [(f"Difference to {baseline}", ("difference", sigmas))] if near else []
    return panels_figure(
        panels,
        draw,
        columns=4,
        size=(2.6, 2.4),
        title=title,
        labels=(rf"$\ell_{{{norm.removeprefix('l')}}}$ radius", "Certified accuracy (%)"),
        legend="Bands: 95 % intervals for the finite test set. In brackets: what the certificates guarantee."
        + (f" Difference: of methods within {100 * NEAR:g} points of {baseline}, paired by images." if near else ""),
        apart=1 if near else 0,
    )


def _draw_published(axis: Axes, published: Sequence[Record], method: str, sigma: str, *, number: int) -> None:
    """Draw what a paper gives for a method at a sigma: known at its markers."""
    found = {row["radius"]: row["value"] for row in published if (row["method"], row["sigma"]) == (method, sigma)}
    if found:
        style = {**line(number), "linestyle": (0, (4, 3)), "linewidth": 0.9, "marker": "o", "markersize": 3}
        radii = sorted(found)
        axis.plot(radii, [found[radius] for radius in radii], **style, label=f"{method} (published)")


def p_a_curves(runs: Sequence[CertifiedRun], *, title: str) -> Figure:
    """Draw the distribution of p_A over images, a panel for each sigma.

    A method's line is its empirical distribution function, the mean over training seeds; where it has several options
    at a sigma, the lowest of theirs at each p, as in `certified_curves`. Its band covers that choice: it holds for all
    options at once, and two sets of functions within it of each other have lowest ones within it. Methods whose p_A is
    not known are left out.

    Args:
        runs: those on the test split are shown.
        title: above the panels.

    Raises:
        ConfigError: runs are given twice.
        CountsError: runs of a method are not about the same images, or runs contradict each other in the label of one.
    """
    methods, at = collect(runs, "test"), np.linspace(0.5, 1, 501)

    def draw(axis: Axes, sigma: float) -> None:
        axis.set(xlim=(0.5, 1), ylim=(0, 100))
        for number, method in enumerate(methods):
            here = [label_probability(outcome) for outcome in method.outcomes if outcome.setting.sigma == sigma]
            if known := [p_a for p_a in here if p_a is not None]:
                lowest = np.min([distribution(p_a, at) for p_a in known], axis=0)
                width = band(sum(map(len, known)), known[0].shape[1])
                lower, upper = (100 * np.clip(lowest + change, 0, 1) for change in (-width, width))
                axis.fill_between(at, lower, upper, color=line(number)["color"], alpha=0.13, linewidth=0)
                axis.plot(at, 100 * lowest, **line(number), label=method.label)

    sigmas = sorted({outcome.setting.sigma for method in methods for outcome in method.outcomes})
    return panels_figure(
        [(f"σ = {sigma:g}", sigma) for sigma in sigmas],
        draw,
        columns=4,
        size=(2.6, 2.4),
        title=title,
        labels=("p", r"Images with $p_A \leq p$ (%)"),
        legend="Bands: 95 % for the finite test set (DKW).",
    )


def accuracy_curves(runs_by_column: Mapping[Column, Sequence[CertifiedRun]], *, title: str) -> Figure:
    """Draw certified-accuracy curves.

    A panel shows one column; a line, one row: the mean over training seeds, with a thin line for each seed. Where there
    are several certification seeds, a panel before it shows them, of the first training seed (IDRS, Figure 19).

    Args:
        runs_by_column: as for `certsmooth.analysis.accuracy.accuracy_table`.
        title: above the panels.

    Raises:
        ConfigError: there are no runs, or they are given twice.
        CountsError: runs of a method are not about the same images, or runs contradict each other in the label of one.
    """
    from matplotlib.collections import LineCollection

    columns = rows_by_column(runs_by_column)
    labels = row_labels(columns)
    every = [(label, method.outcomes[0]) for rows in columns.values() for label, method in rows.items()]

    def draw(axis: Axes, panel: tuple[Rows, bool]) -> None:
        rows, one_classifier = panel
        shown = {label: method.outcomes[0] for label, method in rows.items()}
        radii = _radius_axis(axis, *(outcome.radius[outcome.correct] for outcome in shown.values()), points=401)
        for label, outcome in shown.items():
            style, each = line(labels.index(label)), 100 * seed_curves(outcome, radii)
            curves = each[0] if one_classifier else each.mean(axis=1)
            promised = guarantees([other for name, other in every if name == label])
            if len(curves) > 1:
                thin = [np.column_stack([radii, each]) for each in curves]
                axis.add_collection(LineCollection(thin, colors=style["color"], linewidths=0.5, alpha=0.45))
            axis.plot(radii, curves.mean(axis=0), **style, label=f"{label} ({promised})")

    several = any(len(outcome.runs) > 1 for _, outcome in every)
    repeated = any(len(outcome.certification_seeds) > 1 for _, outcome in every)
    headings = at_columns([asdict(column) for column in columns]).values()
    return panels_figure(
        [panel for heading, rows in zip(headings, columns.values(), strict=True) for panel in _panels(heading, rows)],
        draw,
        columns=2 if repeated else 3,
        size=(3.0, 2.6),
        title=title,
        labels=(r"$\ell_{2}$ radius", "Certified accuracy (%)"),
        legend=("Certification seeds: of one trained classifier. " if repeated else "")
        + ("Means over seeds; thin: each seed. " if several else "")
        + "In brackets: what the certificates guarantee.",
    )


def _panels(heading: str, rows: Rows) -> Iterator[tuple[str, tuple[Rows, bool]]]:
    """Yield the panels of a column: each with its rows, and whether it shows the certification seeds of one training.

    The other shows training seeds, each as the mean over its certification seeds.
    """
    outcome = next(iter(rows.values())).outcomes[0]
    if len(outcome.certification_seeds) > 1:
        yield f"{heading}: certification seeds", (rows, True)
        heading += ": training seeds"
    yield heading, (rows, False)


def empirical_curves(result: TableResult, runs: Sequence[CertifiedRun]) -> Figure:
    """Draw certified and empirical accuracy against radius.

    Each line is, at each radius, the best setting of its method, chosen on the test images as in the paper's figure.
    The certified line is continuous; the empirical ones are known at their markers.

    Args:
        result: the empirical accuracies.
        runs: the certificates that they are of.
    """
    radii = [result.about["radii"], *(run.frame.loc[run.frame["correct"] == 1, "radius"] for run in runs)]
    attacks = where(result.values, metric="empirical_accuracy", selected_on="test")

    def draw(axis: Axes, method: Method) -> None:
        _draw_envelope(axis, method.outcomes, _radius_axis(axis, *radii), number=0, label="Certified")
        found = where(attacks, method=method.label)
        shown = ["attack", "samples", *(["n"] if result.about["fewer"] else [])]
        curves = found.groupby([curve(*row) for row in found[shown].itertuples(index=False)], sort=False)
        for number, (marker, (name, rows)) in enumerate(zip(cycle(_MARKERS), curves, strict=False), 1):
            style = {**line(number), "linewidth": 1.2, "marker": marker, "markersize": 4}
            axis.plot(rows["radius"], rows["value"], **style, label=name)

    return panels_figure(
        [(method.label, method) for method in collect(runs, "test")],
        draw,
        columns=3,
        size=(3.4, 2.8),
        title=result.title,
        labels=(r"$\ell_{2}$ radius", "Accuracy (%)"),
        legend="Best setting at each radius. Band: 95 % interval for the finite test set.",
    )


def high_dimension_curves(result: TableResult) -> Figure:
    """Draw the certified accuracies of a table as curves."""

    def draw(axis: Axes, certified: pd.DataFrame) -> None:
        # From the smallest positive radius on: at 0 the accuracy does not depend on the certificate.
        radii = _radius_axis(axis, certified["radius"], points=401)[1:]
        for number, rate in enumerate(certified["rate"].unique()):
            found = where(certified, rate=rate)["radius"]
            share = [100 * (found >= radius).mean() for radius in radii]
            label = f"r = {rate:g}" if rate else "r = 0 (constant σ)"
            axis.plot(radii, share, **line(number), linewidth=1.4, label=label)

    return panels_figure(
        [(str(source), found) for source, found in result.more["certified"].groupby("source", sort=False)],
        draw,
        size=(3.3, 2.6),
        title=result.title,
        labels=(r"$\ell_2$ radius", "Certified accuracy (%)"),
    )


def _radius_axis(axis: Axes, *certified: ArrayLike, points: int = 301) -> Float[np.ndarray, " r"]:
    """Let an axis show accuracies in percent up to the largest certified radius, and return the radii to draw at."""
    end = 1.02 * float(np.concatenate([[0.0], *certified]).max()) or 1.0
    axis.set(xlim=(0, end), ylim=(0, 100))
    return np.linspace(0, end, points)


def _draw_envelope(
    axis: Axes, outcomes: Sequence[Outcome], radii: Float[np.ndarray, " r"], *, number: int, label: str
) -> None:
    """Draw the best of several outcomes of one method at each radius as a line, and its interval as a band."""
    best, (lower, upper) = envelope(outcomes, radii)
    axis.fill_between(radii, 100 * lower, 100 * upper, color=line(number)["color"], alpha=0.13, linewidth=0)
    axis.plot(radii, 100 * best, **line(number), label=label)


def envelope(
    outcomes: Sequence[Outcome], radii: Float[np.ndarray, " r"]
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "2 r"]]:
    """Return the best certified accuracy of several outcomes at each radius, and its interval (fractions).

    Args:
        outcomes: of one method, on the same images.
        radii: increasing, >= 0.
    """
    best = np.max([[outcome.accuracy(radius) for radius in radii] for outcome in outcomes], axis=0)
    ends = {value: accuracy_interval(value, outcomes[0].images) for value in np.unique(best)}
    return best, np.array([ends[value] for value in best]).T


def seed_curves(outcome: Outcome, radii: Float[np.ndarray, " r"]) -> Float[np.ndarray, "t c r"]:
    """Return the certified accuracy of each training seed and certification seed at each radius (fractions)."""
    curves = np.array([(outcome.correct & (outcome.radius >= radius)).mean(axis=1) for radius in radii]).T
    return curves.reshape(len(outcome.seeds), -1, len(radii))
