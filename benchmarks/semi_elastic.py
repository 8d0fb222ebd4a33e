"""Milliseconds per example for the certified radius of a semi-elastic sigma(x), on one core of this machine.

(a) ours, all examples in one call; (b) a direct scan as in IDRS, Algorithm 3: radii on a grid, xi of both extreme noise
levels by scipy's non-central chi-square, until one is 1/2 or not finite. Of (b) a few examples are timed. Its error
is at most a step of the grid as long as scipy's answers are finite; "failed" says how often one was not.

    python benchmarks/semi_elastic.py [--examples 1000] [--rounds 3] [--scanned 3] [--steps 200]
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings

import numpy as np
import scipy
from scipy.special import ndtri
from scipy.stats import ncx2

from _rows import head, row
from certsmooth.science.theory.worst_case import constant_radius, semi_elastic_radius

SIZES = ((3072, "3,072"), (150_528, "150,528"))
SEMI_ELASTICITIES = (0.001, 0.01, 0.1, 1.0)


def direct_xi(distance: float, sigma0: float, sigma1: float, dimension: int, p: float) -> float:
    """IDRS, Theorem 2.3, as it is written."""
    unit = (distance / (sigma0**2 - sigma1**2)) ** 2
    cdf, quantile = (ncx2.cdf, ncx2.ppf) if sigma1 < sigma0 else (ncx2.sf, ncx2.isf)
    square = quantile(1 - p, dimension, sigma0**2 * unit)
    return float(cdf(square * (sigma0 / sigma1) ** 2, dimension, sigma1**2 * unit))


def scan(p: float, sigma: float, r: float, dimension: int, steps: int) -> tuple[float, bool]:
    """Return the last certified radius of the grid, and whether scipy's answers ended before it did."""
    last = 0.0
    for radius in np.linspace(0, sigma * ndtri(p), steps + 1)[1:]:
        levels = [direct_xi(radius, sigma, sigma * np.exp(sign * r * radius), dimension, p) for sign in (-1, 1)]
        if not np.isfinite(levels).all():
            return last, True
        if max(levels) >= 0.5:
            break
        last = float(radius)
    return last, False


def measure(dimension: int, r: float, options: argparse.Namespace) -> tuple[object, ...]:
    """Return the row of one setting: times, radii, and failures of the scan."""
    rng = np.random.default_rng(0)
    p, sigma = 1 - 10 ** rng.uniform(-5, -0.4, options.examples), rng.uniform(0.12, 1.0, options.examples)
    best = float("inf")
    for _ in range(options.rounds):
        start = time.perf_counter()
        radius = semi_elastic_radius(p, sigma, r, dimension)
        best = min(best, time.perf_counter() - start)
    start = time.perf_counter()
    scans = [scan(p[i], sigma[i], r, dimension, options.steps) for i in range(options.scanned)]
    direct = time.perf_counter() - start
    ours = radius[: options.scanned].mean()
    share = (radius / constant_radius(p, sigma)).mean()
    failed = sum(failed for _, failed in scans)
    scanned = np.mean([found for found, _ in scans])
    milliseconds = (f"{best * 1e3 / options.examples:.3f}", f"{direct * 1e3 / options.scanned:,.0f}")
    return r, *milliseconds, f"{ours:.5f}", f"{scanned:.5f}", f"{failed} of {options.scanned}", f"{share:.3f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scanned", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, of series that did not converge
    print(f"numpy {np.__version__}, scipy {scipy.__version__}, Python {platform.python_version()}; ms per example")
    headers = ("N", "r", "(a) ms", "(b) ms", "(a) radius", "(b) radius", "(b) failed", "(a) / constant sigma")
    head(*headers)
    for dimension, name in SIZES:
        for r in SEMI_ELASTICITIES:
            row(name, *measure(dimension, r, options))


if __name__ == "__main__":
    main()
