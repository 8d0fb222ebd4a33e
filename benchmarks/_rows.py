"""A table whose rows are printed as they are measured."""

from __future__ import annotations

import sys


class Rows:
    """Prints its headers at once, and each row when it is added.

    Args:
        headers: of the columns; the first is text, the others are numbers.
        first: width of the first column.
    """

    def __init__(self, *headers: str, first: int = 30) -> None:
        self.widths = [first, *(max(len(header), 10) for header in headers[1:])]
        self.add(*headers)
        self.add(*("-" * width for width in self.widths))

    def add(self, *cells: object) -> None:
        """Print a row."""
        name, *numbers = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells)
        aligned = [name.ljust(self.widths[0])]
        aligned += [number.rjust(width) for number, width in zip(numbers, self.widths[1:], strict=True)]
        sys.stdout.write("  ".join(aligned).rstrip() + "\n")
        sys.stdout.flush()
