"""Samples per second where a rule stops them, against a fixed number of samples, on this machine in this run.

Images stop after as many samples as the 10,000 CIFAR-10 test images do under the rule `radii` (quantiles of a
simulation at sigma 0.5, docs/sequential.md): most after a few hundred, some at n_max. Looks are the real ones; that
only their answer is replaced makes the network's weights irrelevant. Rounds of both alternate, and the best counts.

    python benchmarks/stopping.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from _rows import head, row
from certsmooth.science.certificates import Smoothing
from certsmooth.science.certificates.cohen import CohenCertificate
from certsmooth.science.models import ModelSpec, build
from certsmooth.science.sampling.sampler import GROUP, Sampler, SamplingPlan
from certsmooth.science.stopping import Looks
from certsmooth.science.stopping.radii import StopAtRadii
from certsmooth.science.theory.pixel_grid import PixelGrid

SIGMA, N0 = 0.5, 100
QUANTILES = (100, 200, 300, 400, 600, 1000, 2000, 5000, 15000, 55000, 100_000)
"""Of the samples of an image, at 0 %, 10 %, ..., 100 %."""


@dataclass(frozen=True)
class Case:
    """A base classifier to measure; ``most``: n_max, which the quantiles are scaled to."""

    name: str
    spec: ModelSpec
    most: int
    levels: int


CASES = (
    Case("digits CNN", ModelSpec("small_cnn", (1, 8, 8), 10), 100_000, 16),
    Case("ResNet-20", ModelSpec("resnet20", (3, 32, 32), 10), 2_000, 255),
)


@dataclass
class Preset:
    """Looks as a rule does, and stops each image at a number of samples that is given."""

    looks: Looks
    targets: npt.NDArray[np.int64]

    def __call__(
        self, at: npt.NDArray[np.int64], selection: npt.NDArray[np.int64], estimation: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return how many samples each is to have at the next look."""
        self.looks(at, selection, estimation)
        n = estimation.sum(axis=1)
        until = np.array([self.looks.rule.next_look(int(each), self.looks.most) for each in n])
        return np.where(n >= self.targets[at], n, until)


def measure(case: Case, rounds: int) -> tuple[float, float]:
    """Return the best rates, in samples per second: of a fixed n, and where images stop."""
    model = build(case.spec, seed=0).freeze()
    share = (np.arange(GROUP) + 0.5) / GROUP
    targets = np.interp(share, np.linspace(0, 1, len(QUANTILES)), QUANTILES) * case.most / QUANTILES[-1]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, case.levels + 1, (GROUP, *case.spec.image_shape), generator=generator) / case.levels
    sigma, names = torch.full((GROUP,), SIGMA), list(range(GROUP))
    smoothing = Smoothing(np.full(GROUP, SIGMA), images[0].numel(), 0.0, np.full(GROUP, np.inf))
    looks = Looks(StopAtRadii((0.0, 0.25, 0.5, 0.75, 1.0)), CohenCertificate(), 0.001, case.most, smoothing)
    preset = Preset(looks, np.random.default_rng(0).permutation(np.maximum(targets, 100)).astype(np.int64))
    best = [0.0, 0.0]
    for _ in range(rounds + 1):
        drawn, start = 0, time.perf_counter()
        plan = SamplingPlan(N0, case.most, 0, "bench", grid=PixelGrid(case.levels))
        for looked in Sampler(model, num_classes=10, plan=plan).count_until(images, sigma, names, preset):
            drawn += int(looked.drawn.sum())
        best[1] = max(best[1], drawn / (time.perf_counter() - start))
        plan, start = (
            SamplingPlan(N0, drawn // GROUP - N0, 0, "bench", grid=PixelGrid(case.levels)),
            time.perf_counter(),
        )
        for _ in Sampler(model, num_classes=10, plan=plan).count(images, sigma, names):
            pass
        best[0] = max(best[0], GROUP * (plan.n + N0) / (time.perf_counter() - start))
    return best[0], best[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    head("base classifier", "fixed n, samples/s", "stopped, samples/s", "ratio")
    for case in CASES:
        fixed, stopped = measure(case, options.rounds)
        row(case.name, f"{fixed:,.0f}", f"{stopped:,.0f}", f"{stopped / fixed:.2f}")


if __name__ == "__main__":
    main()
