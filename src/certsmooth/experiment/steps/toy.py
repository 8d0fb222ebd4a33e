"""The figures of the toy experiment in the plane (IDRS, Figures 1 and 5 to 9)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.records import read_record
from certsmooth.errors import ConfigError
from certsmooth.experiment.config import Params
from certsmooth.experiment.members import check_toy, policy_of
from certsmooth.experiment.runs import data_slice, model_run, toy_runs
from certsmooth.experiment.steps.data import DataChoice, load_part
from certsmooth.experiment.steps.read_run import read_run
from certsmooth.report.figures.curves import write_figure
from certsmooth.report.figures.toy import Plane, Smoothed, figure_1, figure_5, figure_6, figure_7, figure_8, figure_9
from certsmooth.science.models import BaseClassifier
from certsmooth.science.sigma import SigmaPolicy

_SHOWN = 0.95
"""Share of the test points that the figures show."""


def make_toy_figures(params: Params, *, results: Path) -> None:
    """Write ``idrs/figureN.svg`` and ``.png`` to the figures of ``results``, for N = 1 and 5 to 9.

    Args:
        params: the configuration; ``toy`` says what is shown.
        results: folder that holds data records, checkpoints and certificates.

    Raises:
        ConfigError: there is no ``toy``, its data are not points in the plane, or its methods cannot be shown.
        CountsError: certificates are missing or damaged.
    """
    toy = params.toy
    if toy is None:
        raise ConfigError("toy: missing; must say which data set and methods the figures show")
    check_toy(params)
    choice = DataChoice(**data_slice(params, toy.dataset))
    content = read_record(results / "data" / f"{toy.dataset}.json")
    if content["image_shape"] != [2]:
        raise ConfigError(
            f"toy.dataset: {toy.dataset!r} has the shape {content['image_shape']}; must be points in the plane"
        )
    constant, (dependent,) = toy_runs(params)
    test = load_part(choice, "test", content)
    points = test.batch(np.arange(len(test))).numpy().astype(np.float64)
    model, _ = checkpoint.load(
        results / "checkpoints" / model_run(params, dependent).folder / "model.safetensors",
        expect={"dataset": toy.dataset},
        device=torch.device("cpu"),
    )
    training = load_part(choice, "training", content)
    policy = policy_of(params, dependent).fit(training.images, training.labels)
    half_width = float(np.quantile(np.abs(points).max(axis=1), _SHOWN))
    plane = Plane(points, test.labels, lambda x: _classify(model, x), half_width)
    frames = {
        run: read_run(params, run, "test", results=results).frame.set_index("idx").loc[test.index].reset_index()
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
    folder = results / "figures" / "idrs"
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
