"""An image, one noisy copy of it, how often each class was predicted, and the certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from certsmooth.report.figures.panels import COLOURS
from certsmooth.report.figures.pictures import show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 10
"""Most classes, those that were predicted most often."""


def certified_image_figure(
    image: Float[np.ndarray, " *shape"],
    noisy: Float[np.ndarray, " *shape"],
    counts: Int[np.ndarray, " k"],
    *,
    name: str,
    said: str,
    sigma: float,
) -> Figure:
    """Draw one certified image.

    Args:
        image: [h, w] grey or [h, w, 3], pixel range [0, 1].
        noisy: the same with noise; pixels beyond [0, 1] are shown at its ends.
        counts: of each class, among the estimation samples.
        name: of the image.
        said: what is certified, as the title.
        sigma: of the noise, in pixel coordinates [0, 1].
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 2.7), layout="constrained")
    clean, other, bars = figure.subplots(1, 3, width_ratios=(1, 1, 1.4))
    show_image(clean, name if len(name) <= 30 else f"{name[:29]}…", image)
    show_image(other, f"with noise, σ = {sigma:g}", noisy)
    order = np.argsort(-counts, kind="stable")[:_SHOWN]
    bars.bar(np.arange(len(order)), counts[order], color=[COLOURS[2], *COLOURS[-1:] * (len(order) - 1)])
    bars.set_xticks(np.arange(len(order)), [str(each) for each in order])
    bars.set_xlabel("class")
    bars.set_title(f"predictions of {counts.sum():,} samples", fontsize=8)
    figure.suptitle(said, fontsize=11)
    return figure
