"""Certified against empirical accuracy (SmoothAdv, Section 4.3), and whether attacks contradict certificates.

What such a table says: the best setting at each radius, chosen on the test images as in the paper, then every
setting; ``attack``, ``samples`` (noise samples that it saw) and ``n`` (samples of PREDICT) are absent for certified
accuracy. About it: dataset, radii, n and alpha of PREDICT, the fewer samples that are shown as well, attacks, and the
verdict on all ``global`` certificates (None if there are none). ``verdicts``: one per run with such certificates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product

import numpy as np
from jaxtyping import Int

from certsmooth.analysis import Record
from certsmooth.analysis.contradictions import AttackedRun, check_certificates, over_all
from certsmooth.analysis.metrics import accuracy_record
from certsmooth.analysis.result import TableResult, source, tidy
from certsmooth.analysis.runs import Method, Outcome, RunKey, collect, key_of, name_of, one_by_one, run_columns
from certsmooth.errors import ConfigError, CountsError
from certsmooth.science.certificates import cohen

_COLUMNS = (
    *("table", "dataset", "norm", "method", "guarantee", "metric", "attack", "samples", "n", "sigma", "radius"),
    *("value", "unit", "lower", "upper", "selected_on", "chosen_sigma", "chosen_grid", "seeds", "images"),
)
_VERDICTS = ("method", "sigma", "grid", "seed", "images", "checked", "checks", "contradicted", "expected", "p_value")


@dataclass(frozen=True)
class ShownAttack:
    """An attack as a table shows it.

    Attributes:
        key: of the attack in params.yaml.
        label: its name.
        description: member and options.
        samples: numbers of noise samples that it saw; 0 for none.
    """

    key: str
    label: str
    description: str
    samples: tuple[int, ...]


def empirical_table(
    runs: Sequence[AttackedRun],
    *,
    name: str,
    title: str,
    radii: Sequence[float],
    attacks: Sequence[ShownAttack],
    alpha: float,
    fewer: Sequence[int] = (),
) -> TableResult:
    """Compare certified accuracy with accuracy under attack, per method and radius.

    Empirical accuracy is the share of images at which PREDICT gives the label; an abstention counts as wrong.

    Args:
        runs: of any methods, settings and training seeds, on the same images.
        name: stem of the files.
        title: heading.
        radii: at which accuracy is given, in pixel coordinates [0, 1]; attacks were made with these as epsilon. At 0
            nothing is attacked.
        attacks: which of the runs' attacks are shown, in this order.
        alpha: of PREDICT.
        fewer: numbers of samples below those that PREDICT drew, at which its answers are shown as well.

    Raises:
        ConfigError: there are no runs, or they are given twice, or ``fewer`` are not fewer.
        CountsError: runs are not about the same images, or an attack is not about the images of its run, has not all
            of the radii, or other numbers of PREDICT samples than the first.
    """
    methods = collect([attacked.run for attacked in runs], "test")
    if not methods:
        raise ConfigError(f"{name}: no runs; a table needs at least one")
    checked = [(each.run, check_certificates(each, alpha=alpha)) for each in runs]
    verdicts = [(run, verdict) for run, verdict in checked if verdict is not None]
    every = over_all([verdict for _, verdict in verdicts])
    n = _predict_samples(runs)
    if wrong := [number for number in fewer if not 0 < number < n]:
        raise ConfigError(f"{name}: fewer: {wrong[0]}; must be below the {n} samples that PREDICT drew")
    numbers = (*fewer, n)
    shares = {key: share for each in runs for key, share in _shares(each, attacks, radii, alpha, numbers)}
    shared = {"table": name, "dataset": str(runs[0].run.provenance["dataset"]), "norm": "l2"}
    return TableResult(
        kind="empirical",
        name=name,
        title=title,
        about={
            **{"dataset": shared["dataset"], "radii": [float(radius) for radius in radii], "n": n, "alpha": alpha},
            **{"fewer": list(fewer), "attacks": [asdict(each) for each in attacks]},
            "verdict": every and asdict(every),
        },
        values=tidy((shared | row for row in _rows(methods, attacks, radii, numbers, shares)), _COLUMNS),
        more={"verdicts": tidy((run_columns(run) | asdict(verdict) for run, verdict in verdicts), _VERDICTS)},
        sources=[source(each.run) for each in runs],
        attack_sources=[source(each.run, key, each.provenance[key]) for each in runs for key in each.attacks],
    )


_Key = tuple[RunKey, str, int, int, float]
"""A run's key, an attack's, its noise samples, PREDICT's, and a radius."""


def _shares(
    attacked: AttackedRun, attacks: Sequence[ShownAttack], radii: Sequence[float], alpha: float, numbers: Sequence[int]
) -> Iterator[tuple[_Key, float]]:
    """Yield the share of the images of a run at which PREDICT gives the label."""
    images = attacked.run.frame.sort_values("idx")[["idx", "label"]].to_numpy()
    for attack in attacks:
        counts = attacked.attacks[attack.key]
        correct = {n: cohen.predict(thinned(counts.counts, n), alpha=alpha) == counts.label for n in numbers}
        for samples, radius in product(attack.samples, radii):
            # At radius 0 nothing is attacked: one answer stands for every number of samples.
            rows = (counts.samples == (samples if radius > 0 else 0)) & (counts.epsilon == radius)
            found = np.stack([counts.index, counts.label], axis=1)[rows]
            if not np.array_equal(images, found[found[:, 0].argsort()]):
                raise CountsError(
                    f"{name_of(attacked.run)}: attack {attack.key} at radius {radius:g}: {len(found)} images; "
                    f"must be the {len(images)} certified ones, with their labels: attack again"
                )
            for n in numbers:
                yield (key_of(attacked.run), attack.key, samples, n, radius), float(correct[n][rows].mean())


def thinned(counts: Int[np.ndarray, "N k"], n: int) -> Int[np.ndarray, "N k"]:
    """Return the class counts of n of the samples of each row, drawn without replacement.

    The samples of a row are independent and of one law, so that these counts have the law of those of n samples.

    Args:
        counts: class counts of at least n samples, below 10**9 in each row.
        n: samples.
    """
    generator = np.random.default_rng(n)
    few = [
        row if row.sum() == n else generator.multivariate_hypergeometric(row, n, method="marginals") for row in counts
    ]
    return np.array(few, dtype=np.int64).reshape(counts.shape)


def _rows(
    methods: Sequence[Method],
    attacks: Sequence[ShownAttack],
    radii: Sequence[float],
    numbers: Sequence[int],
    shares: Mapping[_Key, float],
) -> Iterator[Record]:
    """Yield the numbers of all curves: those whose setting is chosen, then every setting."""
    chosen = [(method, {"sigma": "best", "selected_on": "test"}) for method in methods]
    each = [(one, {"sigma": f"{setting.sigma:g}", "selected_on": "none"}) for one, setting in one_by_one(methods)]
    under_attack = [(attack, samples, n) for attack in attacks for samples in attack.samples for n in numbers]
    for (method, said), curve, radius in product([*chosen, *each], [None, *under_attack], radii):
        score = partial(_accuracy, shares, curve, radius)
        best = method.best(score)
        attack, samples, n = curve or (None, None, None)
        metric = "empirical_accuracy" if attack else "certified_accuracy"
        yield {
            **{**method.described, **said, "attack": attack.label if attack else None, "samples": samples, "n": n},
            **accuracy_record(score(best), best.images, radius, metric=metric),
            **{"chosen_sigma": best.setting.sigma, "chosen_grid": best.setting.options},
        }


def _accuracy(
    shares: Mapping[_Key, float], curve: tuple[ShownAttack, int, int] | None, radius: float, outcome: Outcome
) -> float:
    """Return the accuracy of an outcome under an attack, or the certified one."""
    if curve is None:
        return outcome.accuracy(radius)
    attack, samples, n = curve
    return float(np.mean([shares[key_of(run), attack.key, samples, n, radius] for run in outcome.runs]))


def _predict_samples(runs: Sequence[AttackedRun]) -> int:
    found = {int(n) for attacked in runs for counts in attacked.attacks.values() for n in counts.counts.sum(axis=1)}
    if len(found) != 1:
        raise CountsError(f"{name_of(runs[0].run)}: PREDICT with {sorted(found)} samples; must be one number")
    return found.pop()
