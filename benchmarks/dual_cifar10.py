"""What a router could gain, and what it does gain, on CIFAR-10: experts and certificates of ``make cifar10-small``.

The rows: each constant sigma; the best of each image, by the right class and by the largest radius of any class, which
are no classifiers; then routers, smoothed with the larger sigma, that learn which expert has the larger radius on
training images that the experts know as well, weighted by what a wrong choice costs: from nothing, or from the weights
of the expert of the larger sigma. A router stands twice: with its own certified radii, and as if it were sure of its
choice at every distance, which no certificate says.

Experts are certified at alpha as they are in the run, routers at a tenth of it: a row's certificates are wrong with at
most 3.1 alpha. That favours routers a little.

    python benchmarks/dual_cifar10.py [RUN]    # by default runs/cifar10-small
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from _rows import accuracy, head, row, texts
from certsmooth import Recipe, SmoothedClassifier, dual_certificates, load_classifier, train
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.artefacts.checkpoint import start_from
from certsmooth.experiment.config import read_params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.steps.loaded import Loaded
from certsmooth.science.datasets import Split
from certsmooth.science.models import BaseClassifier, build
from certsmooth.science.theory.worst_case import constant_radius

DATA, SIGMAS, RADII = "cifar10-small", (0.25, 0.5), (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
ALPHA, LABELLED, SCORED, N = 0.001, 9000, 100, 2000
RECIPE = Recipe(
    epochs=12,
    batch_size=128,
    optimizer="adamw",
    learning_rate=0.001,
    weight_decay=0.01,
    schedule="cosine",
    augmentation=("crop", "flip"),
    padding=4,
)


def checkpoint(sigma: float) -> Path:
    """Return where the expert of a sigma is, in the folder of the run."""
    return Path("results/checkpoints", DATA, "gaussian", f"sigma={sigma}", "seed=0/default/model.safetensors")


def expert(sigma: float) -> BaseClassifier:
    """Return the base classifier that was trained with noise of a sigma."""
    return load_classifier(checkpoint(sigma)).model


def pixels(split: Split, positions: np.ndarray) -> np.ndarray:
    """Return images in [0, 1]."""
    return split.batch(positions).numpy()


def learned(training: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions of training images, which expert has the larger radius there, and by how much."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(training))[:LABELLED])
    radii = []
    for sigma in SIGMAS:
        smoothed = SmoothedClassifier(expert(sigma), 10, sigma, step=1 / 255)
        most = smoothed.sample(pixels(training, chosen), n0=1, n=SCORED, seed=2).estimation.max(axis=1)
        radii.append(constant_radius((most + 0.5) / (SCORED + 1), np.full(LABELLED, sigma)))
    stakes = np.abs(radii[1] - radii[0])
    return chosen, np.argmax(radii, axis=0), stakes / stakes.mean()


def trained(training: Split, labels: tuple[np.ndarray, np.ndarray, np.ndarray], *, start: bool) -> BaseClassifier:
    """Return the base classifier of a router."""
    positions, best, stakes = labels
    router = build(replace(expert(SIGMAS[1]).spec, num_classes=len(SIGMAS)), seed=0)
    if start:
        start_from(checkpoint(SIGMAS[1]), router)
    data = pixels(training, positions), best
    train(router, data, weights=stakes, sigma=SIGMAS[1], recipe=RECIPE, seed=0, progress=True)
    return router


def rows(experiment: Experiment) -> Iterator[Sequence[object]]:
    """Yield the rows, about the test images of the run."""
    loaded = Loaded(Path("results"), torch.device("cpu"))
    training, test = (loaded.split(experiment.data(DATA), part) for part in ("training", "test"))
    parts = read_certificates(Path("results/certificates", DATA, "cohen/seed=0.parquet"))
    frames = {p.spec["sampled"]["base"]["sigma"]: p.frame for p in parts if p.spec["sampled"]["split"] == "test"}
    labels, index = (frames[SIGMAS[0]][key].to_numpy() for key in ("label", "idx"))
    predict, radius = (np.stack([frames[s][key].to_numpy() for s in SIGMAS], 1) for key in ("predict", "radius"))
    for k, sigma in enumerate(SIGMAS):
        yield f"constant {sigma}", "", *texts(accuracy(predict[:, k], radius[:, k], labels, RADII))
    at = np.arange(len(labels))
    for name, score in (("right class", np.where(predict == labels[:, None], radius, -1.0)), ("any class", radius)):
        best = score.argmax(axis=1)
        found = accuracy(predict[at, best], radius[at, best], labels, RADII)
        yield f"largest radius of {name} (no classifier)", " ".join(map(str, np.bincount(best))), *texts(found)
    images, learnt = pixels(test, test.positions(index)), learned(training)
    for name, start in (("from nothing", False), ("from the expert", True)):
        router = trained(training, learnt, start=start)
        smoothed = SmoothedClassifier(router, len(SIGMAS), SIGMAS[1], step=1 / 255)
        routed = smoothed.certify(images, n0=100, n=N, alpha=ALPHA / 10, seed=1)
        route, edge = routed["predict"].to_numpy(), routed["radius"].to_numpy()
        used = " ".join(map(str, np.bincount(route + 1, minlength=len(SIGMAS) + 1)))
        for how, reach in (("certified", edge), ("as if sure", np.where(route < 0, 0.0, np.inf))):
            found = dual_certificates(route, reach, predict, radius)
            yield f"router, {name}, {how}", used, *texts(accuracy(*found, labels, RADII))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/cifar10-small"), metavar="RUN")
    os.chdir(parser.parse_args().run)
    head("", "abstains, routes", *(f"r={r}" for r in RADII), "ACR")
    for cells in rows(Experiment(read_params(Path("params.yaml")))):
        row(*cells)


if __name__ == "__main__":
    main()
