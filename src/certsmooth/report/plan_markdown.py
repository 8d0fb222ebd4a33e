"""A plan as Markdown."""

from __future__ import annotations

import pandas as pd

from certsmooth.report.render import fill


def render(jobs: pd.DataFrame, *, devices: int, limit: float, clock: float) -> str:
    """Return a plan as Markdown.

    Args:
        jobs: rule; row, "" if never measured; output; made; took: hours, if it is made; hours: that it will take, if
            not; shards; fewest: shards of which none is over the limit, infinite if no number is enough. NaN: unknown.
        devices: how many run jobs at a time.
        limit: hours that a job may take.
        clock: hours until all that is left and has hours is done.
    """
    words = jobs["row"].str.split()
    jobs = jobs.assign(left=~jobs["made"], dataset=words.str[0], method=words.str[1])
    known, others = jobs[jobs["hours"].notna()], jobs[jobs["hours"].isna() & jobs["left"]]
    content = {
        "by_rule": _summed(pd.concat([jobs, jobs.assign(rule="total")]), "rule"),
        "known": _summed(known, "rule", "dataset", "method"),
        "others": _summed(others[others["row"] != ""], "rule", "dataset", "method"),
        "never": others.loc[others["row"] == "", "rule"].value_counts(sort=False),
    }
    return fill("plan", {**content, "devices": devices, "limit": limit, "clock": clock})


def _summed(jobs: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Return what a plan shows of jobs, a row for those that agree in some columns."""
    shown = {
        **{"jobs": ("rule", "size"), "made": ("made", "sum"), "left": ("left", "sum"), "output": ("output", "first")},
        **{"took": ("took", "sum"), "logged": ("took", "count")},
        **{"hours": ("hours", "sum"), "known": ("hours", "count"), "longest": ("hours", "max")},
        **{"shards": ("shards", "max"), "fewest": ("fewest", "max")},
    }
    return jobs.groupby(list(by), sort=False).agg(**shown).reset_index()
