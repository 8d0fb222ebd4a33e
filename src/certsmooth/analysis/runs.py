"""Runs brought together: which of them belong to one method and setting, and whether all can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from certsmooth.analysis import CertifiedRun, Kind, Record, Split
from certsmooth.errors import CertsmoothError, ConfigError, CountsError
from certsmooth.science.certificates import GUARANTEES
from certsmooth.science.metrics import average_certified_radius, certified_accuracy

AS_PUBLISHED = "as published"
"""In place of a guarantee, of certificates that others made: what they say of them, which nothing here checks."""

SHARED: Mapping[Kind, tuple[str, ...]] = {"measured": ("dataset", "fingerprint"), "derived": ("dataset",)}
"""What all runs on one split must have in common, or their numbers cannot be compared; files of others do not say which
images they are about, beyond their labels."""

TOLD: Mapping[Kind, tuple[str, ...]] = {
    "measured": (
        *SHARED["measured"],
        *("description", "images", "n0", "n", "alpha", "seed", "step", "norm", "numeric_type", "device", "seconds"),
        *("versions", "git_commit", "image", "sampled_by", "memory"),
    ),
    "derived": (*SHARED["derived"], "images", "norm", "file", "sha256"),
}
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
    """The certificates of one method at one setting, for each training seed and certification seed.

    Its numbers are means over all of them: no certificate and no number is the best of several.

    Attributes:
        setting: sigma and options.
        runs: one per training seed and certification seed, in this order; each has the same certification seeds.
        idx: [n], of the images.
        correct: [s, n], the prediction is the label; images in increasing order of idx.
        radius: float64 [s, n].
    """

    setting: Setting
    runs: tuple[CertifiedRun, ...]
    idx: Int[np.ndarray, " n"]
    correct: Bool[np.ndarray, "s n"]
    radius: Float[np.ndarray, "s n"]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """The training seeds, sorted; None for one that is not known."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    @property
    def certification_seeds(self) -> tuple[int | None, ...]:
        """The seeds of the noise that certified each trained classifier, sorted; None likewise."""
        return tuple(dict.fromkeys(run.certification_seed for run in self.runs))

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
    """All outcomes of one method on one split, in increasing order of sigma."""

    key: str
    label: str
    train: str
    certify: str
    outcomes: tuple[Outcome, ...]

    @property
    def described(self) -> Record:
        """Label, policies, guarantees, kind, seeds and images, as a table's columns have them."""
        first = self.outcomes[0]
        return {
            **{"method": self.label, "train": self.train, "certify": self.certify, "kind": first.runs[0].kind},
            **{"seeds": _listed(first.seeds), "certification_seeds": _listed(first.certification_seeds)},
            **{"images": first.images, "image_choice": image_choice(first.idx, first.runs[0].provenance)},
            "guarantee": guarantees(self.outcomes),
        }

    def best(self, score: Callable[[Outcome], float]) -> Outcome:
        """Return the outcome of the highest score; ties go to the higher ACR, then to the smaller sigma."""
        return max(self.outcomes, key=lambda outcome: (score(outcome), outcome.acr()))

    def at(self, setting: Setting) -> Outcome:
        """Return the outcome at a setting that the method has."""
        return next(outcome for outcome in self.outcomes if outcome.setting == setting)


def one_by_one(methods: Iterable[Method]) -> Iterator[tuple[Method, Setting]]:
    """Yield methods at each of their settings alone."""
    for method in methods:
        for outcome in method.outcomes:
            yield replace(method, outcomes=(outcome,)), outcome.setting


def guarantees(outcomes: Sequence[Outcome]) -> str:
    """Return every guarantee that occurs in the certificates, the strongest first, a comma between two."""
    found = {g for outcome in outcomes for run in outcome.runs for g in run.frame["guarantee"].unique()}
    return ", ".join(g for g in (*GUARANTEES, AS_PUBLISHED) if g in found)


def image_choice(idx: Int[np.ndarray, " n"], provenance: Mapping[str, Any]) -> str:
    """Return which images were certified: ``0 to 9980, every 20th``.

    Where their indices follow no rule, as in a test split that was drawn at random, it is their positions in the split.

    Args:
        idx: their indices, increasing.
        provenance: of a run; ``stride``, and ``first`` and ``last`` if they were chosen, say the positions.
    """
    steps = np.unique(np.diff(idx)).tolist()
    if len(steps) < 2:
        return _span(f"{idx[0]} to {idx[-1]}", steps[0] if steps else 1)
    if "stride" not in provenance:
        return f"some of {idx[0]} to {idx[-1]}"
    first, last = provenance.get("first", 0), provenance.get("last", "the end")
    is_whole = (first, last) == (0, "the end")
    return _span("the whole split" if is_whole else f"positions {first} to {last}", provenance["stride"])


def _span(span: str, step: int) -> str:
    return span if step == 1 else f"{span}, every {_ordinal(step)}"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number // 10 % 10 != 1 else "th"
    return f"{number}{ending}"


def paired(first: Outcome, second: Outcome) -> tuple[Outcome, Outcome]:
    """Return two outcomes on the images that both have, with as many training seeds as both have: the first ones.

    A mean over more seeds wins and loses less often against one of fewer, whatever the methods are worth.
    """
    if len(first.runs) == len(second.runs) and np.array_equal(first.idx, second.idx):
        return first, second
    seeds, common = min(len(first.runs), len(second.runs)), np.intersect1d(first.idx, second.idx)

    def shared(outcome: Outcome) -> Outcome:
        runs = [replace(run, frame=run.frame[run.frame["idx"].isin(common)]) for run in outcome.runs[:seeds]]
        return _outcome(outcome.setting, runs)

    return shared(first), shared(second)


def collect(runs: Sequence[CertifiedRun], split: Split) -> tuple[Method, ...]:
    """Group the runs on one split by method and setting; methods in the order in which they first appear.

    Args:
        runs: of any methods, settings, seeds and splits.
        split: the runs on the other split are ignored.

    Raises:
        ConfigError: two runs are the same, a method has two labels, two methods have the same, or seeds differ
            between settings, or certification seeds between training seeds.
        CountsError: two runs of one method differ in images, two runs in the label of an image or in one of `SHARED`,
            or an image has no label.
    """
    chosen = [run for run in runs if run.split == split]
    for run in chosen:
        _check_complete(run)
    for kind in ("measured", "derived"):
        alike = [run for run in chosen if run.kind == kind]
        check_alike(alike, [{key: run.provenance[key] for key in SHARED[kind]} for run in alike])
    _check_images(chosen)
    check_given_once(chosen)
    groups: dict[str, dict[Setting, list[CertifiedRun]]] = {}
    for run in chosen:
        groups.setdefault(run.method, {}).setdefault(setting_of(run), []).append(run)
    # A file of others is one classifier: `paired` compares it with one.
    every = [found for settings in groups.values() for found in settings.values()]
    _check_same_seeds([found for found in every if found[0].kind == "measured"])
    methods: dict[str, Method] = {}
    for key, settings in groups.items():
        method = _method(key, settings)
        if (other := methods.setdefault(method.label, method)) is not method:
            raise ConfigError(f"{key}: label {method.label!r} is also that of {other.key}; must be unique")
    return tuple(methods.values())


def _check_same_seeds(settings: Sequence[Sequence[CertifiedRun]]) -> None:
    """Raise ConfigError unless all settings have the same training seeds, and these the same certification seeds.

    Means over different numbers of seeds are not alike even if the methods are: a paired test would see it.
    """
    trained = [{"list of training seeds": list(dict.fromkeys(run.seed for run in _by_seed(f)))} for f in settings]
    check_alike([found[0] for found in settings], trained, ConfigError)
    of_model: dict[tuple[int, int | None], list[CertifiedRun]] = {}
    for number, found in enumerate(settings):
        for run in _by_seed(found):
            of_model.setdefault((number, run.seed), []).append(run)
    certified = [{"list of certification seeds": [run.certification_seed for run in f]} for f in of_model.values()]
    check_alike([found[0] for found in of_model.values()], certified, ConfigError)


def setting_of(run: CertifiedRun) -> Setting:
    """Return what was chosen for a run."""
    return Setting(float(run.sigma), tuple(sorted(run.grid.items())))


RunKey = tuple[str, Setting, int | None, int | None, str]


def key_of(run: CertifiedRun) -> RunKey:
    """Return which run it is."""
    return run.method, setting_of(run), run.seed, run.certification_seed, run.split


def name_of(run: CertifiedRun) -> str:
    """Return how errors call a run."""
    made = f"{run.provenance['file']}" if run.kind == "derived" else f"seed {run.seed}, {run.split}"
    return f"{run.method}, sigma {setting_of(run)}, {made}"


def check_given_once(runs: Sequence[CertifiedRun]) -> None:
    """Raise ConfigError if two runs are the same."""
    times = Counter(map(key_of, runs))
    for run in runs:
        if times[key_of(run)] > 1:
            raise ConfigError(f"{name_of(run)}: given twice; must be one per method, sigma, grid, seeds and split")


def check_alike(
    runs: Sequence[CertifiedRun], told: Sequence[Mapping[str, object]], error: type[CertsmoothError] = CountsError
) -> None:
    """Raise an error unless what is told of each run is told of the first."""
    for run, entries in zip(runs, told, strict=True):
        for what, value in entries.items():
            if value != (first := told[0][what]):
                raise error(f"{name_of(run)}: {what} is {value}, but {first} for {name_of(runs[0])}; must be the same")


def _method(key: str, settings: Mapping[Setting, Sequence[CertifiedRun]]) -> Method:
    runs = [run for found in settings.values() for run in found]
    policies = [(run.label, run.train, run.certify) for run in runs]
    check_alike(runs, [{"label, train and certify": each} for each in policies], ConfigError)
    outcomes = [_outcome(setting, found) for setting, found in settings.items()]
    return Method(key, *policies[0], tuple(sorted(outcomes, key=lambda outcome: outcome.setting.sigma)))


def _outcome(setting: Setting, found: Sequence[CertifiedRun]) -> Outcome:
    runs = tuple(_by_seed(found))
    frames = [run.frame.sort_values("idx") for run in runs]
    return Outcome(
        setting,
        runs,
        frames[0]["idx"].to_numpy(dtype=np.int64),
        np.stack([frame["correct"].to_numpy(dtype=bool) for frame in frames]),
        np.stack([frame["radius"].to_numpy(dtype=np.float64) for frame in frames]),
    )


def _by_seed(runs: Iterable[CertifiedRun]) -> list[CertifiedRun]:
    return sorted(runs, key=lambda run: (run.seed or 0, run.certification_seed or 0))


def _listed(seeds: Sequence[int | None]) -> str | None:
    return None if None in seeds else " ".join(map(str, seeds))


def _check_complete(run: CertifiedRun) -> None:
    """Raise CountsError unless a run has labelled images, and says all that a table tells."""
    name, idx, label = name_of(run), run.frame["idx"], run.frame["label"]
    if idx.duplicated().any():
        raise CountsError(f"{name}: idx {idx[idx.duplicated()].iloc[0]} occurs twice; must be unique")
    if (label < 0).any():
        raise CountsError(f"{name}: {(label < 0).sum()} images without a label; a table needs all labels")
    if len(idx) < 2:
        raise CountsError(f"{name}: {len(idx)} image; an interval needs at least 2")
    if missing := [key for key in TOLD[run.kind] if key not in run.provenance]:
        raise CountsError(f"{name}: provenance lacks {', '.join(missing)}; must have it")


def _check_images(runs: Sequence[CertifiedRun]) -> None:
    """Raise CountsError unless runs of a method have the same images, and all runs one label for each image."""
    first: dict[str, CertifiedRun] = {}
    for run in runs:
        others = [first[run.method]] if run.method in first else list(first.values())
        other = first.setdefault(run.method, run)
        unpaired = np.setxor1d(run.frame["idx"], other.frame["idx"])
        if len(unpaired):
            raise CountsError(
                f"{name_of(run)}: idx {unpaired[0]} is in only one of this run and {name_of(other)}; "
                "all runs of a method on one split must certify the same images"
            )
        for each in others:
            _check_labels(run, each)


def _check_labels(run: CertifiedRun, other: CertifiedRun) -> None:
    labels, others = (r.frame.set_index("idx")["label"] for r in (run, other))
    common = labels.index.intersection(others.index)
    differing = common[labels.loc[common].to_numpy() != others.loc[common].to_numpy()]
    if len(differing):
        i = differing[0]
        raise CountsError(
            f"{name_of(run)}: idx {i} has label {labels[i]}, but {others[i]} in {name_of(other)}; must be the same: "
            f"{len(differing)} of {len(common)} images in both differ, as in another order or data set"
        )
