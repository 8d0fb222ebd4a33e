"""How numbers and names are written for people; every text of a table goes through one of these."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from certsmooth._internal.labels import legend

ABSENT = "–"
_DATASETS = {"cifar10": "CIFAR-10", "imagenet": "ImageNet", "mnist": "MNIST"}
_PAPERS = {"ddrs": "DDRS", "smoothadv": "SmoothAdv", "adre": "ADRE", "idrs": "IDRS"}
_DIGITS = {
    **{"acr": 3, "classwise_accuracy_std": 3, "certified_accuracy": 1, "empirical_accuracy": 1, "acr_kept": 1},
    **{"threshold": 5, "p_a_quantile": 4},
}
"""Decimals of a metric; 2 for the others."""


def policies_of(rows: pd.DataFrame) -> str:
    """Return what the labels of sigma in training and certification stand for, of those in the rows of a table."""
    return legend(label for pair in zip(rows["train"], rows["certify"], strict=True) for label in pair)


def interval(value: float | None, metric: str, lower: float | None = None, upper: float | None = None) -> str:
    """Return a value and, in brackets, its interval if it has one."""
    digits = _digits(metric)
    if value is None:
        return ABSENT
    return f"{value:.{digits}f}" + ("" if lower is None else f" [{lower:.{digits}f}, {upper:.{digits}f}]")


def unless_same(same: bool, *number: Any) -> str:  # noqa: ANN401 - as `interval`
    """Return a value with its interval, or = if it stands in the table before."""
    return "=" if same else interval(*number)


def decimal(value: float | None, metric: str) -> str:
    """Return a number of a metric, with one decimal more than in its tables: differences of it are small."""
    return ABSENT if value is None else f"{value:.{_digits(metric) + 1}f}"


def spread(value: float, seed_sd: float | None, image_error: float | None, metric: str) -> str:
    """Return a mean over seeds ± their standard deviation and, in brackets, the standard error over images."""
    digits = _digits(metric)
    deviation = "" if seed_sd is None else f" ± {seed_sd:.{digits}f}"
    return f"{value:.{digits}f}{deviation}" + ("" if image_error is None else f" ({image_error:.{digits}f})")


def difference(value: float | None, error: float | None, metric: str) -> str:
    """Return a difference ± its standard error."""
    if value is None:
        return ABSENT
    return f"{value:+z.{_digits(metric)}f} ± {error:.{_digits(metric)}f}"


def signed(value: float, metric: str = "certified_accuracy") -> str:
    """Return a difference with its sign, if it is not zero as it is written."""
    text = f"{value:+.{_digits(metric)}f}"
    return text if float(text) else text[1:]


def setting(sigma: float | None, grid: str) -> str:
    """Return sigma and the options, which are ``key=value``, a space between two."""
    if sigma is None:
        return ABSENT
    return "; ".join([f"{sigma:g}", *(option.replace("=", " ", 1) for option in grid.split())])


def hours(value: float) -> str:
    """Return a number of hours."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def p_value(value: float) -> str:
    """Return a p value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def dataset(name: str) -> str:
    """Return the name of a data set as people write it."""
    return _DATASETS.get(name, name)


def short(digest: str) -> str:
    """Return the first digits of a hash, with what comes before (``sha256:``) and after (``-dirty``)."""
    return re.sub("([0-9a-f]{12})[0-9a-f]*", r"\1", digest)


def plain(value: object) -> str:
    """Return a value as it is, an integer with a comma between thousands."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def at_radii(radii: Iterable[float], *, acr: bool = True) -> dict[float | None, str]:
    """Return the headings of columns: one for each radius, and one for the ACR, which has none."""
    return {**{radius: f"r={radius:g}" for radius in radii}, **({None: "ACR"} if acr else {})}


def at_columns(columns: Sequence[Mapping[str, Any]]) -> dict[tuple[str, float | None], str]:
    """Return the headings of columns, each a ``dataset`` at a ``sigma``: the sigma if all are of one set, or both."""
    several = len({column["dataset"] for column in columns}) > 1

    def heading(name: str, sigma: float | None) -> str:
        at = [] if sigma is None else [f"σ = {sigma:g}"]
        return ", ".join([*([dataset(name)] if several or not at else []), *at])

    return {pair: heading(*pair) for pair in ((column["dataset"], column["sigma"]) for column in columns)}


def p_a_figure(figure: str) -> str:
    """Return the path of the figure of p_A that stands beside the figure of a table."""
    folder, _, name = figure.rpartition("/")
    return f"{folder}/p_a/{name}" if folder else f"p_a/{name}"


def at_quantiles(shares: Iterable[float]) -> dict[float, str]:
    """Return the headings of columns, one for each quantile."""
    return {share: f"{100 * share:g} %" for share in shares}


def printed_table(name: str, table: int, data: str) -> str:
    """Return the name of a published table, of one data set."""
    return f"{paper(name)} Table {table}, {dataset(data)}"


def quantity(metric: str, radius: float | None) -> str:
    """Return what a published number is."""
    if metric == "acr":
        return "ACR"
    what = metric.removesuffix("_std").removesuffix("_error").replace("_", " ").replace("classwise", "class-wise")
    if metric.endswith("_std"):
        what += ", std over classes" if metric.startswith("classwise") else ", std over trainings"
    elif metric.endswith("_error"):
        what = f"± of {what}"
    return what if radius is None else f"{what} at r = {radius:.4g}"


def ours(value: float | None, lower: float | None, upper: float | None, metric: str) -> str:
    """Return our number and, in brackets, its interval if it has one that is no point."""
    return interval(value, metric, *((None, None) if lower == upper else (lower, upper)))


def our_place(data: str | None, table: str | None, images: int | None) -> str:
    """Return on which data, and in which table, a number of ours was measured; or computed, without images."""
    return ABSENT if data is None else f"{'computed' if images is None else dataset(data)}, `{table}`"


def remark(reason: str, contradicted: str) -> str:
    """Return what is to be said of a published number."""
    return "; ".join([*([reason] if reason else []), *([f"contradicted by {contradicted}"] if contradicted else [])])


def numbered(files: pd.DataFrame) -> Callable[[float | None, str | None], str]:
    """Return how a derived number is written: with the number of the file that gives it, which its hash names."""
    numbers = dict(zip(files["sha256"], files["number"], strict=True))
    return lambda value, sha256: ABSENT if value is None else f"{value:.2f} [{numbers[sha256]}]"


def emphasised(verdict: str) -> str:
    """Return a verdict, in bold if it is that a number differs."""
    return f"**{verdict}**" if verdict == "differs" else verdict


def paper(name: str) -> str:
    """Return the name of a paper as people write it."""
    return _PAPERS.get(name, name)


def distinct(values: Iterable[object], between: str = ", ") -> str:
    """Return different values in the order in which they first appear."""
    return between.join(dict.fromkeys(map(str, values)))


def listed(rows: pd.DataFrame, by: str, column: str) -> str:
    """Return the values of a column for each of another: ``A (0, 0.25), B (1)``."""
    found = rows.groupby(by, sort=False)[column]
    return ", ".join(f"{name} ({distinct(f'{each:g}' for each in values)})" for name, values in found)


def promises(*columns: Iterable[str]) -> set[str]:
    """Return every guarantee that is in columns of them."""
    return {guarantee for texts in columns for text in texts for guarantee in text.split(", ")}


def stated(sources: Sequence[Mapping[str, Any]], key: str, write: Any = plain) -> str:  # noqa: ANN401 - a function
    """Return what the provenance of sources says under a key; where they differ, each value with its methods."""
    methods: dict[str, list[str]] = {}
    for source in sources:
        methods.setdefault(write(source["provenance"][key]), []).append(source["method"])
    if len(methods) == 1:
        return next(iter(methods))
    return ", ".join(f"{value} ({' and '.join(dict.fromkeys(names))})" for value, names in methods.items())


def makers(sources: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return what certified the runs and sampled their counts: entries of `certsmooth.artefacts.provenance.MadeBy`."""
    return [each for s in sources for each in (s["provenance"], *s["provenance"]["sampled_by"])]


def versions(made_by: Iterable[Mapping[str, Any]]) -> str:
    """Return each package with its version, Python first."""
    found = [sorted(made["versions"].items(), key=lambda each: each[0] != "python") for made in made_by]
    return distinct(f"{package} {version}" for each in found for package, version in each)


def with_chance(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return class-wise deviations, and a row of what the finite test set alone would show."""
    chance = rows[rows["row"] == baseline].assign(row="(classes equally accurate)", guarantee="")
    return pd.concat([rows, chance.assign(value=chance["chance_std"], seed_sd=np.nan, image_error=np.nan)])


def curve(attack: str | None, samples: int | None, n: int | None = None) -> str:
    """Return what kind of accuracy it is: certified, or under an attack that sees m noise samples, by PREDICT with n.

    Args:
        attack: its label; None for certified.
        samples: m; 0 for none.
        n: where several are shown.
    """
    if attack is None:
        return "Certified"
    return ", ".join([attack, *([f"m = {samples}"] if samples else []), *([f"n = {n:,}"] if n else [])])


def _digits(metric: str) -> int:
    return _DIGITS.get(metric, 2)
