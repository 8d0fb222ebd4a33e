"""What a router gains over the best constant sigma, on scikit-learn's digits: dual smoothing, and its ceiling.

Experts are trained with Gaussian noise of each sigma. A router learns which of them has the largest radius, from what
experts say of training images that they were not trained on (cross-fitting; ``--leaky``: from what those trained on all
say). Rows are about the test images, but for the two on mean radii of the training images; the last column is the ACR
on the validation images, by which one would choose.

    python benchmarks/dual.py [--n 5000] [--leaky]

``--results FOLDER`` instead prints what a table of the method `dual` does not say: the samples that an image takes, the
experts that images go to, and the labels that a router learns from.

    python benchmarks/dual.py --results results [--data digits]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from _rows import head, row
from certsmooth import DualSmoothedClassifier, Recipe, SmoothedClassifier, dual_certificates, train
from certsmooth.artefacts.certificates import read_certificates
from certsmooth.science.datasets.digits import Digits
from certsmooth.science.metrics import average_certified_radius, certified_accuracy
from certsmooth.science.models import ModelSpec, build
from certsmooth.science.theory.dual import shares
from certsmooth.science.theory.worst_case import constant_radius

SIGMAS = (0.12, 0.25, 0.5)
RADII = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
FOLDS, VALIDATION, ALPHA, SCORED = 4, 10, 0.001, 300
RECIPE = Recipe(
    epochs=40,
    batch_size=64,
    optimizer="adamw",
    learning_rate=0.003,
    weight_decay=0.01,
    schedule="cosine",
    augmentation=("crop",),
    padding=1,
)
Arrays = tuple[np.ndarray, np.ndarray]


def fitted(data: Arrays, sigma: float, classes: int = 10, weights: np.ndarray | None = None) -> SmoothedClassifier:
    """Train a base classifier with noise of that sigma, and smooth it."""
    model = build(ModelSpec("small_cnn", image_shape=(1, 8, 8), num_classes=classes), seed=0)
    train(model, data, weights=weights, sigma=sigma, recipe=RECIPE, seed=0)
    return SmoothedClassifier(model, classes, sigma, step=1 / 16)


def radii_of(expert: SmoothedClassifier, sigma: float, data: Arrays) -> np.ndarray:
    """Return about how large the radius of each image is, 0 for another class: no certificate."""
    counts = expert.sample(data[0], n0=1, n=SCORED, seed=2).estimation
    share = (counts[np.arange(len(counts)), data[1]] + 0.5) / (SCORED + 1)
    return constant_radius(share, np.full(len(share), sigma))


def crossed(data: Arrays) -> np.ndarray:
    """Return the radii [n, K] of experts that were trained without the image's fold."""
    found, fold = np.zeros((len(data[1]), len(SIGMAS))), np.arange(len(data[1])) % FOLDS
    for held in range(FOLDS):
        inside, outside = ((data[0][mask], data[1][mask]) for mask in (fold != held, fold == held))
        for k, sigma in enumerate(SIGMAS):
            found[fold == held, k] = radii_of(fitted(inside, sigma), sigma, outside)
    return found


def accuracy(predict: np.ndarray, radius: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return certified accuracy at each radius in percent, and the ACR."""
    right, radius = (predict == labels)[None], radius[None]
    return [*(100 * certified_accuracy(right, radius, r) for r in RADII), average_certified_radius(right, radius)]


def texts(values: Sequence[float]) -> list[str]:
    """Return what `accuracy` returns, as it is printed."""
    return [*(f"{value:.1f}" for value in values[:-1]), f"{values[-1]:.3f}"]


def routed(
    dual: DualSmoothedClassifier, data: Arrays, n: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield class and radius by the theorem, and by its first term alone; both are sampled once."""
    options = {"n0": 100, "n": n, "seed": 1}
    of_router, *of_expert = shares(ALPHA, 0.1, 0.1, len(dual.experts))
    route = dual.router.certify(data[0], alpha=of_router, **options)
    place, edge = route["predict"].to_numpy(), route["radius"].to_numpy()
    chosen = np.arange(len(dual.experts)) == place[:, None]
    each = [[expert.certify(data[0], alpha=alpha, **options) for expert in dual.experts] for alpha in of_expert]
    predict, radius = (
        np.where(chosen, *(np.stack([one[key] for one in found], axis=1) for found in each))
        for key in ("predict", "radius")
    )
    yield "dual", *dual_certificates(place, edge, predict, radius), place
    yield "dual, router alone", *dual_certificates(place, edge, np.where(chosen, predict, -1), radius), place


def split() -> tuple[Arrays, Arrays, Arrays]:
    """Return training, validation and test images with their labels."""
    digits = Digits().load(source=None, download=Path())
    train_part, test = ((np.asarray(s.images), np.asarray(s.labels)) for s in (digits.train(), digits.test()))
    held = np.random.default_rng(0).permutation(len(train_part[1])) < len(train_part[1]) // VALIDATION
    return *((train_part[0][mask], train_part[1][mask]) for mask in (~held, held)), test


def rows(n: int, *, leaky: bool) -> Iterator[Sequence[object]]:
    """Yield the rows: constant sigmas, the best sigma of each image, and routers."""
    training, validation, test = split()
    experts = [fitted(training, sigma) for sigma in SIGMAS]
    known = np.stack([radii_of(*each, training) for each in zip(experts, SIGMAS, strict=True)], 1)
    scores = known if leaky else crossed(training)
    for name, of in (("trained on them", known), ("as the router's labels", scores)):
        yield f"training images, {name}", "", "", *(f"{s}: {m:.3f}" for s, m in zip(SIGMAS, of.mean(0), strict=True))
    options = {"n0": 100, "n": n, "alpha": ALPHA, "seed": 1}
    best = np.zeros((2, max(len(validation[1]), len(test[1]))))
    for sigma, expert in zip(SIGMAS, experts, strict=True):
        shown = []
        for place, data in enumerate((validation, test)):
            found = expert.certify(data[0], **options)
            predict, radius = found["predict"].to_numpy(), found["radius"].to_numpy()
            shown.append(accuracy(predict, radius, data[1]))
            own = best[place, : len(data[1])]
            np.maximum(own, np.where(predict == data[1], radius, 0.0), out=own)
        yield f"constant {sigma}", "", "", *texts(shown[1]), f"{shown[0][-1]:.3f}"
    oracle = [
        accuracy(np.where(b[: len(y)] > 0, y, -1), b[: len(y)], y)
        for b, (_, y) in zip(best, (validation, test), strict=True)
    ]
    yield "best of each image (no classifier)", "", "", *texts(oracle[1]), f"{oracle[0][-1]:.3f}"
    for places in ((0, 1), (1, 2), (0, 1, 2)):
        value = scores[:, places]
        stake = value.max(1) - np.sort(value, axis=1)[:, -2]  # what the second best would cost
        for weighing, weights in (("by radius", stake / stake.mean()), ("alike", None)):
            for sigma in SIGMAS[1:]:
                router = fitted((training[0], value.argmax(1)), sigma, len(places), weights)
                dual = DualSmoothedClassifier(router, [experts[k] for k in places])
                shown = zip(routed(dual, test, n), routed(dual, validation, n), strict=True)
                for (name, *found, place), (_, *chosen, _) in shown:
                    used = np.bincount(place + 1, minlength=len(places) + 1)
                    label = f"{name}, {[SIGMAS[k] for k in places]}, sigma_h {sigma}"
                    acr = accuracy(*chosen, validation[1])[-1]
                    cells = texts(accuracy(*found, test[1]))
                    yield label, weighing, " ".join(map(str, used)), *cells, f"{acr:.3f}"


def of_results(results: Path, data: str) -> Iterator[Sequence[object]]:
    """Yield the rows of what a table of `dual` left: test images of some data, the first training seed."""
    for method in ("cohen", "dual"):
        for part in read_certificates(results / "certificates" / data / method / "seed=0.parquet"):
            sampled, frame = part.spec["sampled"], part.frame
            if sampled["split"] == "test":
                used = " ".join(f"{s:.2f}: {n}" for s, n in frame["sigma"].value_counts().items())
                yield f"{method}, sigma {sampled['base']['sigma']}", f"{frame['n'].mean():,.0f}", used
    routes = json.loads((results / "checkpoints" / data / "router" / "seed=0" / "routes.json").read_text())
    routed, stakes = np.asarray(routes["labels"]), np.asarray(routes["stakes"])
    for expert in range(routed.max() + 1):
        mine = routed == expert
        yield f"training images where expert {expert} is best", mine.sum(), f"by {stakes[mine].sum():.1f} in all"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--leaky", action="store_true")
    parser.add_argument("--results", type=Path, metavar="FOLDER")
    parser.add_argument("--data", default="digits", metavar="DATASET")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.results:
        found = of_results(options.results, options.data)
        head("", "samples", "sigma: images")
    else:
        found = rows(options.n, leaky=options.leaky)
        head("", "labels weigh", "abstains, routes", *(f"r={r}" for r in RADII), "ACR", "ACR (validation)")
    for cells in found:
        row(*cells)


if __name__ == "__main__":
    main()
