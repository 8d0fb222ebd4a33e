"""Images at their smallest and largest sigma(x): DDRS, Figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE = 0.95  # inches of a picture


@dataclass(frozen=True)
class Picture:
    """An image and its sigma.

    Attributes:
        image: [h, w] grey or [h, w, 3], pixel range [0, 1].
        noise: standard normal, of the same shape.
        label: its class.
        index: its published position.
        sigma: sigma(x), pixel coordinates [0, 1].
    """

    image: Float[np.ndarray, " *shape"]
    noise: Float[np.ndarray, " *shape"]
    label: int
    index: int
    sigma: float


@dataclass(frozen=True)
class Row:
    """Images at one end of sigma(x), in increasing order of it, and the fixed sigma that each is shown at as well."""

    end: str
    sigma: float
    pictures: Sequence[Picture]


def pictures_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Draw images: each clean, with noise of the fixed sigma, and with the same noise scaled by its own sigma(x).

    Args:
        rows: one row of pictures each; pixels beyond [0, 1] are shown at its ends.
        title: above all.
    """
    from matplotlib.figure import Figure

    across = 3 * max(len(row.pictures) for row in rows)
    figure = Figure(figsize=(0.7 + _SIDE * across, 0.6 + 1.25 * _SIDE * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), across, squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        shown = [panel for picture in row.pictures for panel in _panels(picture, row.sigma)]
        for axis, (heading, image) in zip(line, shown, strict=False):
            show_image(axis, heading, image)
        for spare in line[len(shown) :]:
            spare.remove()
        line[0].set_ylabel(f"σ = {row.sigma:g}\n{row.end} σ*", fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def _panels(picture: Picture, fixed: float) -> list[tuple[str, Float[np.ndarray, " *shape"]]]:
    """Return heading and image of the three pictures of an image."""
    noisy = [(f"{name} = {sigma:.3g}", sigma) for name, sigma in (("σ", fixed), ("σ*", picture.sigma))]
    clean = (f"{picture.label} (no. {picture.index})", picture.image)
    return [clean, *((heading, picture.image + sigma * picture.noise) for heading, sigma in noisy)]


def show_image(axis: Axes, heading: str, image: Float[np.ndarray, " *shape"]) -> None:
    """Draw an image, [h, w] grey or [h, w, 3], pixel range [0, 1], under a heading."""
    axis.imshow(np.clip(image, 0.0, 1.0), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    axis.set_title(heading, fontsize=8)
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
