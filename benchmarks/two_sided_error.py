"""How often the forms of T-CERTIFY are wrong, and what they gain: the numbers of docs/two_sided.md, in this run.

(1) Exactly, with three classes: for each form, the largest probability of error over the probabilities of the classes.
All counts of n samples are certified; an error is a radius above the one that the true probabilities allow, which a
classifier of three slabs attains. For each share of the runner-up in 1 - p_A, the worst p_A is one where the true
radius lies just below that of some counts. (2) By simulation, with ten classes. (3) Mean radii at several splits, for
counts made from published radii of `cohen`, if a file of them is given.

    python benchmarks/two_sided_error.py [--published ../shared/reference/certificates/FILE.tsv]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import gammaln, ndtr, ndtri, xlogy
from tabulate import tabulate

from certsmooth.science.certificates import Smoothing, cohen, t_certify, two_sided, two_sided_adaptive, two_sided_grid
from certsmooth.science.theory.bounds import clopper_pearson_lower

FORMS = {
    "cohen": cohen.CohenCertificate(),
    "two_sided, split 0.5": two_sided.TwoSidedCertificate(),
    "two_sided_grid": two_sided_grid.TwoSidedGridCertificate(),
    "two_sided_adaptive": two_sided_adaptive.TwoSidedAdaptiveCertificate(),
    "t_certify": t_certify.TCertifyCertificate(),
}
SHARES = (0.5, 0.6, 0.75, 0.9, 0.99, 0.999, 1.0)
TIMES = 100_000


def radii(certificate, estimation, alpha):
    """The radii for sigma = 1 of counts that select class 0."""
    selection = np.tile(np.eye(1, estimation.shape[1], dtype=np.int64), (len(estimation), 1))
    same = np.ones(len(estimation))
    return certificate(selection, estimation, Smoothing(same, 3072, 0.0, 0 * same), alpha=alpha).radius


def true_radius(p_a, p_b):
    """For sigma = 1, and 0 where class 0 does not lead."""
    return np.maximum(0.0, (ndtri(p_a) - ndtri(p_b)) / 2)


def outcomes(n):
    """All counts of three classes in n samples, and the logarithm of the ways to get each."""
    first, second = np.meshgrid(np.arange(n + 1), np.arange(n + 1))
    possible = first + second <= n
    counts = np.stack([first[possible], second[possible], (n - first - second)[possible]], axis=1)
    return counts, gammaln(n + 1) - gammaln(counts + 1).sum(axis=1)


def worst_p_a(radius, share):
    """The p_A whose true radius is just below each of these radii, by bisection."""
    low, high = np.zeros_like(radius), np.ones_like(radius)
    for _ in range(60):
        middle = (low + high) / 2
        below = (ndtri(middle) - ndtri(share * (1 - middle))) / 2 < radius * (1 - 1e-9)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def exact_error(radius, counts, ways):
    """The largest probability of error over all probabilities of three classes, with its probabilities."""
    largest, where = 0.0, (1.0, 0.0, 0.0)
    for share in SHARES:
        for p_a in worst_p_a(np.unique(radius[radius > 0]), share):
            p = (p_a, share * (1 - p_a), (1 - share) * (1 - p_a))
            wrong = radius > true_radius(p[0], p[1])
            error = np.exp(ways[wrong] + xlogy(counts[wrong], p).sum(axis=1)).sum()
            if error > largest:
                largest, where = error, p
    return largest, where


def exact_table():
    """Of each form at each n and alpha."""
    for n, alpha in ((20, 0.05), (40, 0.05), (40, 0.01), (40, 0.2)):
        counts, ways = outcomes(n)
        for name, certificate in FORMS.items():
            error, p = exact_error(radii(certificate, counts, alpha), counts, ways)
            yield n, alpha, name, error / alpha, ", ".join(f"{v:.4f}" for v in p)


def simulated_table():
    """Of each form at each p_A and p_B, the other eight classes equal."""
    generator, n, alpha = np.random.default_rng(0), 1000, 0.05
    for p_a, p_b in (
        (0.6, 0.4),
        (0.6, 0.3),
        (0.4, 0.3),
        (0.4, 0.06667),
        (0.2, 0.08889),
        (0.9, 0.01112),
        (0.99, 0.00112),
    ):
        p = np.array([p_a, p_b, *np.full(8, max(0.0, 1 - p_a - p_b) / 8)])
        counts = np.unique(generator.multinomial(n, p / p.sum(), TIMES), axis=0, return_counts=True)
        for name, certificate in FORMS.items():
            wrong = radii(certificate, counts[0], alpha) > true_radius(p[0], p[1:].max())
            yield f"{p_a:g}, {p_b:g}", name, counts[1][wrong].sum() / TIMES / alpha


def gain_table(path):
    """Mean radii at alpha = 0.001, n = 100,000: the published p_A, and a runner-up with a share of the rest."""
    table, sigma, n = pd.read_csv(path, sep="\t"), float(path.stem.rpartition("certify")[2]), 100_000
    possible = clopper_pearson_lower(np.arange(n + 1), n, alpha=0.001)
    first = np.searchsorted(possible, ndtr(table["radius"] / sigma)).clip(max=n)
    first[table["predict"] == -1] = n * 2 // 5
    for share in (0.25, 0.5, 0.75, 1.0):
        second = np.minimum(share * (n - first), np.where(first < n / 2, first - 1, n)).astype(np.int64)
        rest = n - first - second
        counts = np.stack([first, second, *[rest // 8 + (rest % 8 > j) for j in range(8)]], axis=1)
        splits = [two_sided.TwoSidedCertificate(split=split) for split in (0.1, 0.5, 0.9)]
        used = (FORMS["cohen"], *splits, FORMS["two_sided_grid"], FORMS["two_sided_adaptive"], FORMS["t_certify"])
        yield share, *(sigma * radii(certificate, counts, 0.001).mean() for certificate in used)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--published", type=Path, help="a TSV of certificates by cohen, n = 100,000, named ..certifySIGMA"
    )
    published = parser.parse_args().published
    print("Largest probability of error / alpha, three classes, exactly")
    print(tabulate(exact_table(), ["n", "alpha", "certificate", "error / alpha", "at"], "pipe", floatfmt=".4g"))
    print(f"\nShare of wrong certificates / alpha, ten classes, n = 1000, alpha = 0.05, {TIMES:,} simulations")
    print(tabulate(simulated_table(), ["p_A, p_B", "certificate", "error / alpha"], "pipe", floatfmt=".3f"))
    if published:
        print(f"\nMean radius, {published.stem}")
        heads = ["runner-up / rest", "cohen", "split 0.1", "split 0.5", "split 0.9", "grid", "adaptive", "t_certify"]
        print(tabulate(gain_table(published), heads, "pipe", floatfmt=".4f"))


if __name__ == "__main__":
    main()
