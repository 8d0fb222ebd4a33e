"""Certified against empirical accuracy (SmoothAdv, Section 4.3), and whether attacks contradict certificates."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from certsmooth.analysis.empirical_result import AttackSource, Curve, EmpiricalResult, ShownAttack, Soundness
from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.analysis.result import Entry, Metric, Source
from certsmooth.analysis.runs import Method, Outcome, collect, guarantees, name_of
from certsmooth.analysis.soundness import AttackedRun, check_certificates, over_all
from certsmooth.errors import ConfigError, CountsError
from certsmooth.report.empirical_markdown import render
from certsmooth.report.files import write_result
from certsmooth.science.certificates import cohen


def build_empirical(
    runs: Sequence[AttackedRun],
    *,
    name: str,
    title: str,
    radii: Sequence[float],
    attacks: Sequence[ShownAttack],
    alpha: float,
) -> EmpiricalResult:
    """Compare certified accuracy with accuracy under attack, per method and radius.

    Empirical accuracy is the share of images at which PREDICT gives the label; an abstention counts as wrong.

    Args:
        runs: of any methods, settings and training seeds, on the same images.
        name: stem of the files.
        title: heading.
        radii: at which accuracy is given; attacks were made with these as epsilon.
        attacks: which of the runs' attacks are shown, in this order.
        alpha: of PREDICT.

    Raises:
        ConfigError: there are no runs, or they are given twice.
        CountsError: runs are not about the same images, or an attack is not about the images of its run, has not all
            of the radii, or other numbers of PREDICT samples than the first.
    """
    pairs = [(attacked, attacked.run) for attacked in runs]
    methods = collect([run for _, run in pairs], "test")
    if not methods:
        raise ConfigError(f"{name}: no runs; a table needs at least one")
    soundness = [
        Soundness(run.label, run.sigma, dict(run.variant), run.seed, verdict)
        for attacked, run in pairs
        if (verdict := check_certificates(attacked, alpha=alpha)) is not None
    ]
    answers = {name_of(attacked.run): _Answers(attacked, attacks, radii, alpha) for attacked in runs}
    shown: list[tuple[ShownAttack, int] | None] = [None, *((a, m) for a in attacks for m in a.samples)]

    def curve(method: Method, chosen: tuple[ShownAttack, int] | None, outcome: Outcome | None) -> Curve:
        return _curve(method, chosen, outcome, radii, answers)

    return EmpiricalResult(
        name=name,
        title=title,
        dataset=str(runs[0].run.provenance["dataset"]),
        radii=tuple(float(radius) for radius in radii),
        n=_predict_samples(runs),
        alpha=alpha,
        attacks=tuple(attacks),
        envelope=tuple(curve(method, chosen, None) for method in methods for chosen in shown),
        per_setting=tuple(
            curve(method, chosen, outcome) for method in methods for outcome in method.outcomes for chosen in shown
        ),
        verdict=over_all([each.verdict for each in soundness]),
        soundness=tuple(soundness),
        sources=tuple(Source.of(run) for _, run in pairs),
        attack_sources=tuple(
            AttackSource(run.label, run.sigma, dict(run.variant), run.seed, key, dict(attacked.provenance[key]))
            for attacked, run in pairs
            for key in attacked.attacks
        ),
    )


class _Answers:
    """What PREDICT answers at the attacked images of one run, in increasing order of idx."""

    def __init__(
        self, attacked: AttackedRun, attacks: Sequence[ShownAttack], radii: Sequence[float], alpha: float
    ) -> None:
        frame = attacked.run.frame.sort_values("idx")
        self.correct: dict[tuple[str, int, float], Bool[np.ndarray, " n"]] = {}
        for attack in attacks:
            counts = attacked.attacks[attack.key]
            correct = cohen.predict(counts.counts, alpha=alpha) == counts.label
            for samples, radius in ((m if r > 0 else 0, r) for m in attack.samples for r in radii):
                rows = np.flatnonzero((counts.samples == samples) & (counts.epsilon == radius))
                rows = rows[np.argsort(counts.index[rows])]
                for column, found in (("idx", counts.index[rows]), ("label", counts.label[rows])):
                    self._check_same(frame[column].to_numpy(), found, f"{attack.key} at radius {radius:g}", attacked)
                self.correct[attack.key, samples, radius] = correct[rows]

    @staticmethod
    def _check_same(
        expected: Int[np.ndarray, " n"], found: Int[np.ndarray, " m"], what: str, attacked: AttackedRun
    ) -> None:
        if not np.array_equal(expected, found):
            raise CountsError(
                f"{name_of(attacked.run)}: attack {what}: {len(found)} images; must be the {len(expected)} certified "
                "ones, with their labels: attack again"
            )

    def accuracy(self, attack: str, samples: int, radius: float) -> float:
        """Return the empirical accuracy at a radius."""
        return float(self.correct[attack, samples if radius > 0 else 0, radius].mean())


def _curve(
    method: Method,
    chosen: tuple[ShownAttack, int] | None,
    outcome: Outcome | None,
    radii: Sequence[float],
    answers: Mapping[str, _Answers],
) -> Curve:
    """Return a curve of a method at one outcome, or at the best one of each radius (None)."""
    attack, samples = chosen or (None, None)

    def score_at(radius: float) -> Callable[[Outcome], float]:
        if attack is None or samples is None:
            return lambda each: each.accuracy(radius)
        return lambda each: float(
            np.mean([answers[name_of(run)].accuracy(attack.key, samples, radius) for run in each.runs])
        )

    entries = []
    for radius in radii:
        score = score_at(radius)
        best = outcome or method.best(score)
        entries.append(_entry("certified_accuracy" if attack is None else "empirical_accuracy", radius, score, best))
    first = outcome or method.outcomes[0]
    return Curve(
        method=method.label,
        guarantee=guarantees([outcome] if outcome else method.outcomes),
        attack=attack.label if attack else None,
        samples=samples,
        sigma=f"{outcome.setting.sigma:g}" if outcome else "best",
        selected_on="none" if outcome else "test",
        seeds=first.seeds,
        images=first.correct.shape[1],
        entries=tuple(entries),
    )


def _entry(metric: Metric, radius: float, score: Callable[[Outcome], float], outcome: Outcome) -> Entry:
    value, setting = score(outcome), outcome.setting
    lower, upper = accuracy_interval(value, outcome.correct.shape[1])
    return Entry(
        metric, float(radius), 100 * value, 100 * lower, 100 * upper, "percent", setting.sigma, dict(setting.variant)
    )


def _predict_samples(runs: Sequence[AttackedRun]) -> int:
    found = {int(n) for attacked in runs for counts in attacked.attacks.values() for n in counts.counts.sum(axis=1)}
    if len(found) != 1:
        raise CountsError(f"{name_of(runs[0].run)}: PREDICT with {sorted(found)} samples; must be one number")
    return found.pop()


_CSV_COLUMNS = (
    *("table", "dataset", "norm", "method", "guarantee", "metric", "attack", "samples", "sigma", "radius"),
    *("value", "unit", "lower", "upper", "selected_on", "chosen_sigma", "chosen_variant", "seeds", "images"),
)


def write_empirical(result: EmpiricalResult, folder: Path, *, figure: str | None = None) -> tuple[Path, Path, Path]:
    """Write a table to a folder by `certsmooth.report.files.write_result`; its stem is the table's name.

    Args:
        result: the table.
        folder: must exist.
        figure: a picture that the Markdown file shows; its path relative to ``folder``.
    """
    return write_result(folder / result.name, result, markdown=render(result, figure=figure), values=_csv(result))


def _csv(result: EmpiricalResult) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for curve in (*result.envelope, *result.per_setting):
        shared = asdict(curve) | {"table": result.name, "dataset": result.dataset, "norm": "l2"}
        shared |= {"guarantee": ", ".join(curve.guarantee), "seeds": " ".join(map(str, curve.seeds))}
        for entry in curve.entries:
            variant = " ".join(f"{key}={value}" for key, value in entry.variant.items())
            own = asdict(entry) | {"chosen_sigma": entry.sigma, "chosen_variant": variant, "sigma": curve.sigma}
            writer.writerow(shared | own)
    return text.getvalue()
