"""Runs brought together: which of them belong to one method and setting, and whether all can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from certsmooth.analysis import CertifiedRun, Part, Record
from certsmooth.analysis.metrics import average_certified_radius, certified_accuracy
from certsmooth.errors import CertsmoothError, ConfigError, CountsError
from certsmooth.science.certificates import GUARANTEES

SHARED = ("dataset", "fingerprint")
"""What all runs on one part must have in common, or their numbers cannot be compared."""

TOLD = (
    *SHARED,
    *("description", "images", "n0", "n", "alpha", "seed", "step", "norm", "numeric_type", "device", "seconds"),
    *("versions", "git_commit", "image", "sampled_by", "memory"),
)
"""What a table tells of each run."""


@dataclass(frozen=True)
class Setting:
    """What is chosen among: sigma and the options of the method."""

    sigma: float
    grid: tuple[tuple[str, int | float | str], ...]

    @property
    def options(self) -> str:
        """The options as a table's columns have them."""
        return options_text(dict(self.grid))

    def __str__(self) -> str:
        return "; ".join([f"{self.sigma:g}", *(f"{key} {value}" for key, value in self.grid)])


def options_text(grid: Mapping[str, int | float | str]) -> str:
    """Return options as a table's columns have them: ``key=value``, a space between two."""
    return " ".join(f"{key}={value}" for key, value in grid.items())


def run_columns(run: CertifiedRun) -> Record:
    """Return which run it is, as a table's columns have it."""
    return {"method": run.label, "sigma": run.sigma, "grid": options_text(run.grid), "seed": run.seed}


@dataclass(frozen=True)
class Outcome:
    """The certificates of one method at one setting, for each training seed.

    Attributes:
        setting: sigma and options.
        runs: one per seed, in the order of their seeds.
        correct: [s, n], the prediction is the label; images in increasing order of idx.
        radius: float64 [s, n].
    """

    setting: Setting
    runs: tuple[CertifiedRun, ...]
    correct: Bool[np.ndarray, "s n"]
    radius: Float[np.ndarray, "s n"]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds, sorted."""
        return tuple(run.seed for run in self.runs)

    @property
    def images(self) -> int:
        """How many images there are."""
        return int(self.correct.shape[1])

    def accuracy(self, at: float) -> float:
        """Return the certified accuracy at a radius, the mean over seeds."""
        return certified_accuracy(self.correct, self.radius, at)

    def acr(self) -> float:
        """Return the average certified radius, the mean over seeds."""
        return average_certified_radius(self.correct, self.radius)


@dataclass(frozen=True)
class Method:
    """All outcomes of one method on one part, in increasing order of sigma."""

    key: str
    label: str
    train: str
    certify: str
    outcomes: tuple[Outcome, ...]

    @property
    def described(self) -> Record:
        """Label, policies, guarantees, seeds and images, as a table's columns have them."""
        first = self.outcomes[0]
        return {
            **{"method": self.label, "train": self.train, "certify": self.certify},
            **{"seeds": " ".join(map(str, first.seeds)), "images": first.images},
            "guarantee": guarantees(self.outcomes),
        }

    def settings(self) -> Iterator[Method]:
        """Yield the method at each of its settings alone."""
        for outcome in self.outcomes:
            yield replace(self, outcomes=(outcome,))

    def best(self, score: Callable[[Outcome], float]) -> Outcome:
        """Return the outcome of the highest score; ties go to the higher ACR, then to the smaller sigma."""
        return max(self.outcomes, key=lambda outcome: (score(outcome), outcome.acr()))

    def at(self, setting: Setting) -> Outcome:
        """Return the outcome at a setting that the method has."""
        return next(outcome for outcome in self.outcomes if outcome.setting == setting)


def guarantees(outcomes: Sequence[Outcome]) -> str:
    """Return every guarantee that occurs in the certificates, the strongest first, a comma between two."""
    found = {g for outcome in outcomes for run in outcome.runs for g in run.frame["guarantee"].unique()}
    return ", ".join(g for g in GUARANTEES if g in found)


def collect(runs: Sequence[CertifiedRun], part: Part) -> tuple[Method, ...]:
    """Group the runs on one part by method and setting; methods in the order in which they first appear.

    Args:
        runs: of any methods, settings, seeds and parts.
        part: the runs on the other part are ignored.

    Raises:
        ConfigError: two runs are the same, a method has two labels, two methods have the same, or training
            seeds differ between settings.
        CountsError: two runs differ in images, labels or one of `SHARED`, or an image has no label.
    """
    chosen = [run for run in runs if run.part == part]
    _check_comparable(chosen)
    groups: dict[str, dict[Setting, dict[int, CertifiedRun]]] = {}
    for run in chosen:
        by_seed = groups.setdefault(run.method, {}).setdefault(setting_of(run), {})
        if run.seed in by_seed:
            raise ConfigError(f"{name_of(run)}: given twice; must be one run per method, sigma, grid, seed and part")
        by_seed[run.seed] = run
    _check_seeds(groups)
    methods: dict[str, Method] = {}
    for key, settings in groups.items():
        method = _method(key, settings)
        if (other := methods.setdefault(method.label, method)) is not method:
            raise ConfigError(f"{key}: label {method.label!r} is also that of {other.key}; must be unique")
    return tuple(methods.values())


def setting_of(run: CertifiedRun) -> Setting:
    """Return what was chosen for a run."""
    return Setting(float(run.sigma), tuple(sorted(run.grid.items())))


def name_of(run: CertifiedRun) -> str:
    """Return how errors call a run."""
    return f"{run.method}, sigma {setting_of(run)}, seed {run.seed}, {run.part}"


def _method(key: str, settings: dict[Setting, dict[int, CertifiedRun]]) -> Method:
    runs = [run for by_seed in settings.values() for run in by_seed.values()]
    _check_same(runs, "label, train and certify", ConfigError, lambda run: (run.label, run.train, run.certify))
    outcomes = [_outcome(setting, by_seed) for setting, by_seed in settings.items()]
    outcomes.sort(key=lambda outcome: outcome.setting.sigma)
    return Method(key, runs[0].label, runs[0].train, runs[0].certify, tuple(outcomes))


def _outcome(setting: Setting, by_seed: dict[int, CertifiedRun]) -> Outcome:
    runs = tuple(by_seed[seed] for seed in sorted(by_seed))
    frames = [run.frame.sort_values("idx") for run in runs]
    return Outcome(
        setting,
        runs,
        np.stack([frame["correct"].to_numpy(dtype=bool) for frame in frames]),
        np.stack([frame["radius"].to_numpy(dtype=np.float64) for frame in frames]),
    )


def _check_comparable(runs: Sequence[CertifiedRun]) -> None:
    """Raise CountsError unless all runs have the same labelled images, certified with the same numbers."""
    for run in runs:
        idx, label = run.frame["idx"], run.frame["label"]
        if idx.duplicated().any():
            raise CountsError(f"{name_of(run)}: idx {idx[idx.duplicated()].iloc[0]} occurs twice; must be unique")
        if (label < 0).any():
            raise CountsError(f"{name_of(run)}: {(label < 0).sum()} images without a label; a table needs all labels")
        if len(idx) < 2:
            raise CountsError(f"{name_of(run)}: {len(idx)} image; an interval needs at least 2")
        if missing := [key for key in TOLD if key not in run.provenance]:
            raise CountsError(f"{name_of(run)}: provenance lacks {', '.join(missing)}; must have it")
    for key in SHARED:
        _check_same(runs, key, CountsError, partial(_provenance, key))
    for run in runs[1:]:
        _check_same_images(run, runs[0])


def _provenance(key: str, run: CertifiedRun) -> object:
    return run.provenance[key]


def _check_same_images(run: CertifiedRun, other: CertifiedRun) -> None:
    labels, others = (r.frame.set_index("idx")["label"] for r in (run, other))
    unpaired = labels.index.symmetric_difference(others.index)
    if len(unpaired):
        raise CountsError(
            f"{name_of(run)}: idx {unpaired[0]} is in only one of this run and {name_of(other)}; "
            "all runs on one part must certify the same images"
        )
    differing = labels.index[labels != others.reindex(labels.index)]
    if len(differing):
        i = differing[0]
        raise CountsError(
            f"{name_of(run)}: idx {i} has label {labels[i]}, but {others[i]} in {name_of(other)}; must be the same"
        )


def _check_seeds(groups: Mapping[str, Mapping[Setting, Mapping[int, CertifiedRun]]]) -> None:
    # Means over different numbers of seeds are not alike even if the methods are: a paired test would see it.
    all_runs = [by_seed for settings in groups.values() for by_seed in settings.values()]
    for by_seed in all_runs:
        if by_seed.keys() != all_runs[0].keys():
            run, other = next(iter(by_seed.values())), next(iter(all_runs[0].values()))
            raise ConfigError(
                f"{run.method}, sigma {setting_of(run)}, {run.part}: training seeds {sorted(by_seed)}, but "
                f"{sorted(all_runs[0])} for {other.method}, sigma {setting_of(other)}; must be the same"
            )


def _check_same(
    runs: Sequence[CertifiedRun],
    what: str,
    error: type[CertsmoothError],
    value: Callable[[CertifiedRun], object],
) -> None:
    for run in runs[1:]:
        if value(run) != value(runs[0]):
            raise error(
                f"{name_of(run)}: {what} is {value(run)}, but {value(runs[0])} for {name_of(runs[0])}; must be the same"
            )
