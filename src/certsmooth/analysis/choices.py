"""Which rows of a table of best settings say something new: each number is shown once, the honest choice first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_SETTING = ["chosen_sigma", "chosen_grid"]


def chosen_fairly(values: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that no test image chose: chosen on the validation split, or of a method with one setting.

    Args:
        values: of a table whose rows have ``method``, ``selected_on``, ``radius``, ``chosen_sigma`` and
            ``chosen_grid``; each setting alone has ``selected_on`` none.
    """
    validated = values[values["selected_on"] == "validation"]
    on_test = values[values["selected_on"] == "test"]
    alone = on_test["method"].isin(with_one_setting(values)) & ~on_test["method"].isin(validated["method"])
    fair = values.loc[validated.index.union(on_test.index[alone])]
    order = {method: place for place, method in enumerate(on_test["method"].unique())}
    return fair.sort_values("method", key=lambda methods: methods.map(order), kind="stable")


def chosen_on_test(values: pd.DataFrame) -> pd.DataFrame:
    """Return the rows chosen on the test images that differ from those chosen fairly.

    A column ``same`` says of each number whether its setting is also the fair choice; a method of which all are is
    left out.

    Args:
        values: as `chosen_fairly`.
    """
    place = ["method", "radius", *_SETTING]
    fair = set(_keys(chosen_fairly(values), place))
    on_test = values[values["selected_on"] == "test"]
    on_test = on_test.assign(same=[key in fair for key in _keys(on_test, place)])
    return on_test[~on_test.groupby("method")["same"].transform("all").astype(bool)]


def with_one_setting(values: pd.DataFrame) -> list[str]:
    """Return the methods with one setting: nothing of theirs is chosen."""
    every = values.loc[values["selected_on"] == "none", ["method", *_SETTING]].drop_duplicates()
    numbers = every["method"].value_counts()
    return [method for method in every["method"].unique() if numbers[method] == 1]


def _keys(rows: pd.DataFrame, columns: list[str]) -> list[tuple[object, ...]]:
    """Return the values of columns in each row, None where there is none: NaN equals nothing."""
    return list(rows[columns].astype(object).where(rows[columns].notna(), None).itertuples(index=False, name=None))
