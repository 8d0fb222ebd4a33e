"""What figures share: their style, panels with one legend, and how they become files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, TypeVar, cast

from certsmooth._internal.storage import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Shown = TypeVar("_Shown")
_ENTRY, _LETTER = 0.7, 0.068  # inches of a legend: of a line and the space around it, and of a letter beside it
_TITLE_LETTER = 0.083
_PATH, _LONG = re.compile(rb' d="[^"]*"'), re.compile(rb"\d+\.\d{3,}")
# Okabe and Ito's colours, dark ones first, can be told apart with any colour vision; line styles, in grey.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":")
_STYLE: Mapping[str, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    # Identifiers in the SVG depend on this salt alone, not on a random one.
    "svg.hashsalt": "certsmooth",
}


def write_figure(draw: Callable[[], Figure], folder: Path, *, name: str) -> tuple[Path, Path]:
    """Draw a figure in the style of all figures, and write it as ``NAME.svg`` and ``NAME.png``.

    Args:
        draw: makes the figure.
        folder: must exist.
        name: stem of the files.

    Returns:
        The two paths. Equal figures give equal bytes, with the same version of matplotlib.

    Raises:
        CertsmoothError: a file cannot be written.
    """
    import matplotlib

    paths = folder / f"{name}.svg", folder / f"{name}.png"
    with matplotlib.rc_context(cast("Any", _STYLE)):
        figure = draw()
        with atomic_write(paths[0]) as file, io.BytesIO() as drawn:
            figure.savefig(drawn, format="svg", metadata={"Date": None})
            file.write(_shortened(drawn.getvalue()))
        with atomic_write(paths[1]) as file:
            figure.savefig(file, format="png", dpi=160)
    return paths


def _shortened(svg: bytes) -> bytes:
    """Return an SVG whose paths are given to a hundredth of a point: a quarter shorter, and it looks the same."""
    return _PATH.sub(lambda path: _LONG.sub(lambda number: b"%.2f" % float(number[0]), path[0]), svg)


def panels_figure(
    panels: Sequence[tuple[str, _Shown]],
    draw: Callable[[Axes, _Shown], None],
    *,
    size: tuple[float, float],
    title: str,
    labels: tuple[str, str],
    columns: int = 2,
    legend: str = "",
    apart: int = 0,
) -> Figure:
    """Return a figure of panels with one legend below them.

    Args:
        panels: heading of each, and what it shows.
        draw: fills the axes of a panel with what it shows.
        size: width and height of a panel, inches.
        title: above the panels.
        labels: of the axes, x and y.
        columns: most panels in a row.
        legend: its heading.
        apart: so many panels, the last ones, have a y axis of their own, which ``draw`` labels.
    """
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    used = -(-len(panels) // rows)
    figure = Figure(figsize=(0.6 + size[0] * used, 1.1 + size[1] * rows), layout="constrained")
    for place, (heading, shown) in enumerate(panels):
        alone = place >= len(panels) - apart
        axis = figure.add_subplot(rows, used, place + 1, sharey=figure.axes[0] if place and not alone else None)
        draw(axis, shown)
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel(labels[0])
        if not alone and place % used == 0:
            axis.set_ylabel(labels[1])
        elif not alone:
            axis.tick_params(labelleft=False)
    width = figure.get_figwidth()
    figure.suptitle(fill(title, int(width / _TITLE_LETTER)), fontsize=11)
    lines = [line for axis in figure.axes for line in axis.get_lines()]
    handles = {label: line for line in lines if not (label := str(line.get_label())).startswith("_")}
    entry = _ENTRY + _LETTER * max(map(len, handles), default=0)  # inches
    figure.legend(
        handles=list(handles.values()),
        title=fill(legend, int(width / _LETTER)),
        loc="outside lower center",
        ncols=max(1, min(len(handles), max(2, used), int(width / entry))),
        frameon=False,
        handlelength=3,
    )
    return figure


def line(number: int) -> dict[str, Any]:
    """Return how the line with this number is drawn."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}
