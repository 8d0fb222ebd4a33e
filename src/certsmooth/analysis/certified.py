"""Certified accuracies of several methods compared: best setting per radius, every setting, and paired tests.

What such a table says besides its values: about it, data, norm, radii and baseline (a label). ``tests``: McNemar's
exact test of each method against the baseline at each radius, the p values adjusted (Holm) for all with the same
``selected_on``, those chosen on the validation part first. ``memory``: what the memory pass did to each test run that
had one. ``gains``: what the choice on the test images adds to the one on the validation part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

from certsmooth.analysis import CertifiedRun, Record
from certsmooth.analysis.metrics import accuracy_record, acr_record, certified, holm, mcnemar
from certsmooth.analysis.published import published_rows
from certsmooth.analysis.result import SelectedOn, TableResult, source, tidy
from certsmooth.analysis.runs import Method, Outcome, collect, name_of, run_columns
from certsmooth.errors import ConfigError, CountsError, nearest

Choice = Callable[[float | None], Outcome]
"""The outcome that a row shows at a radius, or for the ACR (None)."""

_COLUMNS = (
    *("paper", "table", "dataset", "norm", "method", "train", "certify", "sigma", "metric", "radius", "value", "unit"),
    *("lower", "upper", "kind", "guarantee", "selected_on", "chosen_sigma", "chosen_grid", "seeds", "images"),
)
_TESTS = (
    *("method", "baseline", "radius", "selected_on", "difference", "method_only", "baseline_only", "p_value"),
    "p_holm",
)
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
        runs: on the test part, and for the honest choice of sigma and options the same settings on the
            validation part. Rows come in the order in which methods first appear; values are means over
            training seeds.
        name: stem of the files, ``"table1"``.
        title: heading of the Markdown file.
        radii: at which certified accuracy is given, in pixel coordinates [0, 1].
        baseline_method: key of the method that the others are tested against.
        published: paper, number and data set of a published table to show beside ours.
        norm: of the radii.
        data: the data set, as papers name it; None for the name that the runs give it.

    Raises:
        ConfigError: there are no runs on the test part, the baseline is not among them, runs are given twice,
            a method's settings on the two parts differ, or there is no such published table.
        CountsError: runs are not about the same images, or were not certified with the same numbers.
    """
    test = _tested(runs, name, baseline_method)
    choices = _choices(test, collect(runs, "validation"))
    rows = list(_rows(test, choices, radii, norm))
    theirs = published_rows(*published) if published else []
    tests = (_tests(test, choices[part], baseline_method, radii, part) for part in ("validation", "test"))
    return TableResult(
        kind="certified",
        name=name,
        title=title,
        about={
            "data": data or str(runs[0].provenance["dataset"]),
            "norm": norm,
            "radii": [float(radius) for radius in radii],
            "baseline": next(m.label for m in test if m.key == baseline_method),
        },
        values=tidy([*({"table": name, **row} for row in rows), *theirs], _COLUMNS),
        more={
            "tests": tidy(chain(*tests), _TESTS),
            "memory": tidy(_memory_effects(runs), _MEMORY),
        },
        views={"gains": tidy(_gains(rows), ("method", "metric", "radius", "gain"))},
        sources=[source(run) for run in runs],
    )


def _tested(runs: Sequence[CertifiedRun], name: str, baseline: str) -> tuple[Method, ...]:
    test = collect(runs, "test")
    if not test:
        raise ConfigError(f"{name}: no runs on the test part; a table needs at least one")
    if baseline not in (keys := [method.key for method in test]):
        raise ConfigError(f"{name}: baseline_method {baseline!r} has no runs; {nearest(baseline, keys)}")
    return test


def _choices(test: Sequence[Method], validation: Sequence[Method]) -> dict[SelectedOn, dict[str, Choice]]:
    """Return how each method chooses, on the test images and, where it has validation runs, on those."""
    judges = {method.key: method for method in validation}
    _check_parts(test, judges)
    return {
        "test": {m.key: partial(_best, m, m) for m in test},
        "validation": {m.key: partial(_best, m, judges[m.key]) for m in test if m.key in judges},
    }


def _check_parts(test: Sequence[Method], validation: Mapping[str, Method]) -> None:
    """Raise ConfigError unless the settings and seeds on the validation part are those on the test part."""
    settings = {m.key: {(o.setting, seed) for o in m.outcomes for seed in o.seeds} for m in test}
    for key, method in validation.items():
        found = {(o.setting, seed) for o in method.outcomes for seed in o.seeds}
        for setting, seed in sorted(found ^ settings.get(key, set()), key=str):
            part = "validation" if (setting, seed) in found else "test"
            raise ConfigError(
                f"{key}, sigma {setting}, seed {seed}: certified on the {part} part only; a choice made on "
                "the validation part needs every setting on both"
            )


def _best(method: Method, judge: Method, radius: float | None) -> Outcome:
    """Return the outcome of ``method`` at the setting where ``judge`` is best."""
    return method.at(judge.best(Outcome.acr if radius is None else lambda outcome: outcome.accuracy(radius)).setting)


def _rows(
    methods: Sequence[Method],
    choices: Mapping[SelectedOn, Mapping[str, Choice]],
    radii: Sequence[float],
    norm: str,
) -> Iterator[Record]:
    """Yield the numbers of all rows: those whose setting is chosen, then every setting."""
    for part, chosen in choices.items():
        for method in (m for m in methods if m.key in chosen):
            for row in _row(method, chosen[method.key], radii, norm):
                yield row | {"selected_on": part}
    for method in methods:
        for one in method.settings():
            for row in _row(one, partial(_best, one, one), radii, norm):
                yield row | {"selected_on": "none", "sigma": f"{one.outcomes[0].setting.sigma:g}"}


def _row(method: Method, choice: Choice, radii: Sequence[float], norm: str) -> Iterator[Record]:
    """Yield the numbers of one row: the accuracy at each radius, and the ACR."""
    dataset = str(method.outcomes[0].runs[0].provenance["dataset"])
    shared = {**method.described, "dataset": dataset, "norm": norm, "kind": "measured", "sigma": "best"}
    for radius in (*radii, None):
        chosen = choice(radius)
        if radius is None:
            number = acr_record(chosen.correct, chosen.radius, norm)
        else:
            number = accuracy_record(chosen.accuracy(radius), chosen.images, radius)
        yield {**shared, **number, "chosen_sigma": chosen.setting.sigma, "chosen_grid": chosen.setting.options}


def _gains(rows: Sequence[Record]) -> Iterator[Record]:
    """Yield what the choice on the test images adds to each number chosen on the validation part."""
    at = {(row["method"], row["radius"]): row["value"] for row in rows if row["selected_on"] == "test"}
    for row in rows:
        if row["selected_on"] == "validation":
            yield row | {"gain": at[row["method"], row["radius"]] - row["value"]}


def _tests(
    methods: Sequence[Method],
    choices: Mapping[str, Choice],
    baseline: str,
    radii: Sequence[float],
    selected_on: SelectedOn,
) -> list[Record]:
    """Test each method against the baseline at each radius, where both have a choice."""
    if baseline not in choices:
        return []
    labels = {method.key: method.label for method in methods}
    compared: list[Record] = []
    for key in (k for k in choices if k != baseline):
        for radius in radii:
            ours, theirs = choices[key](radius), choices[baseline](radius)
            pair = mcnemar(*(certified(each.correct, each.radius, radius) for each in (ours, theirs)))
            compared.append(
                {
                    **{"method": labels[key], "baseline": labels[baseline], "radius": float(radius)},
                    "selected_on": selected_on,
                    "difference": 100 * (ours.accuracy(radius) - theirs.accuracy(radius)),
                    **{"method_only": pair.first_only, "baseline_only": pair.second_only, "p_value": pair.p_value},
                }
            )
    adjusted = holm([row["p_value"] for row in compared])
    return [row | {"p_holm": p_holm} for row, p_holm in zip(compared, adjusted, strict=True)]


def _memory_effects(runs: Sequence[CertifiedRun]) -> Iterator[Record]:
    """Yield what the memory pass did to each run on the test part.

    Capped: images whose radius was reduced. Repredicted: images whose prediction became that of an earlier one; the
    ACR before the pass is then unknown, for the earlier prediction is not stored.
    """
    for run in runs:
        if run.part != "test" or (memory := run.provenance["memory"]) is None:
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
            "acr_before": None if memory["repredicted"] else before,
            "acr": float((frame["radius"] * frame["correct"]).mean()),
        }
