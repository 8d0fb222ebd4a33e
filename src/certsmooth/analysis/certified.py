"""Certified accuracies of several methods compared: best setting per radius, every setting, and paired tests.

What such a table says besides its values: about it, data, norm, radii and baseline (a label). ``tests``: McNemar's
exact test of each method against the baseline at each radius, on the images and with the number of training seeds that
both have (none for a method without two such images), the p values adjusted (Holm) for all with the same
``selected_on``, those chosen on the validation split first. ``memory``: what the memory pass did to each test run that
had one. ``ceiling``: the baseline with the best setting at each image (`analysis.ceiling`). ``without_p_a``: the
settings of which p_A is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

import pandas as pd

from certsmooth.analysis import CertifiedRun, Record
from certsmooth.analysis.ceiling import ceiling_records
from certsmooth.analysis.metrics import accuracy_record, acr_record, holm, mcnemar
from certsmooth.analysis.probabilities import METRIC, quantile_records
from certsmooth.analysis.published import published_rows
from certsmooth.analysis.result import SelectedOn, TableResult, source, tidy
from certsmooth.analysis.runs import Method, Outcome, collect, name_of, one_by_one, paired, run_columns
from certsmooth.errors import ConfigError, CountsError, nearest
from certsmooth.science.metrics import certified

_COLUMNS = (
    *("paper", "table", "dataset", "norm", "method", "train", "certify", "sigma", "metric", "radius", "value", "unit"),
    *("lower", "upper", "kind", "guarantee", "selected_on", "chosen_sigma", "chosen_grid", "seeds", "images"),
    *("image_choice", "quantile"),
)
_TESTS = (
    *("method", "baseline", "radius", "selected_on", "images", "seeds", "difference", "method_only", "baseline_only"),
    *("p_value", "p_holm"),
)
_CEILING = ("method", "choice", "metric", "radius", "value", "lower", "upper", "unit")
_MEMORY = (
    *("method", "sigma", "grid", "seed", "order", "images", "conflicts", "capped", "repredicted", "changed"),
    *("largest_loss", "acr_before", "acr"),
)


def certified_table(
    runs: Sequence[CertifiedRun],
    *,
    name: str,
    title: str,
    radii: Sequence[float],
    baseline_method: str,
    published: tuple[str, int, str] | None = None,
    norm: str = "l2",
    data: str | None = None,
) -> TableResult:
    """Compare methods as the tables of DDRS do: best certified accuracy per radius, and ACR.

    Args:
        runs: on the test split, and for the honest choice of sigma and options the same settings on the
            validation split. Rows come in the order in which methods first appear; values are means over
            training seeds.
        name: stem of the files, ``"table1"``.
        title: heading of the Markdown file.
        radii: at which certified accuracy is given, in pixel coordinates [0, 1].
        baseline_method: key of the method that the others are tested against.
        published: paper, number and data set of a published table to show beside ours.
        norm: of the radii.
        data: the data set, as papers name it; None for the name that the runs give it.

    Raises:
        ConfigError: there are no runs on the test split, the baseline is not among them, runs are given twice,
            a method's settings on the two splits differ, or there is no such published table.
        CountsError: runs of a method are not about the same images, or runs contradict each other in the label of one.
    """
    test, validation = ({method.key: method for method in collect(runs, split)} for split in ("test", "validation"))
    if not test:
        raise ConfigError(f"{name}: no runs on the test split; a table needs at least one")
    if baseline_method not in test:
        raise ConfigError(f"{name}: baseline_method {baseline_method!r} has no runs; {nearest(baseline_method, test)}")
    _check_parts(test, validation)
    judges: dict[SelectedOn, dict[str, Method]] = {"test": test, "validation": validation}
    ours = [{"table": name, **row} for row in (*_rows(judges, radii, norm), *_probabilities(test.values(), norm))]
    theirs = published_rows(*published) if published else []
    tests = [row for split in ("validation", "test") for row in _tests(judges, split, baseline_method, radii)]
    values = tidy([*ours, *theirs], _COLUMNS)
    return TableResult(
        kind="certified",
        name=name,
        title=title,
        about={
            "data": data or str(runs[0].provenance["dataset"]),
            "norm": norm,
            "radii": [float(radius) for radius in radii],
            "baseline": test[baseline_method].label,
        },
        values=values,
        more={
            "tests": tidy(tests, _TESTS),
            "memory": tidy(_memory_effects(runs), _MEMORY),
            "ceiling": tidy(ceiling_records(test[baseline_method], radii, norm), _CEILING),
        },
        views={"without_p_a": _without_p_a(values)},
        sources=[source(run) for run in runs],
    )


def _check_parts(test: Mapping[str, Method], validation: Mapping[str, Method]) -> None:
    """Raise ConfigError unless the settings and seeds on the validation split are those on the test split."""
    found, expected = (
        {(key, o.setting, s) for key, m in split.items() if key in validation for o in m.outcomes for s in o.seeds}
        for split in (validation, test)
    )
    for key, setting, seed in sorted(found ^ expected, key=str):
        split = "validation" if (key, setting, seed) in found else "test"
        raise ConfigError(
            f"{key}, sigma {setting}, seed {seed}: certified on the {split} split only; a choice made on "
            "the validation split needs every setting on both"
        )


def _rows(judges: Mapping[SelectedOn, Mapping[str, Method]], radii: Sequence[float], norm: str) -> Iterator[Record]:
    """Yield the numbers of all rows, whose setting a judge chooses, then of every setting: accuracies, and the ACR."""
    methods = judges["test"].values()
    lines: list[tuple[Method, Method, SelectedOn, str]] = [
        *((m, judge[m.key], split, "best") for split, judge in judges.items() for m in methods if m.key in judge),
        *((one, one, "none", f"{setting.sigma:g}") for one, setting in one_by_one(methods)),
    ]
    for (method, judge, split, sigma), radius in product(lines, (*radii, None)):
        chosen = _best(method, judge, radius)
        if radius is None:
            number = acr_record(chosen.correct, chosen.radius, norm)
        else:
            number = accuracy_record(chosen.accuracy(radius), chosen.images, radius)
        yield {
            **{**method.described, **number, "dataset": str(chosen.runs[0].provenance["dataset"]), "norm": norm},
            **{"sigma": sigma, "selected_on": split},
            **{"chosen_sigma": chosen.setting.sigma, "chosen_grid": chosen.setting.options},
        }


def _probabilities(methods: Iterable[Method], norm: str) -> Iterator[Record]:
    """Yield the quantiles of p_A of every setting where it is known."""
    for one, setting in one_by_one(methods):
        (outcome,) = one.outcomes
        for number in quantile_records(outcome):
            yield {
                **{**one.described, **number, "dataset": str(outcome.runs[0].provenance["dataset"]), "norm": norm},
                **{"sigma": f"{setting.sigma:g}", "selected_on": "none"},
                **{"chosen_sigma": setting.sigma, "chosen_grid": setting.options},
            }


def _best(method: Method, judge: Method, radius: float | None) -> Outcome:
    """Return the outcome of ``method`` at the setting where ``judge`` is best."""
    return method.at(judge.best(Outcome.acr if radius is None else lambda outcome: outcome.accuracy(radius)).setting)


def _without_p_a(values: pd.DataFrame) -> pd.DataFrame:
    """Return the settings without quantiles of p_A."""
    setting = ["method", "chosen_sigma", "chosen_grid"]
    known = set(values.loc[values["metric"] == METRIC, setting].itertuples(index=False, name=None))
    every = values.loc[values["selected_on"] == "none", setting].drop_duplicates()
    return every[[each not in known for each in every.itertuples(index=False, name=None)]]


def _tests(
    judges: Mapping[SelectedOn, Mapping[str, Method]], split: SelectedOn, baseline: str, radii: Sequence[float]
) -> list[Record]:
    """Test each method against the baseline at each radius, where both have a choice."""
    methods, judge = judges["test"], judges[split]
    if baseline not in judge:
        return []
    compared: list[Record] = []
    for key, radius in product(methods, radii):
        if key == baseline or key not in judge:
            continue
        ours, theirs = paired(*(_best(methods[each], judge[each], radius) for each in (key, baseline)))
        if ours.images < 2:
            continue
        pair = mcnemar(*(certified(each.correct, each.radius, radius) for each in (ours, theirs)))
        compared.append(
            {
                **{"method": methods[key].label, "baseline": methods[baseline].label, "radius": float(radius)},
                **{"selected_on": split, "images": ours.images, "seeds": len(ours.runs)},
                "difference": 100 * (ours.accuracy(radius) - theirs.accuracy(radius)),
                **{"method_only": pair.first_only, "baseline_only": pair.second_only, "p_value": pair.p_value},
            }
        )
    adjusted = holm([row["p_value"] for row in compared])
    return [row | {"p_holm": p_holm} for row, p_holm in zip(compared, adjusted, strict=True)]


def _memory_effects(runs: Sequence[CertifiedRun]) -> Iterator[Record]:
    """Yield what the memory pass did to each run on the test split."""
    for run in runs:
        if run.split != "test" or (memory := run.provenance.get("memory")) is None:
            continue
        frame = run.frame
        loss = frame["radius_before_memory"] - frame["radius"]
        if loss.isna().any():
            raise CountsError(f"{name_of(run)}: radius_before_memory is empty; must be there if provenance has memory")
        before = float((frame["radius_before_memory"] * frame["correct"]).mean())
        yield {
            **run_columns(run),
            **{"order": str(memory["order"]), "images": len(frame)},
            **{key: int(memory[key]) for key in ("conflicts", "capped", "repredicted")},
            "changed": int((loss != 0).sum()),
            "largest_loss": max(float(loss.max()), 0.0),
            # Where predictions became those of earlier images, the earlier predictions are not stored.
            "acr_before": None if memory["repredicted"] else before,
            "acr": float((frame["radius"] * frame["correct"]).mean()),
        }
