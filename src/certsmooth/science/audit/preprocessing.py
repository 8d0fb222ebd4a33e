"""Whether a classifier of others is fed as it was trained: normalisation, order of channels, order of classes.

A wrong one of these raises no error: the classifier is only less accurate, and its certificates are valid and small. So
each is compared, on labelled images, with what programs of the field do instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from torch import Tensor, nn

from certsmooth._internal.checks import check_number
from certsmooth.science.models import BaseClassifier, ModelSpec, Normalisation, numerics

KNOWN: dict[str, Normalisation | None] = {
    "none": None,
    "cifar10": Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""What programs of the field normalise by."""

_LEVEL = 1e-3  # a difference is one if this is the most probable that it is chance
_LEAST = 0.1  # of what is to be had above chance
_BATCH = 100


@dataclass(frozen=True)
class Tried:
    """One way to feed a classifier, and what comes of it.

    Attributes:
        name: of the way.
        correct: [n], whether each image with noise is classified correctly.
        permuted: [n], likewise after the best permutation of the classes, each half's found on the other half.
        clean: accuracy without noise; None where it was not measured.
    """

    name: str
    correct: Bool[np.ndarray, " n"]
    permuted: Bool[np.ndarray, " n"]
    clean: float | None = None

    @property
    def accuracy(self) -> float:
        """With noise."""
        return float(self.correct.mean())

    @property
    def reordered(self) -> float:
        """Likewise, after the best permutation of the classes."""
        return float(self.permuted.mean())


def alternatives(chosen: Normalisation | None, channels: int) -> dict[str, tuple[Normalisation | None, bool]]:
    """Return the ways that are tried beside the chosen one: normalisation, and whether channels are reversed first."""
    mean, std = (0.5,) * channels, (0.5,) * channels
    zero, byte = (0.0,) * channels, (1 / 255,) * channels
    ways = {name: way for name, way in KNOWN.items() if way is None or len(way.mean) == channels}
    ways |= {"pixels from -1 to 1": Normalisation(mean, std), "pixels from 0 to 255": Normalisation(zero, byte)}
    found = {name: (way, False) for name, way in ways.items() if way != chosen}
    if channels == 3:
        found |= {f"BGR, {name}": (way, True) for name, way in ways.items() if way != chosen}
        found["BGR, as chosen"] = chosen, True
        found["BGR, 0 to 255 without ImageNet's mean"] = Normalisation((0.406, 0.456, 0.485), byte), True
    return found


def try_ways(
    network: nn.Module,
    spec: ModelSpec,
    images: Float[Tensor, "n ..."],
    labels: Int[np.ndarray, " n"],
    *,
    sigma: float,
    device: torch.device,
) -> list[Tried]:
    """Classify images with noise in the way of the spec, and in every other; the first is that of the spec.

    Args:
        network: of the classifier, without its normalisation.
        spec: of the classifier; its normalisation is the chosen one.
        images: pixels in [0, 1].
        labels: of the images.
        sigma: of the noise, which is the same in each way.
        device: where to compute.
    """
    sigma = check_number("sigma", sigma, minimum=0)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noisy = images + sigma * noise
    chosen = predictions(network, spec, noisy, device)
    clean = predictions(network, spec, images, device) == labels
    found = [Tried("as chosen", chosen == labels, _permuted(chosen, labels, spec.num_classes), float(clean.mean()))]
    for name, (way, is_reversed) in alternatives(spec.normalisation, spec.image_shape[0]).items():
        fed = noisy.flip(1) if is_reversed else noisy
        predict = predictions(network, replace(spec, normalisation=way), fed, device)
        found.append(Tried(name, predict == labels, _permuted(predict, labels, spec.num_classes)))
    return found


def predictions(
    network: nn.Module, spec: ModelSpec, images: Float[Tensor, "n ..."], device: torch.device
) -> Int[np.ndarray, " n"]:
    """Return the class of each image."""
    classifier = BaseClassifier(spec, network).freeze().to(device)
    with torch.inference_mode(), numerics(spec.numeric_type):
        found = [classifier(batch.to(device)).argmax(1).cpu() for batch in torch.split(images, _BATCH)]
    return torch.cat(found).numpy()


def _permuted(predict: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: int) -> Bool[np.ndarray, " n"]:
    """Return whether predictions are correct after the best permutation of the classes, found on other images."""
    correct = np.zeros(len(labels), bool)
    half = np.arange(len(labels)) % 2 == 0
    for here in (half, ~half):
        together = np.zeros((classes, classes))
        np.add.at(together, (predict[~here], labels[~here]), 1)
        together += 0.5 * np.eye(classes)  # a class that was not seen stays where it is
        permutation = linear_sum_assignment(together, maximize=True)[1]
        correct[here] = permutation[predict[here]] == labels[here]
    return correct


def problem(found: Sequence[Tried], labels: Int[np.ndarray, " n"]) -> str | None:
    """Return what is probably wrong with the chosen way, the first; None if nothing is.

    Another way, or another order of the classes, is better if it is right on more of the images on which the two
    differ than chance would make it (sign test, 0.001 over all ways).
    """
    chosen, others = found[0], found[1:]
    chance = float(np.bincount(labels).max() / len(labels))
    least = chance + _LEAST * (1 - chance)
    best, reordered = (max(found, key=score) for score in (lambda each: each.accuracy, lambda each: each.reordered))
    if reordered.reordered > best.accuracy + _LEAST and _is_better(reordered.permuted, chosen.correct, len(found)):
        way = "" if reordered is chosen else f", with {reordered.name!r}"
        return (
            f"the order of the classes: another one is right on {reordered.reordered:.1%}{way}, "
            f"the chosen one on {chosen.accuracy:.1%}"
        )
    better = [
        each for each in others if each.accuracy >= least and _is_better(each.correct, chosen.correct, len(others))
    ]
    if better:
        best = max(better, key=lambda each: each.accuracy)
        return (
            f"the preprocessing: {best.name!r} is right on {best.accuracy:.1%}, the chosen one on {chosen.accuracy:.1%}"
        )
    accuracy = max(chosen.accuracy, chosen.clean or 0.0)
    if accuracy < least:
        return (
            f"the architecture, the weights or the data: {accuracy:.1%} is right, {chance:.1%} by chance, and no "
            "way that was tried is better"
        )
    return None


def _is_better(one: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"], ways: int) -> bool:
    wins, losses = int((one & ~other).sum()), int((other & ~one).sum())
    return wins > losses and bool(binomtest(wins, wins + losses, alternative="greater").pvalue < _LEVEL / max(ways, 1))


def agrees(found: Tried, known: float) -> bool:
    """Return whether an accuracy that others report is one that the images could have shown, with noise or without."""
    n = len(found.correct)
    for share in (found.accuracy, found.clean or 0.0):
        low, high = binomtest(round(share * n), n).proportion_ci(1 - _LEVEL)
        if low <= known <= high:
            return True
    return False
