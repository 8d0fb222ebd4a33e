"""By how much more a method certifies than another, where two curves of accuracy could not be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from certsmooth.analysis.overview import gain_at
from certsmooth.analysis.runs import Method, Outcome, paired
from certsmooth.report.figures.panels import line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEAR = 0.05
"""Curves that differ by no more at any radius nearly coincide."""

Difference = tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"], Float[np.ndarray, "2 r"]]
"""Radii, the difference at each (fractions), and its interval."""


def nearly_equal(methods: Sequence[Method], baseline: str | None) -> dict[str, Difference]:
    """Return the methods whose envelope is within `NEAR` of the baseline's at every radius, with the difference.

    Args:
        methods: of one split.
        baseline: the label of one; None: there is none.
    """
    found = {}
    for base in (method for method in methods if method.label == baseline):
        for method in methods:
            if method is not base and len(np.intersect1d(method.outcomes[0].idx, base.outcomes[0].idx)) > 1:
                end = max(float(o.radius.max()) for each in (method, base) for o in each.outcomes)
                found[method.label] = differences(method, base, np.linspace(0, 1.02 * end or 1.0, 301))
    return {label: each for label, each in found.items() if np.abs(each[1]).max() <= NEAR}


def differences(method: Method, base: Method, radii: Float[np.ndarray, " r"]) -> Difference:
    """Return how much more of the images that both have a method certifies at each radius, each at its best setting.

    The interval does not cover the choice of the settings.
    """
    pairs: dict[tuple[str, str], tuple[Outcome, Outcome]] = {}
    values, bands = [], []
    for radius in radii.tolist():
        best = [each.best(partial(Outcome.accuracy, at=radius)) for each in (method, base)]
        key = str(best[0].setting), str(best[1].setting)
        if key not in pairs:
            pairs[key] = paired(*best)
        value, *ends = gain_at(*pairs[key], radius)
        values.append(value)
        bands.append(ends)
    return radii, np.array(values), np.array(bands).T


def draw_differences(axis: Axes, found: Mapping[str, Difference], *, baseline: str, numbers: Sequence[str]) -> None:
    """Draw differences to a baseline in points of percent, in the colours that the methods have by their numbers."""
    axis.axhline(0, **line(numbers.index(baseline)), linewidth=0.8)
    for label, (radii, values, (lower, upper)) in found.items():
        style = line(numbers.index(label))
        axis.fill_between(radii, 100 * lower, 100 * upper, color=style["color"], alpha=0.13, linewidth=0)
        axis.plot(radii, 100 * values, **style)
    axis.set_xlim(0, max(float(radii[-1]) for radii, _, _ in found.values()))
    axis.set_ylabel("Points")
