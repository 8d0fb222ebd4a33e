"""The page of recipes: what the papers print, what their authors' programs do, and what runs here.

The first two are kept in ``docs/recipes.csv``; the third is what params.yaml and its library say. ``python -m
certsmooth.experiment.schema`` writes the page.
"""

from __future__ import annotations

import csv
from dataclasses import MISSING, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from certsmooth._internal.registry import member
from certsmooth.experiment import runs
from certsmooth.experiment.config import Params
from certsmooth.report.render import fill
from certsmooth.science.training.recipe import Recipe

PAGE = Path("docs", "recipes.md")


def page(params: Params, table: Path) -> str:
    """Return the page as Markdown.

    Args:
        params: the whole configuration.
        table: what papers and programs say: CSV.
    """
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["ours"] = ours(params, row["dataset"], row["entry"], row["key"])
    groups = groupby(rows, lambda row: (row["paper"], row["dataset"]))
    return fill("recipes", {"groups": [(paper, dataset, list(found)) for (paper, dataset), found in groups]})


def ours(params: Params, dataset: str, entry: str, key: str) -> str:
    """Return a value of the configuration as text.

    Args:
        params: the whole configuration.
        dataset: a key of ``datasets``.
        entry: ``trainings.NAME`` or ``methods.NAME``; empty for what the data set says itself.
        key: of the value there, as ``objective.samples`` or ``teacher_weight``.
    """
    section, _, name = entry.partition(".")
    part, _, option = key.partition(".")
    if section == "":
        chosen = getattr(params.datasets[dataset], part)
        return _text(getattr(chosen, option) if option else chosen)
    if part == "recipe":
        return _text({**_defaults(Recipe), **runs.recipe(params, dataset, name)}[option])
    if section == "methods":
        chosen = runs.resolved_policy(params, dataset, name)
    else:
        chosen = getattr(runs.resolved_training(params, dataset, name), part)
    if not option:
        return _text(chosen)
    family = "objectives" if part == "objective" else "sigma"
    return _text({**_defaults(member(family, chosen.name)), **chosen.options}[option])


def _defaults(cls: type) -> dict[str, Any]:
    return {field.name: field.default for field in fields(cls) if field.default is not MISSING}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_text(each)}" for name, each in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
