"""The figure of test images at their smallest and largest sigma(x) (DDRS, Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from certsmooth.errors import ConfigError
from certsmooth.experiment.members import check_pictures
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import picture_runs
from certsmooth.experiment.steps.certified import Certified
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.report.figures.panels import write_figure
from certsmooth.report.figures.pictures import Picture, Row, pictures_figure
from certsmooth.science.datasets import Split

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 3
"""Images at each end of sigma(x)."""


def make_pictures(experiment: Experiment, *, results: Path) -> None:
    """Write ``ddrs/figure6.svg`` and ``.png`` to the figures of ``results``.

    For each sigma of the data set, two rows: the certified test images of the smallest and of the largest sigma(x).
    Each is shown clean, at the fixed sigma and at its own, with the same noise: of a generator that the experiment's
    seed and the image's index start.

    Args:
        experiment: all that is asked for; ``pictures`` says what is shown.
        results: folder that holds data records, checkpoints and certificates.

    Raises:
        ConfigError: there are no ``pictures`` of the data set, it has no images, or sigma is constant.
        CountsError: certificates are missing or damaged.
    """
    params, certified = experiment.params, Certified(experiment, results)
    chosen, shown = params.pictures, picture_runs(params)
    if chosen is None or not shown:
        found = "missing" if chosen is None else f"{list(chosen.datasets)}"
        raise ConfigError(f"pictures.datasets: {found}; must have {params.dataset!r}, which `dataset` says")
    check_pictures(params)
    loaded, data = Loaded(results, torch.device("cpu")), experiment.data(params.dataset)
    shape = loaded.record(data)["image_shape"]
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ConfigError(f"pictures.datasets: {params.dataset!r} has the shape {shape}; must be [1 or 3, h, w]")
    test = loaded.split(data, "test")
    rows = []
    for run in shown:
        frame = certified.run(run, "test").frame
        for end, images in ends(frame).items():
            rows.append(Row(end, run.sigma, [_picture(test, image, params.seed) for image in images]))
    folder = results / "tables" / "figures" / "ddrs"
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{params.methods[chosen.method].label} on {params.dataset}: images where σ* is smallest and largest"
    write_figure(lambda: pictures_figure(rows, title=title), folder, name="figure6")


def ends(frame: pd.DataFrame) -> dict[str, Sequence[tuple[int, int, float]]]:
    """Return index, label and sigma of the images of the smallest and of the largest sigma, in increasing order of it.

    Images of the same sigma are in the order of their index. No image is at both ends, unless it is the only one.

    Args:
        frame: certificates.
    """
    order = frame.sort_values(["sigma", "idx"])[["idx", "label", "sigma"]]
    rows = [(int(idx), int(label), float(sigma)) for idx, label, sigma in order.itertuples(index=False)]
    count = min(SHOWN, max(1, len(rows) // 2))
    return {"smallest": rows[:count], "largest": rows[-count:]}


def _picture(test: Split, shown: tuple[int, int, float], seed: int) -> Picture:
    index, label, sigma = shown
    image = test.batch(test.positions(np.array([index])))[0].numpy().astype(np.float64)
    noise = np.random.default_rng([seed, index]).standard_normal(image.shape)
    return Picture(channels_last(image), channels_last(noise), label, index, sigma)


def channels_last(image: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, " *shape"]:
    """Return an image as it is drawn: [h, w] of one channel, [h, w, 3] of three."""
    return image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
