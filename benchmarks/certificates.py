"""Seconds to certify rows of stored counts again, by certificate, on one core of this machine: no sampling.

The counts are drawn: 10 classes, the leading one with probability 0.3 to 1, n0 = 100 and n = 100,000, sigma 0.1 to 1.

    python benchmarks/certificates.py [--rows 10000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np

from _rows import head, row
from certsmooth._internal.registry import member, names
from certsmooth.science.certificates import Smoothing

CLASSES, N0, N, DIMENSION, ALPHA = 10, 100, 100_000, 3072, 0.001


def main() -> None:
    """Print one row for each certificate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    leading = rng.uniform(0.3, 1, options.rows)
    probabilities = rng.dirichlet(np.full(CLASSES, 0.5), options.rows) * (1 - leading)[:, None]
    probabilities[:, 0] += leading
    selection, estimation = rng.multinomial(N0, probabilities), rng.multinomial(N, probabilities)
    sigma = rng.uniform(0.1, 1, options.rows)
    print(f"{platform.machine()}, Python {platform.python_version()}; {options.rows} rows, best of {options.rounds}")
    head("certificate", "r", "seconds", "mean radius")
    for name in names("certificates"):
        certificate = member("certificates", name)()
        semi_elasticity = 0.01 if certificate.max_semi_elasticity else 0.0
        smoothing = Smoothing(sigma, DIMENSION, semi_elasticity, np.zeros(options.rows))
        seconds = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            bound = certificate(selection, estimation, smoothing, alpha=ALPHA)
            seconds.append(time.perf_counter() - start)
        row(name, f"{semi_elasticity:g}", f"{min(seconds):.3f}", f"{float(bound.radius.mean()):.3f}")


if __name__ == "__main__":
    main()
