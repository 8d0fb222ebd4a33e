"""What each artefact is: one frozen description.

From it follow the artefact's path, the identity that stands in its file, the parameters of the rule that makes it, and
what the step that makes it does: nothing else describes it. A step that reads an artefact compares the whole identity
in the file with the one that it asks for, so that nothing of another run passes for this one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from certsmooth._internal.external import Architecture, packages_of
from certsmooth._internal.later import LATER, is_said
from certsmooth.errors import ConfigError

Split = Literal["test", "validation", "training"]
NumericType = Literal["float32", "tf32", "bfloat16"]
Arrival = Literal["test_order", "shuffled"]
"""The order in which the images of a split enter a memory."""
SPLITS: tuple[Literal["test", "validation"], ...] = ("test", "validation")
"""Those that tables are about; training images are certified for what is trained on the certificates."""

Option = bool | int | float | str | None
GridPoint = tuple[tuple[str, Option], ...]
"""The values of the options that are lists in params.yaml."""

_LONGEST_NAME = 200  # 255 are possible, of which journals and temporary files take some

N_BEFORE = "n_before"
"""In the identity of counts that a rule stopped: each other n of which samples were there to look at, so that n_max was
not fixed before the first sample."""

_WHERE = {"where": True}
"""Marks a field that says where a thing lies and not what it is: it is in no identity."""


def grid_name(point: GridPoint) -> str:
    """Return a grid point as one part of a path: ``iterations=100``; ``default`` if no option is a list.

    Several options are joined by a plus sign: at a comma, Snakemake would take a job that it submits apart.
    """
    return "+".join(f"{key}={value}" for key, value in point) or "default"


def plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return a value as JSON holds it, without fields that say where a thing lies; an infinite number as text."""
    if isinstance(value, Spec):
        return value.identity
    if is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _plain_fields(value: Any) -> dict[str, Any]:  # noqa: ANN401 - of any dataclass
    told = [(f, getattr(value, f.name)) for f in fields(value) if not f.metadata.get("where")]
    return {f.name: plain(found) for f, found in told if is_said(f.metadata, found)}


@dataclass(frozen=True)
class MemberSpec:
    """A member of a family: its name and its options."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Fold:
    """A part of the training images that a base classifier is not trained on, so that it can be asked about them.

    Attributes:
        number: from 0.
        folds: how many there are.
    """

    number: int
    folds: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.folds}"

    @classmethod
    def named(cls, name: str) -> Fold:
        """Return the fold that a grid point calls so."""
        return cls(*map(int, name.split("-of-")))

    def positions(self, images: int) -> npt.NDArray[np.int64]:
        """Return where its images are among so many."""
        return np.arange(self.number, images, self.folds, dtype=np.int64)


class Spec:
    """Base of the specs."""

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the artefact is, as JSON holds it."""
        return _plain_fields(self)

    @cached_property
    def key(self) -> str:
        """Equal for specs of equal identity."""
        return json.dumps(self.identity, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Sourced(Spec):
    """Base of the specs of what is made from a source.

    Attributes:
        source: a file or folder; None for the data set's own images.
    """

    source: str | None = field(metadata=_WHERE)

    @property
    def asked(self) -> dict[str, Any]:
        """What the rule that makes it runs again for: the identity, and another source."""
        return {**self.identity, "source": self.source}


@dataclass(frozen=True, kw_only=True)
class DataSpec(Sourced):
    """A data set and how it is divided; the rest as in `certsmooth.experiment.config.DatasetParams`.

    Attributes:
        dataset: the name of the entry.
        unlabelled: share of the rest whose labels are not used; None for none.
        seed: of both choices.
    """

    dataset: str
    member: str
    options: Mapping[str, Any]
    validation: float
    unlabelled: float | None
    seed: int

    @property
    def path(self) -> Path:
        """Of the record, below the folder of the results."""
        return Path("data", f"{self.dataset}.json")


@dataclass(frozen=True, kw_only=True)
class TrainSpec(Spec):
    """A base classifier; the rest as in `DatasetParams` and `Training` of `certsmooth.experiment.config`.

    Attributes:
        data: what it is trained on.
        training: the name of the entry.
        sigma: sigma0 of the training noise, in pixel coordinates [0, 1].
        seed: of initialisation, order and noise.
        start: the training whose weights it starts from.
        start_file: a checkpoint whose weights it starts from.
        denoiser: a member of certsmooth.science.denoisers in front of the network that it starts from, which is fixed.
        labels: of the unlabelled images, which are trained on as well (self-training).
        label_weight: of these images in the loss; the others have 1.
        grid: the point of the options that are lists, which names the folder.
        given: the file of one that was trained elsewhere, None for one that is trained here. It has neither objective,
            policy nor noise, and the normalisation that its file says.
        fold: of the training images, that it is not trained on; None for none.
        routes: the labels of the training images for a router; None for a classifier of the data.
    """

    data: DataSpec
    training: str
    sigma: float
    seed: int
    architecture: Architecture
    normalisation: Mapping[str, Any] | None
    numeric_type: NumericType
    channels_last: bool
    recipe: Mapping[str, Any]
    objective: MemberSpec | None
    policy: MemberSpec | None
    noise: str | None
    start: TrainSpec | None
    start_file: str | None
    labels: LabelSpec | None
    label_weight: float
    grid: GridPoint = field(metadata=_WHERE)
    denoiser: MemberSpec | None = field(default=None, metadata={LATER: None})
    given: str | None = field(default=None, metadata=_WHERE)
    fold: Fold | None = field(default=None, metadata={LATER: None})
    routes: RoutesSpec | None = field(default=None, metadata={LATER: None})

    @property
    def name(self) -> str:
        """Of the run: ``digits/gaussian/sigma=0.25/seed=0/default``."""
        return f"{self.data.dataset}/{self.training}/sigma={self.sigma!r}/seed={self.seed}/{grid_name(self.grid)}"

    @property
    def trusted(self) -> tuple[str, ...]:
        """The packages whose code may run to build it: params.yaml says so (`Params.trusted`)."""
        return packages_of(self.architecture)

    @property
    def path(self) -> Path:
        """Of the checkpoint, below the folder of the results."""
        return Path("checkpoints", self.name, "model.safetensors")

    @property
    def log_path(self) -> Path:
        """Of the log of the epochs."""
        return self.path.with_name("training.csv")


@dataclass(frozen=True, kw_only=True)
class LabelSpec(Sourced):
    """The labels that a base classifier gives the unlabelled images (SmoothAdv, Section 4.2).

    Attributes:
        teacher: the base classifier.
    """

    teacher: TrainSpec

    @property
    def path(self) -> Path:
        """Of the labels, below the folder of the results."""
        return self.teacher.path.with_name("pseudo_labels.json")


@dataclass(frozen=True, kw_only=True)
class RoutesSpec(Spec):
    """The labels that experts give the training images for a router (dual smoothing): which has the largest radius.

    Attributes:
        data: whose training images.
        training: the name of the entry that they are for.
        seed: of the experts' training.
        experts: in the order of the router's classes, the certificates of the images; one a fold.
    """

    data: DataSpec
    training: str
    seed: int
    experts: tuple[tuple[CertifySpec, ...], ...]

    @property
    def labelling(self) -> tuple[CertifySpec, ...]:
        """All certificates of the training images."""
        return tuple(each for folds in self.experts for each in folds)

    @property
    def path(self) -> Path:
        """Of the labels, below the folder of the results."""
        return Path("checkpoints", self.data.dataset, self.training, f"seed={self.seed}", "routes.json")


@dataclass(frozen=True)
class StopSpec:
    """When an image needs no more samples.

    Attributes:
        rule: a member of certsmooth.science.stopping.
        certificate: a member of certsmooth.science.certificates, whose radii the rule is about.
        alpha: the probability of error of these.
    """

    rule: MemberSpec
    certificate: MemberSpec
    alpha: float


@dataclass(frozen=True, kw_only=True)
class SampleSpec(Spec):
    """The counts of one base classifier under one sigma policy on one split of the data.

    Attributes:
        base: the base classifier.
        split: test or validation.
        policy: sigma(x).
        noise: a member of certsmooth.science.noise.
        step: of the pixels, that noisy images are rounded to; None for float32 noise.
        n0: selection samples.
        n: estimation samples; with a rule, at most so many.
        stride: every stride-th image.
        seed: of all noise.
        first: the first image.
        last: the last image that may be one of them; None for that of the split.
        stop: a rule; None for n samples of every image.
    """

    base: TrainSpec
    split: Split
    policy: MemberSpec
    noise: str
    step: str | None
    n0: int
    n: int
    stride: int
    seed: int
    first: int = field(default=0, metadata={LATER: 0})
    last: int | None = field(default=None, metadata={LATER: None})
    stop: StopSpec | None = field(default=None, metadata={LATER: None})


@dataclass(frozen=True, kw_only=True)
class CertifySpec(Spec):
    """The certificates of one run on one split.

    Attributes:
        sampled: the counts that they follow from.
        certificate: a member of certsmooth.science.certificates.
        alpha: each is wrong with at most this probability.
        memory: the order in which images enter the memory pass that follows (DDRS, Section 3.5); None: no memory.
        seed: the experiment's: of that order, if it is shuffled, whatever the certification seed.
        grid: the point of the options that are lists, of training and policy.
        counts: the files that hold the counts, one a shard, below the folder of the results.
        router: what a router chooses between, if the counts are one's; None for a smoothed classifier by itself.
    """

    sampled: SampleSpec
    certificate: MemberSpec
    alpha: float
    memory: Arrival | None
    seed: int
    grid: GridPoint = field(metadata=_WHERE)
    counts: tuple[Path, ...] = field(metadata=_WHERE)
    router: RouterSpec | None = field(default=None, metadata={LATER: None})

    @property
    def parts(self) -> tuple[CertifySpec, ...]:
        """All smoothed classifiers that it is about: itself, or router and experts."""
        return (self, *(self.router.experts if self.router else ()))

    @property
    def place(self) -> str:
        """Of the run among those of its method: ``sigma=0.25/seed=0/default``; other certification seeds below it."""
        run = f"sigma={self.sampled.base.sigma!r}/seed={self.sampled.base.seed}/{grid_name(self.grid)}"
        return run if self.sampled.seed == self.seed else f"{run}/certification_seed={self.sampled.seed}"


@dataclass(frozen=True, kw_only=True)
class RouterSpec(Spec):
    """What a router chooses between (dual smoothing; `certsmooth.science.dual`).

    Attributes:
        experts: in the order of the router's classes; alpha is that of router and experts together.
        router_share: of alpha, that the router may err with.
        others_share: of alpha, that experts may err with where it is used that all of them agree.
    """

    experts: tuple[CertifySpec, ...]
    router_share: float
    others_share: float


@dataclass(frozen=True, kw_only=True)
class AttackSpec(Spec):
    """An attack on one run, and PREDICT at what it found.

    Attributes:
        sampled: the counts of the images that are attacked.
        name: of the attack: PREDICT's noise depends on it.
        attack: a member of certsmooth.science.attacks, without epsilon.
        samples: numbers of noise samples that the attack sees; 0 for none.
        radii: its epsilon, each.
        n: samples of PREDICT.
        stride: every stride-th of the sampled images.
        seed: of all noise.
        counts: the files that hold the counts, one a shard, below the folder of the results.
    """

    sampled: SampleSpec
    name: str
    attack: MemberSpec
    samples: tuple[int, ...]
    radii: tuple[float, ...]
    n: int
    stride: int
    seed: int
    counts: tuple[Path, ...] = field(metadata=_WHERE)


@dataclass(frozen=True, kw_only=True)
class OrderSpec(Spec):
    """What a memory costs one run, by the order of arrival.

    Attributes:
        certified: the certificates; the cost is that of a memory after them, whether they have one or not.
        radii: at which certified accuracy is given.
        shuffles: random orders.
    """

    certified: CertifySpec
    radii: tuple[float, ...]
    shuffles: int


@dataclass(frozen=True, kw_only=True)
class BreakSpec(Spec):
    """An attack on the certificates of one run, as they are before any memory pass.

    Attributes:
        certified: the certificates.
        n: samples of PREDICT.
        stride: every stride-th of the sampled images.
        seed: of all noise.
        router_alpha: that PREDICT of a router may err with, if there is one.
    """

    certified: CertifySpec
    n: int
    stride: int
    seed: int
    router_alpha: float | None = field(default=None, metadata={LATER: None})


S = TypeVar("S", bound=Spec)


@dataclass(frozen=True, kw_only=True)
class Batch(Generic[S]):
    """Artefacts that one job makes and one file holds, as its parts: runs of one method on one data set.

    Attributes:
        dataset: a key of ``datasets``.
        method: a key of ``methods``.
        seeds: training seeds.
        parts: what the file holds.
        shards: files that the images of each part are divided among.

    Raises:
        ConfigError: there are so many seeds that no file could be named after them.
    """

    dataset: str
    method: str
    seeds: tuple[int, ...]
    parts: tuple[S, ...]
    shards: int = 1

    def __post_init__(self) -> None:
        if len(Path(self.name).name) > _LONGEST_NAME:
            raise ConfigError(
                f"training_seeds: {len(self.seeds)} of {self.dataset}/{self.method}; must be fewer: "
                f"files are named after them, by at most {_LONGEST_NAME} characters"
            )

    @property
    def name(self) -> str:
        """Its folder, and what the command line calls it: ``digits/cohen/seed=0``; several seeds are ``seed=1+2+3``."""
        return f"{self.dataset}/{self.method}/seed={'+'.join(map(str, self.seeds))}"

    @property
    def identity(self) -> list[dict[str, Any]]:
        """What the parts are."""
        return [part.identity for part in self.parts]


def counts_paths(batch: Batch[SampleSpec]) -> tuple[Path, ...]:
    """Return the files of counts, one a shard, below the folder of the results."""
    return tuple(counts_path(batch.name, shard, batch.shards) for shard in range(batch.shards))


def counts_path(name: str, shard: int | str, shards: int | str) -> Path:
    """Return the file of one shard's counts, below the folder of the results; see `Batch.name`."""
    return Path("counts", name, f"{shard}-of-{shards}.parquet")


def certificates_path(name: str) -> Path:
    """Return the file of certificates, below the folder of the results; see `Batch.name`."""
    return Path("certificates", f"{name}.parquet")


def audit_path(table: str, name: str, file: str) -> Path:
    """Return the file of an audit or attack for a table, below the folder of the results; see `Batch.name`."""
    return Path("audits", table, name, file)


def sources(sampled: SampleSpec, record: Mapping[str, Any], checkpoint_digest: str) -> dict[str, Any]:
    """Return what counts must say that they are of: their spec, the images and the base classifier's file."""
    return {
        "spec": sampled.identity,
        "fingerprint": record["parts"][sampled.split]["fingerprint"],
        "checkpoint": checkpoint_digest,
    }
