"""Builds a table of certified accuracies and writes it as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.metrics import (
    accuracy_interval,
    certified,
    certified_radii,
    holm,
    mcnemar,
    mean_interval,
)
from certsmooth.analysis.published import published_rows
from certsmooth.analysis.result import Entry, MemoryEffect, PairedTest, Row, SelectedOn, Source, TableResult
from certsmooth.analysis.runs import Method, Outcome, collect, guarantees, name_of
from certsmooth.errors import ConfigError, CountsError, nearest
from certsmooth.report.files import write_result
from certsmooth.report.markdown import render

Choice = Callable[[float | None], Outcome]
"""The outcome that a row shows at a radius, or for the ACR (None)."""

_BOOTSTRAP_SEED = 0
"""The same resamples for every interval, so that a number depends on its certificates alone."""


def build_table(
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
    test = collect(runs, "test")
    if not test:
        raise ConfigError(f"{name}: no runs on the test part; a table needs at least one")
    if baseline_method not in (keys := [method.key for method in test]):
        raise ConfigError(f"{name}: baseline_method {baseline_method!r} has no runs; {nearest(baseline_method, keys)}")
    validation = {method.key: method for method in collect(runs, "validation")}
    _check_parts(test, validation)
    on_test = {m.key: _chosen_on(m, m) for m in test}
    on_validation = {m.key: _chosen_on(m, validation[m.key]) for m in test if m.key in validation}

    def row(method: Method, choice: Choice, selected_on: SelectedOn, *, sigma: str = "best") -> Row:
        return _row(method, choice, radii, selected_on, sigma=sigma, table=name, norm=norm)

    return TableResult(
        name=name,
        title=title,
        data=data or str(runs[0].provenance["dataset"]),
        norm=norm,
        radii=tuple(float(radius) for radius in radii),
        baseline=next(m.label for m in test if m.key == baseline_method),
        on_test=tuple(row(m, on_test[m.key], "test") for m in test),
        on_validation=tuple(row(m, on_validation[m.key], "validation") for m in test if m.key in on_validation),
        per_setting=tuple(
            row(m, _always(outcome), "none", sigma=f"{outcome.setting.sigma:g}") for m in test for outcome in m.outcomes
        ),
        published=published_rows(*published) if published else (),
        tests=(
            *_tests(test, on_validation, baseline_method, radii, "validation"),
            *_tests(test, on_test, baseline_method, radii, "test"),
        ),
        memory=tuple(_memory(run) for run in runs if run.part == "test" and run.provenance["memory"] is not None),
        sources=tuple(Source.of(run) for run in runs),
    )


def write_table(result: TableResult, folder: Path, *, figure: str | None = None) -> tuple[Path, Path, Path]:
    """Write a table to a folder by `certsmooth.report.files.write_result`; its stem is the table's name.

    Args:
        result: the table.
        folder: must exist.
        figure: a picture that the Markdown file shows; its path relative to ``folder``.
    """
    return write_result(folder / result.name, result, markdown=render(result, figure=figure), values=_csv(result))


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


def _score(radius: float | None) -> Callable[[Outcome], float]:
    return Outcome.acr if radius is None else lambda outcome: outcome.accuracy(radius)


def _chosen_on(method: Method, judge: Method) -> Choice:
    """Choose, for each radius, the outcome of ``method`` at the setting where ``judge`` is best."""
    return lambda radius: method.at(judge.best(_score(radius)).setting)


def _always(outcome: Outcome) -> Choice:
    return lambda radius: outcome


def _row(
    method: Method,
    choice: Choice,
    radii: Sequence[float],
    selected_on: SelectedOn,
    *,
    sigma: str,
    table: str,
    norm: str,
) -> Row:
    outcomes = method.outcomes if sigma == "best" else (choice(None),)
    first = outcomes[0]
    return Row(
        kind="measured",
        paper=None,
        table=table,
        dataset=str(first.runs[0].provenance["dataset"]),
        norm=norm,
        method=method.label,
        train=method.train,
        certify=method.certify,
        guarantee=guarantees(outcomes),
        sigma=sigma,
        selected_on=selected_on,
        seeds=first.seeds,
        images=first.correct.shape[1],
        entries=(*(_accuracy_entry(choice(r), r) for r in radii), _acr_entry(choice(None), norm)),
    )


def _accuracy_entry(outcome: Outcome, radius: float) -> Entry:
    accuracy = outcome.accuracy(radius)
    lower, upper = (100 * end for end in accuracy_interval(accuracy, outcome.correct.shape[1]))
    setting = outcome.setting
    return Entry(
        "certified_accuracy",
        float(radius),
        100 * accuracy,
        lower,
        upper,
        "percent",
        setting.sigma,
        dict(setting.variant),
    )


def _acr_entry(outcome: Outcome, norm: str) -> Entry:
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    lower, upper = mean_interval(certified_radii(outcome.correct, outcome.radius), rng=rng)
    setting = outcome.setting
    return Entry("acr", None, outcome.acr(), lower, upper, f"{norm} radius", setting.sigma, dict(setting.variant))


def _tests(
    methods: Sequence[Method],
    choices: Mapping[str, Choice],
    baseline: str,
    radii: Sequence[float],
    selected_on: SelectedOn,
) -> list[PairedTest]:
    """Test each method against the baseline at each radius, where both have a choice."""
    if baseline not in choices:
        return []
    labels = {method.key: method.label for method in methods}
    compared = []
    for key in (k for k in choices if k != baseline):
        for radius in radii:
            ours, theirs = choices[key](radius), choices[baseline](radius)
            pair = mcnemar(
                certified(ours.correct, ours.radius, radius), certified(theirs.correct, theirs.radius, radius)
            )
            compared.append((key, radius, 100 * (ours.accuracy(radius) - theirs.accuracy(radius)), pair))
    adjusted = holm([pair.p_value for *_, pair in compared])
    return [
        PairedTest(
            labels[key],
            labels[baseline],
            float(radius),
            selected_on,
            difference,
            pair.first_only,
            pair.second_only,
            pair.p_value,
            p_holm,
        )
        for (key, radius, difference, pair), p_holm in zip(compared, adjusted, strict=True)
    ]


def _memory(run: CertifiedRun) -> MemoryEffect:
    frame, memory = run.frame, run.provenance["memory"]
    loss = frame["radius_before_memory"] - frame["radius"]
    if loss.isna().any():
        raise CountsError(f"{name_of(run)}: radius_before_memory is empty; must be there if provenance has memory")
    before = float((frame["radius_before_memory"] * frame["correct"]).mean())
    return MemoryEffect(
        method=run.label,
        sigma=run.sigma,
        variant=dict(run.variant),
        seed=run.seed,
        order=str(memory["order"]),
        images=len(frame),
        conflicts=int(memory["conflicts"]),
        capped=int(memory["capped"]),
        repredicted=int(memory["repredicted"]),
        changed=int((loss != 0).sum()),
        largest_loss=max(float(loss.max()), 0.0),
        acr_before=None if memory["repredicted"] else before,
        acr=float((frame["radius"] * frame["correct"]).mean()),
    )


_CSV_COLUMNS = (
    *(
        "paper",
        "table",
        "dataset",
        "norm",
        "method",
        "train",
        "certify",
        "sigma",
        "metric",
        "radius",
        "value",
        "unit",
    ),
    *(
        "lower",
        "upper",
        "kind",
        "guarantee",
        "selected_on",
        "chosen_sigma",
        "chosen_variant",
        "seeds",
        "images",
    ),
)


def _csv(result: TableResult) -> str:
    """Return the long form: the columns of ``published.csv``, then what we add. Absent values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in (*result.on_test, *result.on_validation, *result.per_setting, *result.published):
        shared = asdict(row)
        del shared["entries"]
        shared |= {"guarantee": ", ".join(row.guarantee), "seeds": " ".join(map(str, row.seeds))}
        for entry in row.entries:
            variant = " ".join(f"{key}={value}" for key, value in entry.variant.items())
            own = asdict(entry) | {"chosen_sigma": entry.sigma, "chosen_variant": variant, "sigma": row.sigma}
            del own["variant"]
            writer.writerow(shared | own)
    return text.getvalue()
