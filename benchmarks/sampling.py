"""Sampling throughput, in samples per second, on this machine in this run.

(a) the base classifier's bare forward pass at its best batch size; (b) our sampling with noise on the grid of the
pixels; (c) the plain loop of the field: one image at a time, batches of 1,000, randn, argmax, a count in Python;
(d) our sampling with float32 noise; (e) with noise on the grid, of an image whose pixels are not on it. Rounds of all
alternate and the best of each counts, so that a drift of the machine's speed hits all of them.

    python benchmarks/sampling.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from _rows import head, row
from certsmooth.science.models import BaseClassifier, ModelSpec, build
from certsmooth.science.sampling.sampler import BLOCK, GROUP, Sampler, SamplingPlan
from certsmooth.science.theory.pixel_grid import PixelGrid

SIGMA = 0.25


@dataclass(frozen=True)
class Case:
    """One base classifier to measure; ``samples`` per round, ``batches``: sizes tried for the bare forward pass."""

    name: str
    spec: ModelSpec
    samples: int
    batches: tuple[int, ...]
    levels: int = 255


def cases(device: torch.device) -> list[Case]:
    """Return what to measure on a kind of device."""
    cifar = (3, 32, 32)
    if device.type == "cuda":
        sizes = (500, 1000, 2000, 4000, 8000)
        return [
            Case(f"{label} {kind}", ModelSpec(name, cifar, 10, None, kind, last), samples, sizes)
            for label, name, samples in (("ResNet-18", "resnet18_cifar", 200_000), ("ResNet-110", "resnet110", 100_000))
            for kind, last in (("float32", False), ("tf32", True), ("bfloat16", True))
        ]
    digits = ModelSpec("small_cnn", (1, 8, 8), 10)
    small = (64, 100, 200, 400)
    return [
        Case("digits CNN float32", digits, 505_000, (1000, 2000, 4000, 8000, 16000), 16),
        Case("ResNet-20 float32", ModelSpec("resnet20", cifar, 10), 10_000, small),
        Case("ResNet-20 bfloat16", ModelSpec("resnet20", cifar, 10, None, "bfloat16", True), 20_000, small),
    ]


def bare(model: BaseClassifier, batch: torch.Tensor, samples: int) -> int:
    """Forward passes only."""
    with torch.inference_mode():
        for _ in range(samples // len(batch)):
            scores = model(batch)
    scores[0, 0].item()  # waits for the device
    return samples // len(batch) * len(batch)


def ours(model: BaseClassifier, image: torch.Tensor, samples: int, grid: PixelGrid | None) -> int:
    """Our sampling of one group of images."""
    n, images = max(1, samples // GROUP - BLOCK), image.expand(GROUP, *image.shape[1:])
    sampler = Sampler(model, num_classes=10, plan=SamplingPlan(n0=BLOCK, n=n, seed=0, dataset="bench", grid=grid))
    for _ in sampler.count(images, torch.full((GROUP,), SIGMA), list(range(GROUP))):
        pass
    return GROUP * (n + BLOCK)


def plain(model: BaseClassifier, image: torch.Tensor, samples: int) -> int:
    """The loop of the field."""
    counts = np.zeros(10, dtype=int)
    with torch.no_grad():
        for _ in range(samples // 1000):
            batch = image.repeat(1000, 1, 1, 1)
            noise = torch.randn_like(batch, device=batch.device) * SIGMA
            for predicted in model(batch + noise).argmax(1).cpu().numpy():
                counts[predicted] += 1
    return samples // 1000 * 1000


def rate(function: Callable[[], int]) -> float:
    """Samples per second of one call."""
    start = time.perf_counter()
    return function() / (time.perf_counter() - start)


def measure(case: Case, device: torch.device, rounds: int) -> tuple[dict[str, float], int]:
    """Return the best rate of (a) to (e), and the batch size of (a).

    The plain loop runs the same network in float32, contiguous: what the field runs.
    """
    model = build(case.spec, seed=0).freeze().to(device)
    spec = case.spec
    plain_model = build(ModelSpec(spec.architecture, spec.image_shape, 10), seed=0).freeze().to(device)
    levels = torch.tensor(float(case.levels), device=device)
    off = torch.rand(1, *spec.image_shape, device=device)
    image, grid = (off * levels).round() / levels, PixelGrid(case.levels)
    a: dict[int, float] = dict.fromkeys(case.batches, 0.0)
    runs = {
        "b": lambda: ours(model, image, case.samples, grid),
        "c": lambda: plain(plain_model, image, max(case.samples // 8, 2000)),
        "d": lambda: ours(model, image, case.samples, None),
        "e": lambda: ours(model, off, case.samples, grid),
    }
    best = dict.fromkeys(runs, 0.0)
    for _ in range(rounds + 1):  # the first round only warms up, but a slower round never wins
        for size in case.batches:
            batch = torch.rand(size, *spec.image_shape, device=device)
            a[size] = max(a[size], rate(partial(bare, model, batch, max(case.samples // 4, size))))
        for name, run in runs.items():
            best[name] = max(best[name], rate(run))
    size = max(a, key=lambda size: a[size])
    return {"a": a[size], **best}, size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {name}")
    print("d/b: time of noise on the grid over that of float32 noise; d/e: off the grid.")
    rates = ("(a)/s", "(b)/s", "(c)/s", "(d)/s", "(e)/s", "b/a", "b/c", "d/b", "d/e")
    head("base classifier", "batch of (a)", *rates)
    for case in (case for case in cases(device) if options.only in case.name):
        best, size = measure(case, device, options.rounds)
        ratios = (f"{best[x] / best[y]:.2f}" for x, y in ("ba", "bc", "db", "de"))
        row(case.name, size, *(f"{value:,.0f}" for value in best.values()), *ratios)


if __name__ == "__main__":
    main()
