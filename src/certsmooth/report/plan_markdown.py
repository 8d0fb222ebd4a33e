"""A plan as Markdown."""

from __future__ import annotations

import pandas as pd

from certsmooth.report.render import pipe_table

_MADE = (
    "Made: the file is there and, where Snakemake measured its job, is of the parameters of now. "
    "`snakemake --dry-run` knows what else changed."
)
_RESTS = (
    "From jobs of the same kind, as Snakemake measured them here: seconds of the clock, start-up included, scaled by "
    "epochs, images and samples. From short jobs to long ones that is too much, from long to short too little."
)
_NONE = "Nothing that is left was measured: no hours are given."
_ORDER = "trainings, labels, trainings that build on others, sampling, then what follows from counts"


def render(jobs: pd.DataFrame, *, devices: int, limit: float, clock: float) -> str:
    """Return a plan as Markdown.

    Args:
        jobs: rule; row, "" if never measured; output; made; took: hours, if it is made; hours: that it will take, if
            not; shards; fewest: shards of which none is over the limit, infinite if no number is enough. NaN: unknown.
        devices: how many run jobs at a time.
        limit: hours that a job may take.
        clock: hours until all that is left and has hours is done.
    """
    hours = jobs["hours"].dropna()
    left = [
        _RESTS,
        _left(jobs[jobs["hours"].notna()], limit),
        f"- {_hours(hours.sum())} hours in {len(hours):,} jobs; the longest: {_hours(hours.max())} hours.\n"
        f"- On {devices} device{'s' if devices > 1 else ''}: {_hours(clock)} hours, one job at a time: {_ORDER}.",
    ]
    none = ["Nothing is left." if jobs["made"].all() else _NONE]
    sections = ["# Plan", "## Jobs", _MADE, _by_rule(jobs), "## Hours of what is left", *(left if len(hours) else none)]
    return "\n\n".join([*sections, *_not_measured(jobs[jobs["hours"].isna() & ~jobs["made"]])]) + "\n"


def _by_rule(jobs: pd.DataFrame) -> str:
    body = []
    for rule, found in [*jobs.groupby("rule", sort=False), ("total", jobs)]:
        made, took = found["made"].sum(), found["took"].dropna()
        taken = f"{_hours(took.sum())} ({len(took):,})" if len(took) else "–"
        counts = (f"{count:,}" for count in (len(found) - made, found["hours"].count()))
        body.append([str(rule), f"{len(found):,}", f"{made:,}", taken, *counts])
    return pipe_table(["Rule", "Jobs", "Made", "Took / h (of jobs)", "Left", "Left with hours"], body, text=1)


def _left(jobs: pd.DataFrame, limit: float) -> str:
    body = []
    for (rule, row), found in jobs.groupby(["rule", "row"], sort=False):
        hours, fewest = found["hours"], found["fewest"].max()
        shards = ["", ""] if pd.isna(fewest) else [f"{found['shards'].max()}", f"{fewest:g}".replace("inf", "none")]
        numbers = [f"{len(found):,}", _hours(hours.sum()), _hours(hours.max()), *shards]
        body.append([str(rule), *str(row).split(), *numbers])
    headings = ["Rule", "Data set", "Training or method", "Jobs", "Hours", "Longest / h", "Shards"]
    return pipe_table([*headings, f"Shards for jobs of {limit:g} h"], body, text=3)


def _not_measured(jobs: pd.DataFrame) -> list[str]:
    rows = jobs[jobs["row"] != ""].groupby(["rule", "row"], sort=False)
    body = [[str(r), *str(row).split(), f"`{found['output'].iloc[0]}`", f"{len(found):,}"] for (r, row), found in rows]
    table = pipe_table(["Rule", "Data set", "Training or method", "One of the files", "Jobs"], body, text=4)
    others = jobs.loc[jobs["row"] == "", "rule"].value_counts(sort=False)
    never = f"Never measured: {', '.join(f'{rule} ({n:,})' for rule, n in others.items())}."
    how = "No job of these kinds was measured; `snakemake --cores 1 results/FILE` makes a file, and so measures one."
    found = [*([how, table] if body else []), *([never] if len(others) else [])]
    return ["## Not in these hours", *found] if found else []


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
