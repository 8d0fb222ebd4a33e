"""What stopping rules cost and lose, and how often their certificates are wrong: the numbers of docs/sequential.md.

(1) Certifications of the images of published certificates, 10,000 of each file, n_max = 100,000, alpha = 0.001, with
the package's rules and certificates. The probability of an image's class is k / n of its published radius: k is what
Clopper and Pearson need for the radius. Abstentions say nothing about it; it is taken to be uniform on [1/3, 0.505],
and the class to be right, which is the dearer case for `only_correct`. Two classes are enough, and the selection
samples do not matter. All rules, and the fixed n, see the same samples of an image, so that a loss is one of the rule.

(2) How often the lower bound is above the true probability at any look: by 1,000,000 simulations each, and exactly.

    python benchmarks/sequential.py [--reference ../shared/reference] [--figure FOLDER]
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.special import ndtr
from scipy.stats import binom

from _rows import head, row
from certsmooth.report.figures.panels import line, panels_figure, write_figure
from certsmooth.science.certificates import Smoothing
from certsmooth.science.certificates.cohen import CohenCertificate
from certsmooth.science.sampling.counts import BLOCK
from certsmooth.science.stopping import Prospect, check_can_stop
from certsmooth.science.stopping.precision import StopAtPrecision
from certsmooth.science.stopping.radii import StopAtRadii
from certsmooth.science.stopping.radius import StopAtRadius
from certsmooth.science.theory import sequential
from certsmooth.science.theory.bounds import clopper_pearson_lower
from certsmooth.science.theory.sequential import FIXED, StoppedTrials

N_MAX, ALPHA = 100_000, 0.001
FILES = "certificates/sun2025_*.tsv.gz", "logs/cifar10__ours__*.tsv.gz"
CHANCES = (0.001, 0.01, 0.03, 0.1)
WITHIN = (0.005, 0.01, 0.02)
SHARES = (0.2, 0.5, 0.7, 0.8, 0.9)
TIMES, AT_ONCE = 1_000_000, 100_000
CERTIFICATE = CohenCertificate()


@dataclass(frozen=True)
class Images:
    """Of one file: the true probability of the class of each, and whether it is the label."""

    name: str
    sigma: float
    p: np.ndarray
    right: np.ndarray


class Remembered(Prospect):
    """One that several rules ask."""

    @cached_property
    def _known(self):
        return {}

    def radii(self, chance):
        """As `Prospect.radii`."""
        if chance not in self._known:
            self._known[chance] = super().radii(chance)
        return self._known[chance]


def chosen(reference):
    """Path by sigma and name: all of Sun et al., and of SmoothAdv's release the first of each sigma."""
    found = {}
    for path in (path for pattern in FILES for path in sorted(reference.glob(pattern))):
        sigma = float(re.search(r"sigma_?([0-9.]+)\.tsv", path.name).group(1))
        name = re.match(r"sun2025_\w+?resnet110_([a-z]+)", path.name)
        found.setdefault((sigma, name.group(1) if name else "released SmoothAdv"), path)
    return dict(sorted(found.items()))


def published(sigma, name, path, possible):
    """The images of a file; ``possible``: the bounds on p that N_MAX samples can give."""
    table = pd.read_csv(path, sep="\t")
    k = np.searchsorted(possible, ndtr(table["radius"] / sigma)).clip(max=N_MAX - 0.2)
    abstained = (table["predict"] < 0) | (table["radius"] <= 0)
    p = np.where(abstained, np.random.default_rng(1).uniform(1 / 3, 0.505, len(table)), k / N_MAX)
    return Images(name, sigma, p, ((table["correct"] == 1) | abstained).to_numpy())


def prospect(k, n, sigma, trials):
    """Of images whose n samples show their class k times."""
    one = np.ones(len(k))
    smoothing = Smoothing(sigma * one, 3072, 0.0, np.inf * one, trials=trials)
    selection = np.tile([[BLOCK, 0]], (len(k), 1))
    return Remembered(CERTIFICATE, ALPHA, N_MAX, selection, np.stack([k, n - k], axis=1), smoothing)


def simulate(sigma, p, rules):
    """The samples and the radius of each image, by name of the rule; and by ``fixed``, of the same samples.

    All rules look at the same times.
    """
    generator, n, k = np.random.default_rng(0), 0, np.zeros(len(p), np.int64)
    samples, radius = {name: np.zeros(len(p), np.int64) for name in rules}, {name: np.zeros(len(p)) for name in rules}
    first = next(iter(rules.values()))
    while (until := first.next_look(n, N_MAX)) > n:
        k, n = k + generator.binomial(until - n, p), until
        going_on = np.flatnonzero(np.any([each == 0 for each in samples.values()], axis=0))
        shown, place = np.unique(k[going_on], return_inverse=True)
        if not len(shown):
            continue
        seen = prospect(shown, n, sigma, first.trials(N_MAX))
        for name, rule in rules.items():
            stops = going_on[((n == N_MAX) | rule.decided(seen)[place]) & (samples[name][going_on] == 0)]
            samples[name][stops] = n
            radius[name][stops] = seen.radii(rule.chance)[0][np.searchsorted(shown, k[stops])]
    shown, place = np.unique(k, return_inverse=True)
    samples["fixed"], radius["fixed"] = np.full(len(p), N_MAX), prospect(shown, n, sigma, FIXED).radii(0.0)[0][place]
    return samples, radius


def radii_of(sigma):
    """The multiples of 0.25 that the rule can certify."""
    rule, found = StopAtRadii((0.0,)), np.arange(0, 4 * sigma, 0.25)
    best = prospect(np.array([N_MAX]), N_MAX, sigma, rule.trials(N_MAX))
    asked = tuple(found[found <= best.radii(0.0)[0][0]].tolist())
    check_can_stop(replace(rule, radii=asked), CERTIFICATE, best.smoothing, most=N_MAX, alpha=ALPHA)
    return asked


def rules_of(radii):
    """By name."""
    tables = {f"radii, chance {chance:g}": StopAtRadii(radii, chance=chance) for chance in CHANCES}
    singles = {f"radius {radius:g}": StopAtRadius(radius) for radius in radii}
    return tables | singles | {f"within {within:g}": StopAtPrecision(within) for within in WITHIN}


def outcome(images, rows, samples, radius, name, radii):
    """Of one rule on one file: the mean n, that with `only_correct`, losses of certified accuracy, mean radii."""
    n, right = samples[name][rows], images.right
    shares = {
        each: np.array([100 * (right & (radius[each][rows] >= r)).mean() for r in radii]) for each in (name, "fixed")
    }
    averages = {each: (right * np.maximum(radius[each][rows], 0)).mean() for each in (name, "fixed")}
    alone = np.where(right, n, BLOCK).mean()
    return n.mean(), alone, shares["fixed"] - shares[name], averages["fixed"], 1 - averages[name] / averages["fixed"]


def outcomes_of(sigma, files, rules, radii):
    """What `outcome` returns, by the name of the file and of the rule."""
    samples, radius = simulate(sigma, np.concatenate([each.p for each in files]), rules)
    ends = np.cumsum([len(each.p) for each in files])
    return {
        each.name: {name: outcome(each, slice(end - len(each.p), end), samples, radius, name, radii) for name in rules}
        for each, end in zip(files, ends, strict=True)
    }


def print_tables(sigma, files, outcomes, radii):
    """Those of one sigma; `outcomes`: what `outcome` returns, by the name of the file and of the rule."""
    print(f"\n### sigma = {sigma:g}, radii {', '.join(f'{r:g}' for r in radii)}")
    head("`radii`", "mean n", "with only_correct", "worst loss, points", "ACR", "loss of ACR")
    for each in files:
        n, alone, loss, acr, lost = outcomes[each.name]["radii, chance 0.03"]
        worst = f"{loss.max():.2f} at {radii[loss.argmax()]:g}"
        row(each.name, f"{n:,.0f}", f"{alone:,.0f}", worst, f"{acr:.3f}", f"{lost:.1%}")
    head("`radius`: mean n, loss in points", *(f"{r:g}" for r in radii))
    for each in files:
        found = [outcomes[each.name][f"radius {r:g}"] for r in radii]
        row(each.name, *(f"{one[0]:,.0f}, {one[2][i]:.2f}" for i, one in enumerate(found)))
    head("`precision`: mean n (with only_correct), loss of ACR", *(f"{within:g}" for within in WITHIN))
    for each in files:
        found = [outcomes[each.name][f"within {within:g}"] for within in WITHIN]
        row(each.name, *(f"{one[0]:,.0f} ({one[1]:,.0f}), {one[4]:.1%}" for one in found))
    head("`radii`: mean n, worst loss in points; by chance", *(f"{chance:g}" for chance in CHANCES))
    for each in files:
        row(each.name, *(f"{n:,.0f}, {loss:.2f}" for n, loss in curve(outcomes[each.name])))


def print_shares(sigma, files, radii):
    """Of alpha, for the bound that holds at any time."""
    rules = {"radii": StopAtRadii(radii), "precision": StopAtPrecision(WITHIN[1])}
    head("SHARE; `radii`: mean n, worst loss in points; within 0.01: mean n, loss of ACR", *(f.name for f in files))
    for share in SHARES:
        with patch.object(sequential, "SHARE", share):
            outcomes = outcomes_of(sigma, files, rules, radii)
        cells = []
        for each in files:
            table, precise = outcomes[each.name]["radii"], outcomes[each.name]["precision"]
            cells.append(f"{table[0]:,.0f}, {table[2].max():.2f}; {precise[0]:,.0f}, {precise[4]:.1%}")
        row(f"{share:g}", *cells)


def curve(found):
    """The mean n and the worst loss of `radii` by chance; `found`: what `outcome` returns, by the name of the rule."""
    tables = [found[f"radii, chance {chance:g}"] for chance in CHANCES]
    return np.array([(one[0], one[2].max()) for one in tables])


def certifications(reference):
    """Print the tables of all files, and return the points of the figure: by sigma and file, mean n and worst loss."""
    paths = chosen(reference)
    if not paths:
        sys.exit(f"{reference}: no file {FILES[0]}; must be the folder of published certificates (--reference)")
    possible = clopper_pearson_lower(np.arange(N_MAX + 1), N_MAX, alpha=ALPHA)
    points = []
    for sigma, group in groupby(paths.items(), lambda item: item[0][0]):
        start, radii = time.perf_counter(), radii_of(sigma)
        files = [published(*key, path, possible) for key, path in group]
        outcomes = outcomes_of(sigma, files, rules_of(radii), radii)
        print_tables(sigma, files, outcomes, radii)
        print_shares(sigma, files, radii)
        print(f"\n{time.perf_counter() - start:.0f} s", flush=True)
        points.append((f"sigma = {sigma:g}", {name: curve(found) for name, found in outcomes.items()}))
    return points


def figure(points):
    """The frontier of mean n and worst loss: a line per file, a mark per chance."""
    names = sorted({name for _, curves in points for name in curves})

    def draw(axes, curves):
        for name, one in curves.items():
            axes.plot(*one.T, marker="o", markersize=3, label=name, **line(names.index(name)))
        axes.set_xlim(left=0)

    title = f"radii: samples and loss, chance {', '.join(f'{c:g}' for c in CHANCES)} from right to left"
    labels = "mean n", "worst loss of certified accuracy, points"
    return panels_figure(points, draw, size=(3.6, 2.6), title=title, labels=labels)


def limits(trials, looks, p, alpha):
    """The fewest successes with which the bound is above p, at each look; n + 1 where none are enough."""
    low, high = np.zeros_like(looks), looks + 1
    while (high - low > 1).any():
        middle = np.minimum((low + high) // 2, looks)
        above = trials.lower(middle, looks, alpha=alpha) > p
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return high


def exact_error(limit, looks, p):
    """The probability that the successes reach the limit at any look; what is below 1e-25 is taken for reached."""
    chance, fewest, n = np.ones(1), 0, 0  # of so many successes and more, without having reached a limit
    for until, enough in zip(looks.tolist(), limit.tolist(), strict=True):
        more = binom.pmf(np.arange(until - n + 1), until - n, p)
        some = np.flatnonzero(more > 1e-25)
        chance, n = np.convolve(chance, more[some[0] : some[-1] + 1])[: max(enough - fewest - some[0], 0)], until
        fewest += some[0]
        kept = np.flatnonzero(chance > 1e-25)
        chance, fewest = (chance[kept[0] : kept[-1] + 1], fewest + kept[0]) if len(kept) else (np.zeros(1), fewest)
    return 1 - chance.sum()


def simulated_errors(limit, looks, p):
    """The share of `TIMES` certifications in which the successes reach each limit at any look."""
    generator, wrong = np.random.default_rng(0), dict.fromkeys(limit, 0)
    for _ in range(TIMES // AT_ONCE):
        k, n, above = np.zeros(AT_ONCE, np.int64), 0, {name: np.zeros(AT_ONCE, bool) for name in limit}
        for at, until in enumerate(looks.tolist()):
            k, n = k + generator.binomial(until - n, p, AT_ONCE), until
            for name, each in limit.items():
                above[name] |= k >= each[at]
        wrong = {name: found + int(above[name].sum()) for name, found in wrong.items()}
    return {name: found / TIMES for name, found in wrong.items()}


def coverage():
    """Print how often each bound is above p at any look."""
    n_max = 10_000
    bounds = {"n_max fixed": StoppedTrials(n_max), "n_max raised": StoppedTrials(None), "Clopper and Pearson": FIXED}
    looks = np.arange(BLOCK, n_max + 1, BLOCK)
    print(f"\nErrors / alpha, looks at 100, 200, ..., {n_max:,}: in {TIMES:,} simulations (exactly)")
    head("p, alpha", *bounds)
    for p in (0.5, 0.6, 0.9, 0.99, 0.999):
        asked = [(name, alpha) for alpha in (0.05, 0.001) for name in bounds]
        limit = {(name, alpha): limits(bounds[name], looks, p, alpha) for name, alpha in asked}
        share = simulated_errors(limit, looks, p)
        for alpha in (0.05, 0.001):
            pairs = [(share[name, alpha], exact_error(limit[name, alpha], looks, p)) for name in bounds]
            row(f"{p:g}, {alpha:g}", *(f"{found / alpha:.3f} ({exact / alpha:.3f})" for found, exact in pairs))
    print(f"\nErrors / alpha, exactly, looks of the rules until n_max = {N_MAX:,}")
    head("p, alpha", "n_max fixed", "n_max raised", "Clopper and Pearson")
    looks = [0]
    while (until := StopAtRadii((0.0,)).next_look(looks[-1], N_MAX)) > looks[-1]:
        looks.append(until)
    bounds["n_max fixed"], looks = StoppedTrials(N_MAX), np.array(looks[1:])
    for p in (0.5, 0.6, 0.9, 0.99, 0.999, 0.9999):
        for alpha in (0.05, 0.001):
            errors = [exact_error(limits(trials, looks, p, alpha), looks, p) for trials in bounds.values()]
            row(f"{p:g}, {alpha:g}", *(f"{error / alpha:.3f}" for error in errors))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, default=Path("..", "shared", "reference"))
    parser.add_argument("--figure", type=Path, metavar="FOLDER", help="write sequential.svg and .png there")
    options = parser.parse_args()
    if options.figure is not None:
        options.figure.mkdir(parents=True, exist_ok=True)
    points = certifications(options.reference)
    if options.figure:
        write_figure(partial(figure, points), options.figure, name="sequential")
    coverage()


if __name__ == "__main__":
    main()
