"""Training throughput, in images per second, on this machine in this run.

(a) our training: data and augmentation on the device, all noise samples of a batch in one pass; (b) the plain loop of
the field: augmentation image by image on the CPU, each of an image's noise samples a pass of its own. Both do the same
objective with the same optimiser. Rounds alternate and the best of each counts, so that a drift of the machine's speed
hits both.

    python benchmarks/training.py [--rounds 3] [--only MACER]
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from _rows import head, row
from certsmooth.artefacts.training_state import StateFile
from certsmooth.science.datasets import Split, array_split
from certsmooth.science.models import BaseClassifier, ModelSpec, build, numerics
from certsmooth.science.objectives import TrainingObjective, gaussian, macer
from certsmooth.science.training.loop import train
from certsmooth.science.training.recipe import Recipe

SIGMA = 0.25
PlainLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One base classifier and objective to measure on ``images`` images per round."""

    name: str
    spec: ModelSpec
    images: int
    objective: TrainingObjective
    plain: PlainLoss


def plain_gaussian(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy at one noisy copy."""
    return F.cross_entropy(model(images + SIGMA * torch.randn_like(images)), labels)


def plain_macer(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """MACER with 16 samples, one pass each, in single precision."""
    logits = torch.stack([model(images + SIGMA * torch.randn_like(images)) for _ in range(16)], dim=1)
    classification = -(logits.softmax(2).mean(1)[torch.arange(len(labels)), labels] + 1e-10).log().sum()
    top = (16 * logits).softmax(2).mean(1).topk(2)
    right = top.indices[:, 0] == labels
    gap = torch.special.ndtri(top.values[right, 0]) - torch.special.ndtri(top.values[right, 1])
    gap = gap[gap.isfinite() & (gap.abs() <= 8)]
    return (classification + 12 * SIGMA / 2 * (8 - gap).sum()) / len(labels)


def cases(device: torch.device) -> list[Case]:
    """Return what to measure on a kind of device."""
    cifar, digits = (3, 32, 32), ModelSpec("small_cnn", (1, 8, 8), 10)
    objectives = (("gaussian", gaussian.GaussianAugmentation(), plain_gaussian), ("MACER", macer.MACER(), plain_macer))
    if device.type == "cuda":
        kinds = (("float32", False), ("tf32", True), ("bfloat16", True))
        return [
            Case(f"ResNet-18 {kind} {name}", ModelSpec("resnet18_cifar", cifar, 10, None, kind, last), 20_000, *rest)
            for kind, last in kinds
            for name, *rest in objectives
        ]
    resnet = ModelSpec("resnet20", cifar, 10)
    sizes = {"gaussian": (4096, 1024), "MACER": (1024, 128)}
    return [
        Case(f"{label} {name}", spec, sizes[name][i], *rest)
        for i, (label, spec) in enumerate((("digits CNN", digits), ("ResNet-20", resnet)))
        for name, *rest in objectives
    ]


def ours(case: Case, split: Split, device: torch.device) -> None:
    """One epoch of our training."""
    model = build(case.spec, seed=0)
    recipe = Recipe(epochs=1, batch_size=64, learning_rate=0.01, augmentation=("crop", "flip"), padding=2)
    with tempfile.TemporaryDirectory() as folder, numerics(case.spec.numeric_type):
        train(
            model,
            split,
            objective=case.objective,
            sigma=SIGMA,
            recipe=recipe,
            seed=0,
            device=device,
            validation=split.subset(np.arange(10)),
            keeper=StateFile(Path(folder, "state"), Path(folder, "log.csv")),
        )


def plain(model: BaseClassifier, split: Split, loss: PlainLoss, device: torch.device) -> float:
    """One epoch of the plain loop; return the last loss, which waits for the device."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    height, width = split.images[np.zeros(1, int)].shape[2:]
    augment = v2.Compose(
        [v2.RandomCrop((height, width), padding=2), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    )
    model.train()
    for positions in np.array_split(np.random.default_rng(0).permutation(len(split)), len(split) // 64):
        images = torch.stack([augment(torch.from_numpy(split.images[i : i + 1][0])) for i in positions]).to(device)
        value = loss(model, images, torch.from_numpy(split.labels[positions]).to(device))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return value.item()


def measure(case: Case, device: torch.device, rounds: int) -> tuple[float, float]:
    """Return the best rates of (a) and (b); the plain loop's network is in float32, contiguous."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (case.images, *case.spec.image_shape), dtype=np.uint8)
    split = array_split(images, rng.integers(0, 10, case.images), name="random", num_classes=10)
    plain_spec = ModelSpec(case.spec.architecture, case.spec.image_shape, 10)
    best = [0.0, 0.0]
    for _ in range(rounds + 1):  # the first round only warms up, but a slower round never wins
        for i, run in enumerate(
            (
                lambda: ours(case, split, device),
                lambda: plain(build(plain_spec, seed=0).to(device), split, case.plain, device),
            )
        ):
            start = time.perf_counter()
            run()
            best[i] = max(best[i], case.images / (time.perf_counter() - start))
    return best[0], best[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {name}")
    head("training", "(a) ours/s", "(b) plain/s", "a/b")
    for case in (case for case in cases(device) if options.only in case.name):
        a, b = measure(case, device, options.rounds)
        row(case.name, f"{a:,.0f}", f"{b:,.0f}", f"{a / b:.2f}")


if __name__ == "__main__":
    main()
