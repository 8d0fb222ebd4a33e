"""params.yaml -> frozen dataclasses: the structure of the experiment, checked before anything runs.

This module imports no numerical library, so that the workflow can read the configuration at once. The options of the
members (models, objectives, sigma policies, recipes) are checked by `certsmooth.experiment.members`, which builds each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails, PydanticCustomError

from certsmooth._internal.checks import (
    LARGEST_INTEGER,
    MAX_SAMPLES,
    check_alpha,
    check_integer,
    check_samples,
    number_meant,
    whole_number_meant,
)
from certsmooth._internal.registry import names
from certsmooth.errors import ConfigError, nearest
from certsmooth.experiment.library import SHORT, Content, read_content
from certsmooth.experiment.like import modified

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # names become parts of paths and of commands
_NAME_FORM = "at most 100 letters, digits, '_', '-' and '.', a letter or digit first"


def _option(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        valid = validate(value)
    except ValidationError:  # one line, not one for each type that it is not
        right = "must be a number, text, true, false or null, or a list of these"
        raise PydanticCustomError("option", right) from None
    # The text of an option chooses among names; the values of one that is a list become names of folders.
    each_value = valid if isinstance(valid, tuple) else (valid,)
    for each in each_value:
        if isinstance(each, str) and not _NAME.fullmatch(each):
            meant = whole_number_meant(each) or number_meant(each)
            right = f"must be a number{meant}" if meant else f"text must be {_NAME_FORM}"
            raise PydanticCustomError("option", "{right}", {"right": right})
    return valid


def _file(value: str) -> str:
    """A file may lie anywhere. Its name reaches commands, where Snakemake would take what is in braces for its own."""
    if not value.isprintable() or value[:1] in ("", "-", "~") or {*value} & {*"{}"} or len(value) > _LONGEST_FILE:
        right = "must be a path: printable, without braces, at most {longest} characters, the first neither '-' nor '~'"
        raise PydanticCustomError("file", right, {"longest": _LONGEST_FILE})
    return value


def _text(value: str) -> str:
    """Text for people: in tables '|' ends a column; in figures '$' starts a formula, and '_' in front hides a label."""
    bad = not value.isprintable() or not value.strip() or value.startswith("_") or {*value} & {*"|$"}
    if bad or len(value) > _LONGEST_TEXT:
        right = (
            "must be a line of printable text without '|' and '$', not starting with '_', at most {longest} characters"
        )
        raise PydanticCustomError("text", right, {"longest": _LONGEST_TEXT})
    return value


def _step(value: str) -> str:
    if not re.fullmatch(r"1/[1-9][0-9]{0,5}", value):
        raise PydanticCustomError("step", "must be 1 divided by a whole number up to 999999, as 1/255")
    return value


_LONGEST_FILE, _LONGEST_TEXT = 1000, 200
_SIGMAS = 1e-6, 1e6  # beyond these, noise in single precision is not Gaussian, or overflows in a network

# Read as they stand: text is no number, a boolean no number, a number no boolean.
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
File = Annotated[str, AfterValidator(_file)]
Text = Annotated[str, AfterValidator(_text)]
Step = Annotated[str, AfterValidator(_step)]
_STRICT = ConfigDict(extra="forbid", strict=False)
Option = bool | int | float | str | None
Options = Mapping[str, Annotated[Option | tuple[Option, ...], WrapValidator(_option)]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Member:
    """A member of a family and its options."""

    name: str = Field(description="of the member")
    options: Options = Field(
        default_factory=dict,
        description="by name; where a list is allowed, it makes one training or certification per value",
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Certification:
    """How images are certified."""

    n0: Whole = Field(description="selection samples")
    n: Whole = Field(description="estimation samples")
    alpha: Number = Field(description="each certificate is wrong with at most this probability")
    stride: Whole = Field(default=1, description="every stride-th image of the test split")
    shards: Whole = Field(default=1, description="jobs that the sampling of a part of the data is split into")

    def __post_init__(self) -> None:
        for name, most in (("n0", MAX_SAMPLES), ("n", MAX_SAMPLES), ("stride", LARGEST_INTEGER), ("shards", 10_000)):
            check_integer(name, getattr(self, name), minimum=1, maximum=most)
        check_alpha(self.alpha)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Short:
    """Keys of params.yaml that are short for longer ones: of the data set that the tables are about."""

    sigmas: tuple[Number, ...] | None = Field(
        default=None,
        description="short for datasets.NAME.sigmas, where NAME is what ``dataset`` says; null: as the data set says",
    )
    n0: Whole | None = Field(
        default=None,
        description="short for datasets.NAME.certification.n0; null: as the data set says",
    )
    n: Whole | None = Field(
        default=None,
        description="short for datasets.NAME.certification.n; null: as the data set says",
    )
    alpha: Number | None = Field(
        default=None,
        description="short for datasets.NAME.certification.alpha; null: as the data set says",
    )

    def __post_init__(self) -> None:
        _check_sigmas_and_radii(self.sigmas, None)
        for name in ("n0", "n"):
            if (value := getattr(self, name)) is not None:
                check_integer(name, value, minimum=1, maximum=MAX_SAMPLES)
        if self.alpha is not None:
            check_alpha(self.alpha)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Unlabelled:
    """Images without labels (SmoothAdv, Section 4.2): a share of the training split, or a file."""

    share: Number | None = Field(
        default=None,
        description="of each class of the training split, without the validation part; no training sees these labels",
    )
    source: File | None = Field(default=None, description=".npz with ``images``, uint8 [n, h, w, c] or [n, c, h, w]")

    def __post_init__(self) -> None:
        if (self.share is None) == (self.source is None):
            raise ValueError(f"unlabelled: share {self.share}, source {self.source!r}; must be one of the two")
        if self.share is not None and not 0 < self.share < 1:
            raise ValueError(f"share: {self.share}; must be in (0, 1)")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainingChanges:
    """What differs from a training on one data set."""

    recipe: Options = Field(default_factory=dict, description="fields of the recipe")
    objective: Options = Field(default_factory=dict, description="options of the objective")
    policy: Options = Field(default_factory=dict, description="options of the policy")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class MethodChanges:
    """What differs from a method on one data set."""

    policy: Options = Field(default_factory=dict, description="options of the policy")
    certification: Options = Field(default_factory=dict, description="fields of the certification")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DatasetParams:
    """One data set: where it comes from, what is trained on it, how it is certified."""

    source: File | None = Field(default=None, description="a local copy; null for the data set's own way")
    options: Options = Field(default_factory=dict, description="of the data set's member")
    validation: Number = Field(description="share of the training split that is held back to choose sigma and K")
    sigmas: tuple[Number, ...] = Field(description="the noise levels trained and certified")
    radii: tuple[Number, ...] = Field(
        description="at which tables give certified accuracy, in pixel coordinates [0, 1]",
    )
    architecture: str = Field(description="a member of certsmooth.science.models")
    normalisation: Mapping[str, tuple[Number, ...]] | None = Field(
        default=None,
        description="mean and std per channel, the first layer of the model; null for none",
    )
    step: Step | None = Field(
        default=None,
        description=(
            "of the pixels, 1/255 for images of 8 bits: what the base classifier sees in certification is rounded"
            " to multiples of it, and certificates hold for the program that runs; null for float32 noise, whose "
            "certificates hold in real arithmetic only"
        ),
    )
    numeric_type: Literal["float32", "tf32", "bfloat16"] = Field(
        default="float32",
        description="float32, tf32 or bfloat16: part of the base classifier",
    )
    channels_last: Flag = Field(default=False, description="memory format of the base classifier")
    recipe: Options = Field(description="fields of certsmooth.science.training.recipe.Recipe")
    certification: Certification = Field(description="how its images are certified")
    member: str | None = Field(
        default=None,
        description="of science.datasets; null for the one of this entry's name: two entries may be about one data set",
    )
    unlabelled: Unlabelled | None = Field(default=None, description="images for self-training")
    trainings: Mapping[str, TrainingChanges] = Field(
        default_factory=dict,
        description="per training, what differs on this data set",
    )
    methods: Mapping[str, MethodChanges] = Field(
        default_factory=dict,
        description="per method, what differs on this data set",
    )

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise ValueError(f"validation: {self.validation}; must be in (0, 1)")
        _check_sigmas_and_radii(self.sigmas, self.radii)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Start:
    """Weights that a training starts from (pre-training): those of another training, or a checkpoint file."""

    training: str | None = Field(
        default=None,
        description="a key of ``trainings``: the checkpoint of the same data set, sigma and seed",
    )
    checkpoint: File | None = Field(
        default=None,
        description=(
            "a file of the same architecture and image shape; with another number of classes, the layers that "
            "this number shapes start afresh"
        ),
    )

    def __post_init__(self) -> None:
        if (self.training is None) == (self.checkpoint is None):
            found = f"training {self.training!r}, checkpoint {self.checkpoint!r}"
            raise ValueError(f"start: {found}; must be one of the two")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Training:
    """What is trained; an option of the objective or the policy that is a list makes one training per value."""

    objective: Member = Field(description="a member of certsmooth.science.objectives")
    policy: Member = Field(description="the sigma policy of the training noise")
    start: Start | None = Field(default=None, description="weights to start from; null for random ones")
    teacher: str | None = Field(
        default=None,
        description=(
            "a key of ``trainings`` whose classifier labels the unlabelled images, which are then trained on as "
            "well (self-training); null for the labelled images alone"
        ),
    )
    noise: str = Field(default="gaussian", description="a member of certsmooth.science.noise")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Method:
    """One row of a table: a training, and how its classifiers are smoothed and certified."""

    label: Text = Field(description="as the table prints it")
    training: str = Field(description="a key of ``trainings``")
    policy: Member = Field(
        description="sigma policy of the certification; an option that is a list makes one run per value",
    )
    certificate: Member = Field(
        description=(
            "a member of science.certificates. Methods that differ in nothing but this, alpha and memory share "
            "their counts. It says which noise is sampled"
        ),
    )
    memory: Flag = Field(default=False, description="whether the memory pass follows (DDRS, Section 3.5)")
    certification: Options = Field(
        default_factory=dict,
        description="fields of `Certification` that differ from the data set's",
    )

    def __post_init__(self) -> None:
        lists = [name for name, value in self.certificate.options.items() if isinstance(value, tuple)]
        if lists:
            raise ValueError(f"certificate.options.{lists[0]}: a list; must be one value")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Published:
    """Which published rows stand beside ours."""

    paper: str = Field(description="ddrs, smoothadv, adre or idrs")
    table: Whole = Field(description="its number there")
    dataset: str = Field(description="shown where the paper has no rows of the data set that the table is about")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TableSettings:
    """What differs in a table for one choice of ``dataset``; null for what that data set says."""

    dataset: str | None = Field(default=None, description="the entry of ``datasets`` that the table is about instead")
    sigmas: tuple[Number, ...] | None = Field(default=None, description="noise levels")
    radii: tuple[Number, ...] | None = Field(default=None, description="in the norm of the table")

    def __post_init__(self) -> None:
        _check_sigmas_and_radii(self.sigmas, self.radii)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CertifiedTable:
    """One table of certified accuracy."""

    kind: Literal["certified"] = Field(description="certified")
    title: Text = Field(description="its heading")
    methods: tuple[str, ...] = Field(description="its rows")
    baseline: str = Field(description="the row that the others are tested against")
    published: Published | None = Field(default=None, description="rows beside ours")
    norm: Literal["linf"] | None = Field(
        default=None,
        description="linf for the l-infinity radii that the certificates imply; null for theirs",
    )
    settings: Mapping[str, TableSettings] = Field(
        default_factory=dict,
        description="per value of ``dataset``, what differs",
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PublishedNumbers:
    """A published table whose numbers stand below ours."""

    paper: str = Field(description="of the table: idrs")
    table: Whole = Field(description="its number there")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AccuracyTable:
    """One table of clean accuracy, abstention, misclassification and accuracy per class, over training seeds (IDRS)."""

    kind: Literal["accuracy"] = Field(description="accuracy")
    title: Text = Field(description="its heading")
    methods: tuple[str, ...] = Field(
        description="its rows; a method whose policy has an option that is a list has one row per value",
    )
    baseline: str = Field(description="the row that the others are compared with")
    training_seeds: tuple[Whole, ...] | None = Field(
        default=None,
        description="instead of those that the other tables use; null for these",
    )
    datasets: tuple[str, ...] | None = Field(
        default=None,
        description="what the table is about, whatever ``dataset`` says: entries of ``datasets``; null for that one",
    )
    published: tuple[PublishedNumbers, ...] = Field(default=(), description="numbers of a paper")
    settings: Mapping[str, TableSettings] = Field(
        default_factory=dict,
        description="per value of ``dataset``, what differs",
    )

    def __post_init__(self) -> None:
        if self.training_seeds is not None:
            _check_seeds(self.training_seeds)
        if self.datasets is not None and (not self.datasets or len(set(self.datasets)) != len(self.datasets)):
            raise ValueError(f"datasets: {list(self.datasets)}; must be one or more different ones, or null")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ToyFigures:
    """The figures of the toy experiment in the plane (IDRS, Figures 1 and 5 to 9), with the first training seed."""

    dataset: str = Field(description="an entry of ``datasets``: points in the plane. Its sigmas are those of Figure 8")
    constant: str = Field(description="a method with a constant sigma")
    input_dependent: str = Field(
        description="a method with the same training, whose sigma(x) is a function of the point alone",
    )
    sigma: Number = Field(description="of Figure 1, one of the data set's")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SoundnessTable:
    """One table of what certificates promise, what a memory's order costs, and which certificates an attack breaks."""

    kind: Literal["soundness"] = Field(description="soundness")
    title: Text = Field(description="its heading")
    methods: tuple[str, ...] = Field(description="its rows")
    predict: Predict = Field(description="how the attacked points are classified")
    stride: Whole = Field(default=1, description="every stride-th of the certified test images is attacked")
    shuffles: Whole = Field(default=20, description="orders of arrival, besides the given one")
    settings: Mapping[str, TableSettings] = Field(
        default_factory=dict,
        description="per value of ``dataset``, what differs",
    )

    def __post_init__(self) -> None:
        for name in ("stride", "shuffles"):
            check_integer(name, getattr(self, name), minimum=1)
        if not self.methods:
            raise ValueError("methods: none; must be one or more")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PublishedCertificates:
    """A file of certificates in the field's format, and the constant sigma that it does not name."""

    file: File = Field(description="tab-separated: idx, label, predict, radius, correct, time")
    sigma: Number = Field(description="> 0, in pixel coordinates [0, 1]")
    label: Text = Field(description="as the table prints it")

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float("inf"):
            raise ValueError(f"sigma: {self.sigma}; must be finite and above 0")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class HighDimension:
    """What IDRS would certify in high dimension from the p_A of certificates: results/tables/idrs/imagenet.md."""

    method: str | None = Field(
        default=None,
        description="a method with a constant sigma, whose certificates of the chosen data set are used; null for none",
    )
    published: tuple[PublishedCertificates, ...] = Field(default=(), description="files of certificates")
    dimension: Whole = Field(description="N")
    rates: tuple[Number, ...] = Field(description="values of r")
    radii: tuple[Number, ...] = Field(description="at which certified accuracy is given")

    def __post_init__(self) -> None:
        if self.method is None and not self.published:
            raise ValueError("method: null, published: none; must be at least one of the two")
        if not self.rates or any(not 0 <= rate < float("inf") for rate in self.rates):
            raise ValueError(f"rates: {list(self.rates)}; must be one or more finite numbers >= 0")
        shown = [(each.label, each.sigma) for each in self.published]
        if repeated := [each for each in shown if shown.count(each) > 1]:
            label, sigma = repeated[0]
            raise ValueError(f"published: label {label!r} with sigma {sigma} is given twice; must differ")
        check_integer("dimension", self.dimension, minimum=1)
        _check_sigmas_and_radii(None, self.radii)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AttackChoice:
    """An attack on the smoothed classifiers."""

    label: Text = Field(description="as the table prints it")
    attack: Member = Field(
        description="a member of certsmooth.science.attacks, without epsilon: that is each radius of the table",
    )
    samples: tuple[Whole, ...] = Field(
        default=(0,),
        description=(
            "numbers of noise samples that the attack sees (m_test in SmoothAdv, Section 4.3); 0: no noise, the "
            "attack is on the base classifier"
        ),
    )

    def __post_init__(self) -> None:
        if not self.samples or len(set(self.samples)) != len(self.samples):
            raise ValueError(f"samples: {list(self.samples)}; must be one or more different numbers >= 0")
        for each in self.samples:
            check_integer("samples", each, minimum=0)
        if "epsilon" in self.attack.options:
            found = self.attack.options["epsilon"]
            raise ValueError(f"attack.options.epsilon: {found}; must not be given: it is each radius of the table")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Predict:
    """How an attacked image is classified: PREDICT of Cohen et al. 2019."""

    n: Whole = Field(description="samples")
    alpha: Number = Field(
        description=(
            "with at most this probability the answer is neither the smoothed classifier's class nor an abstention"
        ),
    )

    def __post_init__(self) -> None:
        check_samples("n", self.n, minimum=2)
        check_alpha(self.alpha)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EmpiricalTable:
    """One table of certified against empirical accuracy."""

    kind: Literal["empirical"] = Field(description="empirical")
    title: Text = Field(description="its heading")
    methods: tuple[str, ...] = Field(description="what is attacked")
    attacks: Mapping[str, AttackChoice] = Field(description="by name")
    predict: Predict = Field(description="how attacked images are classified")
    stride: Whole = Field(default=1, description="every stride-th of the certified test images is attacked")
    settings: Mapping[str, TableSettings] = Field(
        default_factory=dict,
        description="per value of ``dataset``, what differs",
    )

    def __post_init__(self) -> None:
        check_integer("stride", self.stride, minimum=1)
        for name in ("methods", "attacks"):
            if not getattr(self, name):
                raise ValueError(f"{name}: none; must be one or more")
        _check_names("attacks", self.attacks)


AnyTable = CertifiedTable | AccuracyTable | EmpiricalTable | SoundnessTable
KINDS: Mapping[str, type[AnyTable]] = {
    "certified": CertifiedTable,
    "accuracy": AccuracyTable,
    "empirical": EmpiricalTable,
    "soundness": SoundnessTable,
}
K = TypeVar("K", CertifiedTable, AccuracyTable, EmpiricalTable, SoundnessTable)


def rows_of(table: AnyTable) -> tuple[str, ...]:
    """Return the methods that a table shows: its rows, and the baseline if that is none of them."""
    baseline = (table.baseline,) if isinstance(table, CertifiedTable | AccuracyTable) else ()
    return tuple(dict.fromkeys((*table.methods, *baseline)))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Params:
    """All of params.yaml."""

    dataset: str = Field(description="the data set that the tables are about; a key of ``datasets``")
    seed: Whole = Field(description="of the validation split, the certification noise and the memory's order")
    training_seeds: tuple[Whole, ...] = Field(description="one base classifier per seed")
    datasets: Mapping[str, DatasetParams] = Field(description="by name")
    trainings: Mapping[str, Training] = Field(description="by name")
    methods: Mapping[str, Method] = Field(description="by name")
    tables: Mapping[str, Annotated[AnyTable, Field(discriminator="kind")]] = Field(
        description="by the name of their file in results/tables"
    )
    toy: ToyFigures | None = Field(default=None, description="the figures of IDRS's toy experiment; null for none")
    high_dimension: HighDimension | None = Field(
        default=None,
        description="what IDRS would certify in the dimension of ImageNet; null for nothing",
    )

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, minimum=0)
        _check_seeds(self.training_seeds)
        for section in ("datasets", "trainings", "methods"):
            _check_names(section, getattr(self, section))
        _known("dataset", self.dataset, self.datasets)
        for name, dataset in self.datasets.items():
            self._check_dataset(f"datasets.{name}", name, dataset)
        for name, chosen in self.trainings.items():
            self._check_training(f"trainings.{name}", chosen)
        for name, method in self.methods.items():
            _known(f"methods.{name}.training", method.training, self.trainings)
            _known(f"methods.{name}.policy.name", method.policy.name, names("sigma"))
            _known(f"methods.{name}.certificate.name", method.certificate.name, names("certificates"))
        _check_names("tables", self.tables)
        for name, table in self.tables.items():
            self._check_table(f"tables.{name}", table)
        if self.toy is not None:
            self._check_toy(self.toy)
        if self.high_dimension is not None and self.high_dimension.method is not None:
            _known("high_dimension.method", self.high_dimension.method, self.methods)

    def of_kind(self, kind: type[K]) -> Mapping[str, K]:
        """Return the tables of one kind, by name."""
        return {name: table for name, table in self.tables.items() if isinstance(table, kind)}

    def _check_toy(self, toy: ToyFigures) -> None:
        _known("toy.dataset", toy.dataset, self.datasets)
        _known("toy.constant", toy.constant, self.methods)
        _known("toy.input_dependent", toy.input_dependent, self.methods)
        if toy.sigma not in self.datasets[toy.dataset].sigmas:
            known = list(self.datasets[toy.dataset].sigmas)
            raise ValueError(f"toy.sigma: {toy.sigma}; must be one of datasets.{toy.dataset}.sigmas, {known}")

    def _check_table(self, key: str, table: AnyTable) -> None:
        for method in table.methods:
            _known(f"{key}.methods", method, self.methods)
        if isinstance(table, CertifiedTable | AccuracyTable):
            _known(f"{key}.baseline", table.baseline, self.methods)
        first: dict[str, str] = {}
        for method in rows_of(table):
            if (other := first.setdefault(label := self.methods[method].label, method)) != method:
                raise ValueError(f"{key}.methods: {other!r} and {method!r} have the label {label!r}; must differ")
        for dataset, changes in table.settings.items():
            _known(f"{key}.settings", dataset, self.datasets)
            _known(f"{key}.settings.dataset", changes.dataset or dataset, self.datasets)
        if isinstance(table, AccuracyTable):
            for dataset in table.datasets or ():
                _known(f"{key}.datasets", dataset, self.datasets)
        if isinstance(table, EmpiricalTable):
            for attack, choice in table.attacks.items():
                _known(f"{key}.attacks.{attack}.attack.name", choice.attack.name, names("attacks"))

    def _check_dataset(self, key: str, name: str, dataset: DatasetParams) -> None:
        if dataset.member is None:
            _known(key, name, names("datasets"))
        else:
            _known(f"{key}.member", dataset.member, names("datasets"))
        _known(f"{key}.architecture", dataset.architecture, names("models"))
        for training in dataset.trainings:
            _known(f"{key}.trainings", training, self.trainings)
        for method in dataset.methods:
            _known(f"{key}.methods", method, self.methods)
        for method, chosen in self.methods.items():
            changes = dataset.methods.get(method, MethodChanges()).certification
            base = merge_certification(
                dataset.certification, chosen.certification, key=f"methods.{method}.certification"
            )
            merge_certification(base, changes, key=f"{key}.methods.{method}.certification")

    def _check_training(self, key: str, chosen: Training) -> None:
        _known(f"{key}.objective.name", chosen.objective.name, names("objectives"))
        _known(f"{key}.policy.name", chosen.policy.name, names("sigma"))
        _known(f"{key}.noise", chosen.noise, names("noise"))
        before = {"start.training": chosen.start.training if chosen.start else None, "teacher": chosen.teacher}
        for part, needed in before.items():
            if needed is None:
                continue
            _known(f"{key}.{part}", needed, self.trainings)
            if self.trainings[needed].start or self.trainings[needed].teacher:
                raise ValueError(f"{key}.{part}: {needed!r}; must be a training with neither start nor teacher")


def _check_names(section: str, given: Collection[str]) -> None:
    for name in given:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{section}: bad name {_short(name)}; must be {_NAME_FORM}")


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"training_seeds: {list(seeds)}; must be one or more different whole numbers >= 0")
    for seed in seeds:
        check_integer("training_seeds", seed, minimum=0)


def _check_sigmas_and_radii(sigmas: Sequence[float] | None, radii: Sequence[float] | None) -> None:
    """Check what is given of the two."""
    least, most = _SIGMAS
    if sigmas is not None and (not sigmas or any(not least <= sigma <= most for sigma in sigmas)):
        raise ValueError(f"sigmas: {list(sigmas)}; must be one or more numbers > 0, from {least:g} to {most:g}")
    if sigmas is not None and len(set(sigmas)) != len(sigmas):
        raise ValueError(f"sigmas: {list(sigmas)}; must differ")
    if radii is not None and (not radii or any(not 0 <= radius < float("inf") for radius in radii)):
        raise ValueError(f"radii: {list(radii)}; must be one or more numbers >= 0")


def merge_certification(base: Certification, changes: Options, *, key: str) -> Certification:
    """Return ``base`` with some fields changed.

    Raises:
        ConfigError: an unknown field or a bad value; the message starts with ``key``.
    """
    return _merged(base, tuple((name, type(value), value) for name, value in changes.items()), key) if changes else base


@cache
def _merged(base: Certification, changes: tuple[tuple[str, type, object], ...], key: str) -> Certification:
    # Kept, as a workflow's graph asks thousands of times; by types as well: 1 equals true.
    merged = {f.name: getattr(base, f.name) for f in fields(base)} | {name: value for name, _, value in changes}
    return _build(Certification, merged, lambda message: f"{key}: {message}")


def read_params(path: Path) -> Params:
    """Read params.yaml and the library beside it (`certsmooth.experiment.library`), and check them.

    Raises:
        ConfigError: a file is missing or not YAML, or a key or value is wrong; the message names the file, the key, the
            value and the nearest valid one.
    """
    content = read_content(path)
    _build(Short, {key: content.own[key] for key in SHORT if key in content.own}, content.located)
    return _params(content.whole(), content.located)


def parse_params(content: Mapping[str, Any], *, name: str = "params") -> Params:
    """Check the content of a params.yaml that needs no library, as `read_params` does."""
    only = Content(name, content, {}, {})
    return _params(only.whole(), only.located)


def _params(content: Mapping[str, Any], located: Callable[[str], str]) -> Params:
    try:
        content = modified(content)
    except ConfigError as error:
        raise ConfigError(located(str(error))) from error
    return _build(Params, content, located)


def _build(cls: type[T], content: Mapping[str, Any], located: Callable[[str], str]) -> T:
    try:
        return TypeAdapter(cls).validate_python(dict(content))
    except ValidationError as error:
        problems: dict[object, str] = {}
        for item in error.errors():
            # Once for all entries that have it from the first, since they are like it.
            found = "" if item["type"] == "value_error" else repr(item["input"])
            mistake = (item["loc"][:1], item["loc"][2:], item["msg"], found)
            problems.setdefault(mistake, located(_explain(cls, item)))
        lines = list(dict.fromkeys(problems.values()))
        more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise ConfigError("\n".join([*lines[:_SHOWN], *more])) from error


_RIGHT = {
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names",
    "bool_type": "must be true or false",
}
"""What would be right, in the words of YAML."""

_SHOWN = 50  # problems


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]} ..."


def _explain(cls: type, error: ErrorDetails) -> str:
    path = [str(part) for part in error["loc"]]
    location = [part for at, part in enumerate(path) if not (at == 2 and path[0] == "tables")]  # there stands the kind
    key = ".".join(part if part.isprintable() and len(part) <= 100 else _short(part) for part in location)
    found = _short(error["input"])
    if error["type"] == "unexpected_keyword_argument":
        return f"unknown key {key}; {nearest(location[-1], _valid_keys(cls, path[:-1]))}"
    if error["type"] in ("missing", "missing_argument"):
        return f"missing key {key}"
    if error["type"] == "union_tag_not_found":
        return f"missing key {key}.kind; must be one of {', '.join(KINDS)}"
    if error["type"] == "union_tag_invalid":
        return f"{key}.kind: unknown {error['ctx']['tag']!r}; {nearest(error['ctx']['tag'], KINDS)}"
    if error["type"] == "value_error":
        return f"{key}.{error['ctx']['error']}".lstrip(".")
    if error["type"] == "dataclass_type":
        return f"{key}: {found}; must be a mapping of the keys {', '.join(_valid_keys(cls, path))}"
    return f"{key}: {found}; {_right(error)}"


def _right(error: ErrorDetails) -> str:
    if error["type"] == "int_type":
        return f"must be a whole number{whole_number_meant(error['input'])}"
    if error["type"] == "float_type":
        return f"must be a number{number_meant(error['input'])}"
    return _RIGHT.get(error["type"], error["msg"])


def _valid_keys(cls: object, location: list[str]) -> list[str]:
    """Return the keys of the section at ``location``: the fields of the dataclass that its type leads to."""
    for part in location:
        hints = get_type_hints(cls) if is_dataclass(cls) else {}
        cls = KINDS[part] if cls in KINDS.values() and part in KINDS else hints.get(part, cls)
        while not is_dataclass(cls) and get_args(cls):
            cls = next((a for a in get_args(cls) if is_dataclass(a) or get_args(a)), None)
    known = [f.name for f in fields(cls)] if is_dataclass(cls) else []
    return [*known, *SHORT] if cls is Params else known


def _known(key: str, value: str, valid: Collection[str]) -> None:
    if value not in valid:
        raise ValueError(f"{key}: unknown {value!r}; {nearest(value, valid)}")
