"""Markdown tables whose rows are printed as they are measured."""

from collections.abc import Sequence

import numpy as np


def head(*cells: str) -> None:
    """Print the head of a table; the first column is text, the others are numbers."""
    print(f"\n| {' | '.join(cells)} |\n|:--|{'--:|' * (len(cells) - 1)}", flush=True)


def row(*cells: object) -> None:
    """Print one row."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def accuracy(predict: np.ndarray, radius: np.ndarray, labels: np.ndarray, radii: Sequence[float]) -> list[float]:
    """Return certified accuracy at each of some radii in percent, and the ACR."""
    right = np.where(predict == labels, radius, -1.0)
    return [*(100 * float((right >= r).mean()) for r in radii), float(np.maximum(right, 0).mean())]


def texts(values: Sequence[float]) -> list[str]:
    """Return what `accuracy` returns, as it is printed."""
    return [*(f"{value:.1f}" for value in values[:-1]), f"{values[-1]:.3f}"]
