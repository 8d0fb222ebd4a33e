"""The figures of the toy experiment in the plane (IDRS, Figures 1 and 5 to 9)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from certsmooth.errors import ConfigError
from certsmooth.experiment.members import check_toy
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import toy_runs
from certsmooth.experiment.steps.certified import Certified
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.report.figures.panels import write_figure
from certsmooth.report.figures.toy import Plane, Smoothed, figure_1, figure_5, figure_6, figure_7, figure_8, figure_9
from certsmooth.science.models import BaseClassifier
from certsmooth.science.sigma import SigmaPolicy

_SHOWN = 0.95
"""Share of the test points that the figures show."""


def make_toy_figures(experiment: Experiment, *, results: Path) -> None:
    """Write ``idrs/figureN.svg`` and ``.png`` to the figures of ``results``, for N = 1 and 5 to 9.

    Args:
        experiment: all that is asked for; ``toy`` says what is shown.
        results: folder that holds data records, checkpoints and certificates.

    Raises:
        ConfigError: there is no ``toy``, its data are not points in the plane, or its methods cannot be shown.
        CountsError: certificates are missing or damaged.
    """
    params, certified = experiment.params, Certified(experiment, results)
    toy, loaded = params.toy, Loaded(results, torch.device("cpu"))
    if toy is None:
        raise ConfigError("toy: missing; must say which data set and methods the figures show")
    check_toy(params)
    if (shape := loaded.record(data := experiment.data(toy.dataset))["image_shape"]) != [2]:
        raise ConfigError(f"toy.dataset: {toy.dataset!r} has the shape {shape}; must be points in the plane")
    constant, (dependent,) = toy_runs(params)
    test = loaded.split(data, "test")
    points = test.batch(np.arange(len(test))).numpy().astype(np.float64)
    sampled = experiment.sample(dependent, "test")
    model, policy = loaded.classifier(sampled.base), loaded.policy(sampled)
    half_width = float(np.quantile(np.abs(points).max(axis=1), _SHOWN))
    plane = Plane(points, test.labels, lambda x: _classify(model, x), half_width)
    frames = {
        run: certified.run(run, "test").frame.set_index("idx").loc[test.index].reset_index()
        for run in (*constant, dependent)
    }
    one = next(run for run in constant if run.sigma == toy.sigma)
    first = Smoothed(f"constant σ = {toy.sigma:g}", lambda x: np.full(len(x), toy.sigma), frames[one])
    second = Smoothed("input-dependent σ(x)", lambda x: _sigma(policy, model, x), frames[dependent])
    figures = {
        1: lambda: figure_1(plane, first, second),
        5: lambda: figure_5(plane),
        6: figure_6,
        7: figure_7,
        8: lambda: figure_8(plane, {run.sigma: frames[run] for run in constant}),
        9: lambda: figure_9(plane),
    }
    folder = results / "tables" / "figures" / "idrs"
    folder.mkdir(parents=True, exist_ok=True)
    for number, draw in figures.items():
        write_figure(draw, folder, name=f"figure{number}")


def _classify(model: BaseClassifier, points: Float[np.ndarray, "m 2"]) -> Int[np.ndarray, " m"]:
    with torch.inference_mode():
        classes: Int[np.ndarray, " m"] = model(torch.from_numpy(points.astype(np.float32))).argmax(1).numpy()
    return classes


def _sigma(policy: SigmaPolicy, model: BaseClassifier, points: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, " m"]:
    x = torch.from_numpy(points.astype(np.float32))

    def draw(step: int) -> torch.Tensor:
        raise ConfigError("toy.input_dependent: its policy draws noise; must be a function of the point alone")

    start = torch.full((len(x),), policy.sigma0, dtype=torch.float64)
    found: Float[np.ndarray, " m"] = policy(model, x, start, draw).numpy()
    return found
