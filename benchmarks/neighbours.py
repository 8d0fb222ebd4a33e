"""Seconds for the nearest_neighbour sigma policy of 50,000 images of CIFAR-10's size, on this machine in this run.

(a) ours, all queries in one batch, as training asks; (b) ours, in the groups that sampling asks for; (c) scikit-learn's
exhaustive search, which rounds products of float32 without a bound; (d) the plain loop: one image at a time, its
distances to all others by float64 differences. Rounds alternate and the best of each counts. A part of the queries is
timed, and extrapolated to all of them.

    python benchmarks/neighbours.py [--queries 1365] [--rounds 3] [--source ../shared/data/cifar10-jpeg.tar.xz]
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from _rows import head, row
from certsmooth import NearestNeighbourSigma
from certsmooth.science import datasets
from certsmooth.science.sampling.sampler import GROUP

IMAGES, SHAPE, K = 50_000, (3, 32, 32), 20
PLAIN_QUERIES = 4


def training_images(source: Path | None) -> np.ndarray:
    """Return CIFAR-10's training images, or random bytes, whose distances are harder to tell apart."""
    if source is not None:
        return np.asarray(datasets.load("cifar10", source=source).train().images)
    return np.random.default_rng(0).integers(0, 256, (IMAGES, *SHAPE), dtype=np.uint8)


def plain(x: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The loop of the field."""
    means = []
    for image in x:
        distances = torch.cat([(part.double() / 255 - image).square().sum(1) for part in points.split(1000)]).sqrt()
        means.append(distances.topk(K, largest=False).values.mean())
    return torch.stack(means)


def measure(images: np.ndarray, queries: int, rounds: int, device: torch.device) -> list[tuple[str, int, float, float]]:
    """Return (name, queries timed, best seconds, processor seconds of that round) of each way."""
    policy = NearestNeighbourSigma(sigma=0.25, rate=0.01, neighbours=K, offset=5.0).fit(images)
    x = torch.from_numpy(images[:queries]).to(device, torch.float32) / 255
    flat = torch.from_numpy(images).flatten(1)
    search = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(flat.numpy().astype(np.float32) / 255)

    def ours(size: int, count: int) -> object:
        return [policy(torch.nn.Identity(), part, part, None)[0].item() for part in x[:count].split(size)]

    ways: list[tuple[str, int, Callable[[], object]]] = [
        ("(a) ours, one batch", queries, lambda: ours(queries, queries)),
        (f"(b) ours, groups of {GROUP}", min(queries, 4 * GROUP), lambda: ours(GROUP, 4 * GROUP)),
        ("(c) scikit-learn, float32", queries, lambda: search.kneighbors(x.flatten(1).cpu().numpy())),
        ("(d) plain loop, float64", PLAIN_QUERIES, lambda: plain(x[:PLAIN_QUERIES].flatten(1).cpu(), flat)),
    ]
    best = [(float("inf"), float("inf"))] * len(ways)
    for _ in range(rounds):
        for i, (_, _, way) in enumerate(ways):
            start, processor = time.perf_counter(), time.process_time()
            way()
            best[i] = min(best[i], (time.perf_counter() - start, time.process_time() - processor))
    return [(name, count, *seconds) for (name, count, _), seconds in zip(ways, best, strict=True)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=1365)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", type=Path, help="a copy of CIFAR-10; without it, random bytes")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {name}")
    images = training_images(options.source)
    head("way", "queries", "s", "processor s", f"s for {len(images):,}")
    for way, count, seconds, processor in measure(images, options.queries, options.rounds, device):
        row(way, count, f"{seconds:.2f}", f"{processor:.2f}", f"{seconds / count * len(images):,.0f}")


if __name__ == "__main__":
    main()
