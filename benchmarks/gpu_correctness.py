"""Whether a device draws the noise and computes the program that certificates are about; a check a line.

- Noise on the grid: of the same random bits, the device and the CPU give the same integers, through the table and
  through the quantile (where the two may differ in one number in 2^40, what `theory.pixel_grid` allows for).
- The law: of noise that the device drew, against the exact one.
- Counts of a linear classifier, whose smoothed probability is known exactly.
- Counts do not depend on the batch size, and come out the same twice.
- What float32 and tf32 say of their arithmetic.

    python benchmarks/gpu_correctness.py [--numbers 20000000] [--device cuda]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import chi2, norm
from torch import Tensor, nn

from certsmooth.science.models import ModelSpec, NumericType, build
from certsmooth.science.noise._noisy import Law, standard, words_of
from certsmooth.science.noise.gaussian import Gaussian
from certsmooth.science.sampling.sampler import Sampler, SamplingPlan
from certsmooth.science.theory.pixel_grid import PixelGrid

LEVELS = 255
SIGMAS = (0.12, 0.25, 0.5, 1.0)
PART = 2_000_000
"""Numbers at a time."""

Check = tuple[str, bool, str]
"""What was checked, whether it holds, and what was found."""


def words(numbers: int, device: torch.device) -> Iterator[Tensor]:
    """Yield random 64-bit words, the ends of their range among them."""
    generator = torch.Generator(device).manual_seed(0)
    for first in range(0, numbers, PART):
        drawn = words_of(generator, min(PART, numbers - first))
        drawn[:4] = torch.tensor([-(2**63), -1, 0, 2**63 - 1])
        yield drawn


def grid_noise(numbers: int, device: torch.device) -> Iterator[Check]:
    """Compare what the device and the CPU make of the same bits."""
    noise = Gaussian()
    for sigma in SIGMAS:
        law, differ, rounded, worst = Law(noise, sigma * LEVELS), 0, 0, 0.0
        for drawn in words(numbers, device):
            differ += int((law.at(drawn).cpu() != law.at(drawn.cpu())).sum())
            here, there = standard(noise, drawn).cpu(), standard(noise, drawn.cpu())
            worst = max(worst, float(((here - there).abs() / (1 + there.abs())).max()))
            rounded += int(((here * sigma * LEVELS + 0.3).round() != (there * sigma * LEVELS + 0.3).round()).sum())
        yield f"table at sigma {sigma}, the CPU's integers", differ == 0, f"{differ} of {numbers:,} differ"
        right = worst <= 2.0**-50 and rounded <= max(1, numbers * 2.0**-30)
        found = f"{rounded} differ; values by at most 2^{np.log2(worst or 2**-60):.1f}"
        yield f"quantile at sigma {sigma}", right, found


def law_of_noise(numbers: int, device: torch.device) -> Iterator[Check]:
    """Compare noise that the device drew with its law."""
    generator, moments, total = torch.Generator(device).manual_seed(1), torch.zeros(4, dtype=torch.float64), 0
    drawn = torch.empty(min(PART, numbers), device=device)
    for _ in range(max(1, numbers // PART)):
        Gaussian().from_generator(generator, drawn)
        moments += torch.stack([(drawn.double() ** k).mean().cpu() for k in (1, 2, 3, 4)])
        total += 1
    n = total * len(drawn)
    found = (moments / total - torch.tensor([0.0, 1, 0, 3])) / (torch.tensor([1.0, 2, 15, 96]) / n).sqrt()
    yield "moments of float32 noise", bool((found.abs() < 5).all()), "z = " + ", ".join(f"{z:.2f}" for z in found)
    for sigma in SIGMAS:
        law, scale = Law(Gaussian(), sigma * LEVELS), sigma * LEVELS
        counts = np.zeros(2 * law.reach + 1)
        for part in words(numbers, device):
            counts += torch.bincount(law.at(part) + law.reach, minlength=len(counts)).cpu().numpy()
        expected = np.diff(norm.cdf((np.arange(-law.reach, law.reach + 2) - 0.5) / scale)) * counts.sum()
        often = expected > 20
        statistic = ((counts - expected)[often] ** 2 / expected[often]).sum()
        p = chi2.sf(statistic, often.sum() - 1)
        yield f"law of grid noise at sigma {sigma}", p > 1e-6, f"chi-squared, {often.sum()} integers: p = {p:.3f}"


class HalfSpace(nn.Module):
    """Class 1 where the sum of the pixels exceeds a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, images: Tensor) -> Tensor:
        """Return two scores."""
        excess = images.flatten(1).sum(1) - self.threshold
        return torch.stack([-excess, excess], 1)


def exact_counts(samples: int, device: torch.device) -> Iterator[Check]:
    """Compare counts with the probability of a half space, through the sampler."""
    shape, sigma = (3, 32, 32), 0.5
    images = torch.full((4, *shape), 100 / 255, device=device)
    spread = sigma * np.sqrt(np.prod(shape) + np.prod(shape) / (12 * (sigma * LEVELS) ** 2))  # rounding adds 1/12
    for target in (0.5, 0.9, 0.99):
        threshold = float(images[0].double().sum()) - spread * norm.ppf(target)
        model = HalfSpace(threshold).to(device)
        plan = SamplingPlan(100, samples, 0, "gpu check", grid=PixelGrid(LEVELS))
        rows = list(Sampler(model, num_classes=2, plan=plan).count(images, torch.full((4,), sigma), list(range(4))))
        ones = sum(int(row.estimation[1]) for row in rows)
        n = 4 * samples
        z = (ones - n * target) / np.sqrt(n * target * (1 - target))
        yield f"half space, p = {target}", abs(z) < 5, f"{ones:,} of {n:,}: z = {z:.2f}"


def same_counts(samples: int, device: torch.device) -> Iterator[Check]:
    """Compare counts of a network for different batch sizes, and twice."""
    generator = torch.Generator().manual_seed(0)
    images = (torch.randint(0, 256, (4, 3, 32, 32), generator=generator) / 255).to(device)
    kinds: tuple[NumericType, ...] = ("float32", "tf32", "bfloat16")
    for kind in kinds if device.type == "cuda" else ("float32", "bfloat16"):
        spec = ModelSpec("resnet18_ddrs", (3, 32, 32), 10, None, kind, kind != "float32")
        model = build(spec, seed=0).freeze().to(device)
        plan = SamplingPlan(100, samples, 0, "gpu check", grid=PixelGrid(LEVELS))
        found = []
        for size in (1000, 1000, 4000):
            sampler = Sampler(model, num_classes=10, plan=plan, batch_size=size)
            rows = list(sampler.count(images, torch.full((4,), 0.25), list(range(4))))
            found.append(np.stack([row.estimation for row in sorted(rows, key=lambda row: row.position)]))
        moved = int(np.abs(found[0] - found[2]).sum() // 2)
        yield f"counts in {kind}, twice", bool((found[0] == found[1]).all()), "the same bytes"
        # Kernels differ with the batch size: a statement about the file, which records its batch size.
        few = moved <= 4 * samples / 100
        yield f"counts in {kind}, batch 1,000 and 4,000", few, f"{moved} of {4 * samples:,} moved"


def arithmetic(device: torch.device) -> Iterator[Check]:
    """Compare a convolutional network with itself in float64."""
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    kinds: tuple[NumericType, ...] = ("float32", "tf32")
    for kind in kinds if device.type == "cuda" else ("float32",):
        model = build(ModelSpec("resnet20", (3, 32, 32), 10, None, kind), seed=0).freeze().to(device)
        with torch.inference_mode():
            logits, exact = model(images).double(), model.network.double()(images.double())
        error = float((logits - exact).norm() / exact.norm())
        right = error < 2e-6 if kind == "float32" else 2e-5 < error < 1e-2
        yield f"{kind} arithmetic", right, f"relative error {error:.1e}"


def main() -> int:
    """Check, print, and return how many checks failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=int, default=20_000_000, help="of each law (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=200_000, help="of each image (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if device.type == 'cuda' else device}")
    failed = 0
    parts = (
        grid_noise(options.numbers, device),
        law_of_noise(options.numbers, device),
        exact_counts(options.samples, device),
        same_counts(min(options.samples, 20_000), device),
        arithmetic(device),
    )
    for part in parts:
        for name, holds, found in part:
            failed += not holds
            print(f"{'ok    ' if holds else 'FAILED'} {name}: {found}", flush=True)
    print(f"{failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
