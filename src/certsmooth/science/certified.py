"""What is certified of some images: one value per image under each name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from certsmooth._internal.extras import optional_libraries

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 60
"""A table of more images shows its beginning and its end."""


class CertifiedImages:
    """Certificates of N images: ``found["radius"]`` is an array [N]; printed, it is a table with a row per image.

    Args:
        columns: name -> one value per image.
    """

    def __init__(self, columns: Mapping[str, Shaped[np.ndarray, " N"]]) -> None:
        self._columns = dict(columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names, in their order."""
        return tuple(self._columns)

    def __getitem__(self, name: str) -> Shaped[np.ndarray, " N"]:
        if name not in self._columns:
            raise KeyError(f"{name!r}; must be one of {', '.join(self._columns)}")
        return self._columns[name]

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield one image after the other, as name -> value."""
        for row in zip(*(column.tolist() for column in self._columns.values()), strict=True):
            yield dict(zip(self._columns, row, strict=True))

    def __repr__(self) -> str:
        shown = np.arange(len(self))
        if len(self) > _SHOWN:
            shown = np.concatenate([shown[: _SHOWN // 2], shown[-_SHOWN // 2 :]])
        columns = [_aligned("", shown), *(_aligned(name, self[name][shown]) for name in self.columns)]
        lines = ["  ".join(cells) for cells in zip(*columns, strict=True)]
        if len(self) > _SHOWN:
            lines = [*lines[: _SHOWN // 2 + 1], "...", *lines[_SHOWN // 2 + 1 :], f"[{len(self)} images]"]
        return "\n".join(lines)

    def take(self, images: slice | Shaped[np.ndarray, " m"] | Sequence[int]) -> CertifiedImages:
        """Return the certificates of some images: a slice, a mask or positions."""
        return CertifiedImages({name: column[images] for name, column in self._columns.items()})

    def equals(self, other: CertifiedImages) -> bool:
        """Return whether another one has the same columns with the same values; NaN is NaN."""
        return self.columns == other.columns and all(
            np.array_equal(self[name], other[name], equal_nan=self[name].dtype.kind == "f") for name in self.columns
        )

    def frame(self) -> pd.DataFrame:
        """Return the table as a frame of pandas.

        Raises:
            MissingLibraryError: pandas is not installed.
        """
        with optional_libraries():
            import pandas as pd
        return pd.DataFrame(self._columns)


def _aligned(name: str, values: Shaped[np.ndarray, " n"]) -> list[str]:
    """Return the cells of a column, its name first, as wide as the widest; numbers with up to 6 decimals."""
    cells = [str(value) for value in values]
    if values.dtype.kind == "f":
        decimals = max((len(f"{value:.6f}".rstrip("0").partition(".")[2]) for value in values), default=0)
        cells = [f"{value:.{max(1, decimals)}f}" for value in values]
    width = max(map(len, [name, *cells]))
    return [cell.rjust(width) for cell in [name, *cells]]
