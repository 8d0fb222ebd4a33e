"""params.yaml -> frozen dataclasses: the structure of the experiment, checked before anything runs.

This module imports no numerical library, so that the workflow can read the configuration at once. The options of the
members (models, objectives, sigma policies, recipes) are checked by `certsmooth.experiment.members`, which builds each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Strict,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails, PydanticCustomError

from certsmooth._internal.checks import (
    check_alpha,
    check_choice,
    check_integer,
    check_samples,
    number_meant,
    whole_number_meant,
)
from certsmooth._internal.external import Architecture, check_trusted, read_architecture
from certsmooth._internal.registry import names
from certsmooth.errors import ConfigError, nearest
from certsmooth.experiment.library import SHORT, Content, read_content
from certsmooth.experiment.like import modified
from certsmooth.experiment.specs import Arrival, NumericType, Option

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # names become parts of paths and of commands
_SIGMA = re.compile(r"\{sigma(:(\.[0-9])?[fg])?\}")  # in the name of a file, where sigma stands
_SEED = re.compile(r"\{seed\}")
_NAME_FORM = "at most 100 letters, digits, '_', '-' and '.', a letter or digit first"


def _option(right: str) -> WrapValidator:
    """Return the check of an option, whose errors say what is right."""

    def checked(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            valid = validate(value)
        except ValidationError:  # one line, not one for each type that it is not
            raise PydanticCustomError("option", "must be {right}", {"right": right}) from None
        if isinstance(valid, Mapping) and len(valid) < len(cast(Mapping[object, object], value)):
            raise PydanticCustomError("option", "must have one entry for each sigma")
        values = valid.values() if isinstance(valid, Mapping) else valid if isinstance(valid, tuple) else (valid,)
        for each in values:
            _check_text(each)
        return valid

    return WrapValidator(checked)


def _check_text(value: object) -> None:
    """The text of an option chooses among names; the values of one that is a list become names of folders."""
    if isinstance(value, str) and not _NAME.fullmatch(value):
        meant = whole_number_meant(value) or number_meant(value)
        right = f"must be a number{meant}" if meant else f"text must be {_NAME_FORM}"
        raise PydanticCustomError("option", "{right}", {"right": right})


def _is_file(value: str) -> bool:
    """A file may lie anywhere. Its name reaches commands, where Snakemake would take what is in braces for its own."""
    return value.isprintable() and value[:1] not in ("", "-", "~") and not {*value} & {*"{}"} and len(value) <= 1000


def _is_pattern(value: str) -> bool:
    return _is_file(_SIGMA.sub("", value)) if _SIGMA.search(value) else _is_file(value)


def _is_place(value: str) -> bool:
    return _is_pattern(_SEED.sub("", value))


def _is_text(value: str) -> bool:
    """Text for people: in tables '|' ends a column; in figures '$' starts a formula, and '_' in front hides a label."""
    shown = value.isprintable() and value.strip() and not value.startswith("_")
    return bool(shown) and not {*value} & {*"|$"} and len(value) <= 200


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _differ(values: Sequence[object]) -> bool:
    return len(set(values)) == len(values) > 0


def _names(key: str, given: Collection[str]) -> None:
    for name in given:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{key}: bad name {_short(name)}; must be {_NAME_FORM}")


def _must_be(right: str, holds: Callable[[Any], object]) -> AfterValidator:
    def checked(value: T) -> T:
        if not holds(value):
            raise PydanticCustomError("wrong", "must be {right}", {"right": right})
        return value

    return AfterValidator(checked)


def _by(check: Callable[..., object], **options: object) -> AfterValidator:
    """Return the check of a value by a function of a key, which its errors start with, and of the value."""

    def checked(value: T) -> T:
        try:
            check("", value, **options)
        except ValueError as error:
            raise PydanticCustomError("check", "{said}", {"said": str(error).partition(": ")[2]}) from None
        return value

    return AfterValidator(checked)


# Read as they stand: text is no number, a boolean no number, a number no boolean.
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
Natural = Annotated[Whole, _by(check_integer, minimum=0)]
Count = Annotated[Whole, _by(check_integer, minimum=1)]
Samples = Annotated[Whole, _by(check_samples)]
Alpha = Annotated[Number, _by(lambda _, value: check_alpha(value))]
Share = Annotated[Number, _must_be("in (0, 1)", lambda share: 0 < share < 1)]
Naturals = Annotated[tuple[Natural, ...], _must_be("one or more different whole numbers >= 0", _differ)]
# Beyond these, noise in single precision is not Gaussian, or overflows in a network.
Sigma = Annotated[Number, _must_be("> 0, from 1e-06 to 1e+06", lambda sigma: 1e-6 <= sigma <= 1e6)]
Sigmas = Annotated[tuple[Sigma, ...], _must_be("one or more numbers that differ", _differ)]
FiniteNumber = Annotated[Number, _must_be("a finite number >= 0", lambda radius: 0 <= radius < math.inf)]
Radii = Annotated[tuple[FiniteNumber, ...], _must_be("one or more numbers", bool)]
File = Annotated[
    str,
    _must_be("a path: printable, without braces, at most 1000 characters, the first neither '-' nor '~'", _is_file),
]
Pattern = Annotated[
    str,
    _must_be(
        "a path: printable, without braces but those of {sigma}, at most 1000 characters, the first neither '-' nor"
        " '~'",
        _is_pattern,
    ),
]
Place = Annotated[
    str,
    _must_be(
        "a path: printable, without braces but those of {sigma} and {seed}, at most 1000 characters, the first neither "
        "'-' nor '~'",
        _is_place,
    ),
]
Text = Annotated[
    str,
    _must_be("a line of printable text without '|' and '$', not starting with '_', at most 200 characters", _is_text),
]
Step = Annotated[
    str, _must_be("1 divided by a whole number up to 999999, as 1/255", re.compile("1/[1-9][0-9]{0,5}").fullmatch)
]


def _network(value: object) -> Architecture:
    try:
        return read_architecture(value)
    except ConfigError as error:
        raise PydanticCustomError("network", "{said}", {"said": str(error)}) from None


def _network_or_none(value: object) -> Architecture | None:
    return None if value is None else _network(value)


Network = Annotated[Architecture, PlainValidator(_network, json_schema_input_type=str)]
NetworkOrNone = Annotated[Architecture | None, PlainValidator(_network_or_none, json_schema_input_type=str | None)]
Package = Annotated[
    str, _must_be("the name of a package, without dots", re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII).fullmatch)
]
_STRICT = ConfigDict(extra="forbid", strict=False)
_ONE = "a number, text, true, false or null"
Options = Mapping[str, Annotated[Option | tuple[Option, ...], _option(f"{_ONE}, or a list of these")]]
# JSON has no keys but text.
_SigmaKey = Annotated[Sigma, BeforeValidator(lambda key: float(key) if isinstance(key, str) else key)]
MemberOptions = Mapping[
    str,
    Annotated[
        Option | tuple[Option, ...] | Mapping[_SigmaKey, Option],
        _option(f"{_ONE}, a list of these, or a mapping from sigma to one of these"),
    ],
]
Weights = Annotated[
    FiniteNumber | tuple[FiniteNumber, ...], _option("a finite number >= 0, or a list of these, one training each")
]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Member:
    """A member of a family and its options."""

    name: str = Field(description="of the member")
    options: MemberOptions = Field(
        default_factory=dict,
        description=(
            "by name; where a list is allowed, it makes one training or certification per value, and where a mapping "
            "from sigma is, each sigma has the value that stands there"
        ),
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Certification:
    """How images are certified."""

    n0: Samples = Field(description="selection samples")
    n: Samples = Field(description="estimation samples; with a rule that stops, at most so many")
    alpha: Alpha = Field(description="each certificate is wrong with at most this probability")
    first: Natural = Field(default=0, description="the first image of the test split that is certified, counted from 0")
    last: Natural | None = Field(default=None, description="up to this image, which is one of them; null: to the end")
    stride: Count = Field(default=1, description="every stride-th image of the test split, from the first on")
    shards: Annotated[Whole, _by(check_integer, minimum=1, maximum=10_000)] = Field(
        default=1, description="jobs that the sampling of a part of the data is split into"
    )
    stop: Member | None = Field(
        default=None,
        description=(
            "when an image needs no more samples (docs/sequential.md); null: fixed, all n. For `radii`, `radii` may be "
            "left out: those of the tables that show the method"
        ),
    )

    def __post_init__(self) -> None:
        if self.last is not None and self.last <= self.first:
            raise ValueError(f"last: {self.last}; must be greater than first, {self.first}")


CertificationChanges = Mapping[
    str, Annotated[Option | Member, _option(f"{_ONE}, or for stop a rule, as {{name: radii}}")]
]

_SHORT = "short for datasets.NAME.{}, where NAME is what ``dataset`` says; null: as the data set says"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Short:
    """Keys of params.yaml that are short for longer ones: of the data set NAME that ``dataset`` says."""

    sigmas: Sigmas | None = Field(default=None, description=_SHORT.format("sigmas"))
    n0: Samples | None = Field(default=None, description=_SHORT.format("certification.n0"))
    n: Samples | None = Field(default=None, description=_SHORT.format("certification.n"))
    alpha: Alpha | None = Field(default=None, description=_SHORT.format("certification.alpha"))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Unlabelled:
    """Images without labels (SmoothAdv, Section 4.2): a share of the training split, or a file."""

    share: Share | None = Field(
        default=None,
        description="of each class of the training split, without the validation split; no training sees these labels",
    )
    source: File | None = Field(default=None, description=".npz with ``images``, uint8 [n, h, w, c] or [n, c, h, w]")

    def __post_init__(self) -> None:
        if (self.share is None) == (self.source is None):
            raise ValueError(f"unlabelled: share {self.share}, source {self.source!r}; must be one of the two")


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
class TrainingChanges:
    """What differs from a training on one data set."""

    recipe: Options = Field(default_factory=dict, description="fields of the recipe")
    objective: MemberOptions = Field(default_factory=dict, description="options of the objective")
    policy: MemberOptions = Field(default_factory=dict, description="options of the policy")
    start: Start | None = Field(default=None, description="weights to start from; null: as the training says")
    teacher_weight: Weights | None = Field(
        default=None, description="of the images that the teacher labels; null: as the training says"
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class MethodChanges:
    """What differs from a method on one data set."""

    policy: MemberOptions = Field(default_factory=dict, description="options of the policy")
    certification: CertificationChanges = Field(default_factory=dict, description="fields of the certification")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DatasetParams:
    """One data set: where it comes from, what is trained on it, how it is certified."""

    source: File | None = Field(
        default=None, description="images, or a local copy of them (docs/your_data.md); null for the data set's own way"
    )
    options: Options = Field(default_factory=dict, description="of the data set's member")
    validation: Share = Field(description="share of the training split that is held back to choose sigma and K")
    sigmas: Sigmas = Field(description="the noise levels trained and certified")
    radii: Radii = Field(description="at which tables give certified accuracy, in pixel coordinates [0, 1]")
    architecture: Network = Field(
        description=(
            "a member of certsmooth.science.models; or a network of another program (docs/networks.md): `{import: "
            "package.module:function}`, `{timm: NAME}` or `{torchvision: NAME}`, each with `options`"
        )
    )
    normalisation: Mapping[str, tuple[Number, ...]] | None = Field(
        default=None,
        description="mean and std per channel, or one for all, the first layer of the model; null for none",
    )
    step: Step | None = Field(
        default=None,
        description=(
            "of the pixels, 1/255 for images of 8 bits: what the base classifier sees in certification is rounded"
            " to multiples of it, and certificates hold for the program that runs; null for float32 noise, whose "
            "certificates hold in real arithmetic only"
        ),
    )
    numeric_type: NumericType = Field(
        default="float32", description="float32, tf32 or bfloat16: part of the base classifier"
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
        default_factory=dict, description="per training, what differs on this data set"
    )
    methods: Mapping[str, MethodChanges] = Field(
        default_factory=dict, description="per method, what differs on this data set"
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Routes:
    """What the classes of a router are: experts, each a method at one sigma, methods first.

    The label of a training image is the expert with the largest radius there, and its weight in the loss what the
    second best would lose.
    """

    methods: Annotated[tuple[str, ...], _must_be("one or more different ones", _differ)] = Field(
        description="that certify the training images: keys of ``methods`` with ``folds``"
    )
    sigmas: Sigmas | None = Field(default=None, description="of the experts; null: those of the data set")


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
    teacher_weight: Weights = Field(
        default=1.0,
        description=(
            "in the loss, of the images that the teacher labels; 0.1, 0.5 and 1 in SmoothAdv, Table 2. A list makes "
            "one training per value"
        ),
    )
    noise: str = Field(default="gaussian", description="a member of certsmooth.science.noise")
    denoiser: Member | None = Field(
        default=None,
        description=(
            "a member of certsmooth.science.denoisers in front of the classifier that ``start`` gives: only the "
            "denoiser is trained, through the classifier, which stays as it is (denoised smoothing); null: none"
        ),
    )

    routes: Routes | None = Field(
        default=None,
        description=(
            "for a router (docs/dual.md): what its classes are, and where the labels of the training images come "
            "from; null for a classifier of the data"
        ),
    )

    def __post_init__(self) -> None:
        if self.routes is not None and self.teacher:
            raise ValueError(f"teacher: {self.teacher!r}; must be null for a router, whose labels are ``routes``")
        if self.denoiser is not None:
            if self.start is None:
                raise ValueError(f"denoiser: {self.denoiser.name!r}; needs start, the classifier behind it")
            _check_one_value("denoiser", self.denoiser)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GivenTraining:
    """A base classifier that was trained elsewhere: a checkpoint, for `certsmooth import` to make of others' files."""

    given: Place = Field(
        description=(
            "the checkpoint. Where there is one for each sigma, or training seed, ``{sigma}`` (0.25, 1.0), "
            "``{sigma:.2f}`` (0.25, 1.00) and ``{seed}`` stand for them in its name"
        )
    )
    architecture: NetworkOrNone = Field(default=None, description="its network; null: that of the data set")
    train: Text = Field(
        default="unknown", description="how sigma was chosen in training, as tables show it: FS, DS, none, ..."
    )

    def file(self, sigma: float, seed: int) -> str:
        """Return the file of a noise level and a training seed."""
        return _SEED.sub(str(seed), _SIGMA.sub(lambda place: place[0].format(sigma=sigma), self.given))


def _trained_where(entry: object) -> str:
    given = "given" in entry if isinstance(entry, Mapping) else isinstance(entry, GivenTraining)
    return "given" if given else "trained"


AnyTraining = Annotated[
    Annotated[Training, Tag("trained")] | Annotated[GivenTraining, Tag("given")], Discriminator(_trained_where)
]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Experts:
    """What a router chooses between, and how alpha is shared; tables leave out a router with fewer than two experts."""

    methods: Annotated[tuple[str, ...], _must_be("one or more different ones", _differ)] = Field(
        description="at each sigma of the router's ``routes``, in their order: keys of ``methods``"
    )
    router_share: Share = Field(default=0.1, description="of alpha, that the router may err with")
    others_share: Share = Field(
        default=0.1,
        description=(
            "of alpha, that experts may err with where it is used that all of them agree; the rest is that of the "
            "expert that the router chooses"
        ),
    )


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
    memory: Arrival | None = Field(
        default=None,
        description=(
            "the order in which images enter the memory pass that follows (DDRS, Section 3.5): that of the test set, "
            "as in the authors' program, or shuffled by ``seed``. null: no memory"
        ),
    )
    certification: CertificationChanges = Field(
        default_factory=dict,
        description="fields of `Certification` that differ from the data set's",
    )
    experts: Experts | None = Field(
        default=None,
        description=(
            "for dual smoothing (docs/dual.md), whose ``training`` is a router's: what it chooses between; null: none"
        ),
    )
    folds: Annotated[Whole, _by(check_integer, minimum=2, maximum=100)] | None = Field(
        default=None,
        description=(
            "certifies the training images instead: so many parts of them, each by a classifier that was trained on "
            "the others (cross-fitting), for a router's ``routes``; null: the test and validation images"
        ),
    )

    def __post_init__(self) -> None:
        _check_one_value("certificate", self.certificate)
        for key, found in (("folds", self.folds), ("memory", self.memory)):
            if self.experts is not None and found is not None:
                raise ValueError(f"{key}: {found!r}; must be null with experts")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PublishedMethod:
    """One row of a table that others made: files of their certificates, of one constant sigma each."""

    label: Text = Field(description="as the table prints it")
    certificates: Pattern = Field(
        description=(
            "a file of per-image certificates: tab-separated idx, label, predict, radius, correct, time, or with more "
            "columns; plain or .gz. With several sigmas, their place in its name is ``{sigma}`` (0.25, 1.0), or "
            "``{sigma:.2f}`` (0.25, 1.00)"
        )
    )
    sigma: Annotated[Sigmas, BeforeValidator(_as_list, json_schema_input_type=Sigma | Sigmas)] = Field(
        description="of the noise, one or several: the standard deviation in l2, half the width of uniform noise in l1"
    )
    dataset: str = Field(description="that the certificates are about: a member of certsmooth.science.datasets")
    norm: Literal["l2", "l1"] = Field(default="l2", description="of the radii: l2 (Gaussian noise) or l1 (uniform)")
    train: Text = Field(
        default="unknown", description="how sigma was chosen in training, as tables show it: FS, DS, none, ..."
    )

    def __post_init__(self) -> None:
        if len(set(self.files.values())) != len(self.files):
            found = f"{self.certificates!r} with sigma {list(self.files)}"
            raise ValueError(f"certificates: {found}; must be one file a sigma, as NAME{{sigma}}.tsv")

    @property
    def files(self) -> dict[float, str]:
        """The file of each sigma."""
        return {sigma: self._file(sigma) for sigma in self.sigma}

    def _file(self, sigma: float) -> str:
        return _SIGMA.sub(lambda place: place[0].format(sigma=sigma), self.certificates)


def _who_made(entry: object) -> str:
    others = "certificates" in entry if isinstance(entry, Mapping) else isinstance(entry, PublishedMethod)
    return "others" if others else "ours"


AnyMethod = Annotated[
    Annotated[Method, Tag("ours")] | Annotated[PublishedMethod, Tag("others")], Discriminator(_who_made)
]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Published:
    """Which published rows stand beside ours."""

    paper: str = Field(description="ddrs, smoothadv, adre or idrs")
    table: Whole = Field(description="its number there")
    dataset: str = Field(description="shown where the paper has no rows of the data set that the table is about")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PublishedNumbers:
    """A published table whose numbers stand below ours."""

    paper: str = Field(description="of the table: idrs")
    table: Whole = Field(description="its number there")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TableSettings:
    """What differs in a table for one choice of ``dataset``; null for what that data set says."""

    dataset: str | None = Field(default=None, description="the entry of ``datasets`` that the table is about instead")
    sigmas: Sigmas | None = Field(default=None, description="noise levels")
    radii: Radii | None = Field(default=None, description="in the norm of the table")
    methods: Annotated[tuple[str, ...], _must_be("one or more, or null", bool)] | None = Field(
        default=None, description="its rows, instead of those of the table"
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Table:
    """What tables of all kinds have."""

    kind: str = Field(description="of table")
    title: Text = Field(description="its heading")
    methods: tuple[str, ...] = Field(description="its rows")
    settings: Mapping[str, TableSettings] = Field(
        default_factory=dict, description="per value of ``dataset``, what differs"
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CertifiedTable(Table):
    """One table of certified accuracy."""

    kind: Literal["certified"] = Field(description="certified")
    baseline: str = Field(description="the row that the others are tested against")
    published: Published | None = Field(default=None, description="rows beside ours")
    norm: Literal["linf"] | None = Field(
        default=None, description="linf for the l-infinity radii that the certificates imply; null for theirs"
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AccuracyTable(Table):
    """One table of clean accuracy, abstention, misclassification and accuracy per class, over seeds (IDRS)."""

    kind: Literal["accuracy"] = Field(description="accuracy")
    methods: tuple[str, ...] = Field(
        description="its rows; a method whose policy has an option that is a list has one row per value"
    )
    baseline: str = Field(description="the row that the others are compared with")
    training_seeds: Naturals | None = Field(
        default=None, description="instead of those that the other tables use; null for these"
    )
    certification_seeds: Naturals | None = Field(
        default=None,
        description="of the noise that certifies, each for every base classifier; null for ``seed`` alone. Numbers are "
        "means over all, never the best of them",
    )
    datasets: Annotated[tuple[str, ...], _must_be("one or more different ones, or null", _differ)] | None = Field(
        default=None,
        description="what the table is about, whatever ``dataset`` says: entries of ``datasets``; null for that one",
    )
    published: tuple[PublishedNumbers, ...] = Field(default=(), description="numbers of a paper")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Predict:
    """How an attacked image is classified: PREDICT of Cohen et al. 2019."""

    n: Annotated[Whole, _by(check_samples, minimum=2)] = Field(description="samples")
    alpha: Alpha = Field(
        description="with at most this probability the answer is neither the smoothed classifier's class nor an"
        " abstention"
    )

    @property
    def numbers(self) -> tuple[int, ...]:
        """All numbers of samples, n the last."""
        return (self.n,)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EmpiricalPredict(Predict):
    """How an attacked image is classified, and by how many samples else."""

    fewer: tuple[Annotated[Whole, _by(check_samples, minimum=2)], ...] = Field(
        default=(),
        description="smaller numbers of samples, of which the table shows the answers as well: they are drawn from n",
    )

    def __post_init__(self) -> None:
        if list(self.fewer) != sorted({*self.fewer}) or (self.fewer and self.fewer[-1] >= self.n):
            raise ValueError(f"fewer: {list(self.fewer)}; must be increasing, and below n, {self.n}")
        if self.fewer and self.n >= 10**9:  # NumPy draws from no more
            raise ValueError(f"n: {self.n}; must be below 1000000000 with fewer")

    @property
    def numbers(self) -> tuple[int, ...]:
        """All numbers of samples, n the last."""
        return (*self.fewer, self.n)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SoundnessTable(Table):
    """One table of what certificates promise, what a memory's order costs, and which certificates an attack breaks."""

    kind: Literal["soundness"] = Field(description="soundness")
    methods: Annotated[tuple[str, ...], _must_be("one or more", bool)] = Field(description="its rows")
    predict: Predict = Field(description="how the attacked points are classified")
    stride: Count = Field(default=1, description="every stride-th of the certified test images is attacked")
    shuffles: Count = Field(default=20, description="orders of arrival, besides the given one")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AttackChoice:
    """An attack on the smoothed classifiers."""

    label: Text = Field(description="as the table prints it")
    attack: Member = Field(
        description="a member of certsmooth.science.attacks, without epsilon: that is each radius of the table"
    )
    samples: Naturals = Field(
        default=(0,),
        description="numbers of noise samples that the attack sees (m_test in SmoothAdv, Section 4.3); 0: no noise, the"
        " attack is on the base classifier",
    )

    def __post_init__(self) -> None:
        if "epsilon" in self.attack.options:
            found = self.attack.options["epsilon"]
            raise ValueError(f"attack.options.epsilon: {found}; must not be given: it is each radius of the table")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EmpiricalTable(Table):
    """One table of certified against empirical accuracy."""

    kind: Literal["empirical"] = Field(description="empirical")
    methods: Annotated[tuple[str, ...], _must_be("one or more", bool)] = Field(description="what is attacked")
    attacks: Annotated[Mapping[str, AttackChoice], _must_be("one or more", bool), _by(_names)] = Field(
        description="by name"
    )
    predict: EmpiricalPredict = Field(description="how attacked images are classified")
    stride: Count = Field(default=1, description="every stride-th of the certified test images is attacked")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ToyFigures:
    """The figures of the toy experiment in the plane (IDRS, Figures 1 and 5 to 9), with the first training seed."""

    dataset: str = Field(description="an entry of ``datasets``: points in the plane. Its sigmas are those of Figure 8")
    constant: str = Field(description="a method with a constant sigma")
    input_dependent: str = Field(
        description="a method with the same training, whose sigma(x) is a function of the point alone"
    )
    sigma: Number = Field(description="of Figure 1, one of the data set's")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Pictures:
    """Test images at their smallest and largest sigma(x), with the first training seed (DDRS, Figure 6)."""

    method: str = Field(
        description="a method whose sigma differs between images; of options that are lists, with the last values"
    )
    datasets: Annotated[tuple[str, ...], _must_be("one or more different ones", _differ)] = Field(
        description="entries of ``datasets`` that are images: there is a figure if ``dataset`` is one of them"
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class HighDimension:
    """What IDRS would certify in high dimension from the p_A of certificates: results/tables/idrs/imagenet.md."""

    method: str | None = Field(
        default=None,
        description="a method with a constant sigma, whose certificates of the chosen data set are used; null for none",
    )
    published: tuple[str, ...] = Field(
        default=(), description="methods that others made, with certificates in l2: each of their files is used"
    )
    dimension: Count = Field(description="N")
    rates: Radii = Field(description="values of r")
    radii: Radii = Field(description="at which certified accuracy is given")

    def __post_init__(self) -> None:
        if self.method is None and not self.published:
            raise ValueError("method: null, published: none; must be at least one of the two")
        if repeated := [each for each in self.published if self.published.count(each) > 1]:
            raise ValueError(f"published: {repeated[0]!r} is given twice; must differ")


AnyTable = CertifiedTable | AccuracyTable | EmpiricalTable | SoundnessTable
KINDS: Mapping[str, type[AnyTable]] = {
    "certified": CertifiedTable,
    "accuracy": AccuracyTable,
    "empirical": EmpiricalTable,
    "soundness": SoundnessTable,
}
_KINDS: Mapping[str, type] = {
    **KINDS,
    **{"ours": Method, "others": PublishedMethod, "trained": Training, "given": GivenTraining},
}
K = TypeVar("K", bound=Table)


def rows_of(table: AnyTable, dataset: str) -> tuple[str, ...]:
    """Return the methods that a table shows: its rows, and the baseline if that is none of them.

    Args:
        table: of any kind.
        dataset: that params.yaml chooses.
    """
    baseline = (table.baseline,) if isinstance(table, CertifiedTable | AccuracyTable) else ()
    rows = table.settings.get(dataset, TableSettings()).methods or table.methods
    return tuple(dict.fromkeys((*rows, *baseline)))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Params:
    """All of params.yaml."""

    dataset: str = Field(description="the data set that the tables are about; a key of ``datasets``")
    seed: Natural = Field(description="of the validation split, the certification noise and the memory's order")
    training_seeds: Naturals = Field(description="one base classifier per seed")
    datasets: Annotated[Mapping[str, DatasetParams], _by(_names)] = Field(description="by name")
    trainings: Annotated[Mapping[str, AnyTraining], _by(_names)] = Field(
        description="by name; one that has ``given`` is a checkpoint that was trained elsewhere"
    )
    methods: Annotated[Mapping[str, AnyMethod], _by(_names)] = Field(
        description="by name; one that has ``certificates`` is a row of files that others made"
    )
    tables: Annotated[Mapping[str, Annotated[AnyTable, Field(discriminator="kind")]], _by(_names)] = Field(
        description="by the name of their file in results/tables"
    )
    trusted: tuple[Package, ...] = Field(
        default=(),
        description=(
            "packages whose code `architecture: {import: ...}` may run; `models` is the folder of that name beside "
            "params.yaml (docs/security.md)"
        ),
    )
    toy: ToyFigures | None = Field(default=None, description="the figures of IDRS's toy experiment; null for none")
    pictures: Pictures | None = Field(
        default=None, description="the figure of images at their smallest and largest sigma(x); null for none"
    )
    high_dimension: HighDimension | None = Field(
        default=None, description="what IDRS would certify in the dimension of ImageNet; null for nothing"
    )

    def __post_init__(self) -> None:
        for key, value, valid in self._references():
            if value is not None:
                check_choice(key, value, valid)
        for name, entry in self.datasets.items():
            self._check_trusted(f"datasets.{name}", entry.architecture)
        for name, given in self.given_trainings.items():
            self._check_trusted(f"trainings.{name}", given.architecture or "")
        later = {name for _, name, _ in self._built_on()}
        for key, _, needed in self._built_on():
            if needed in later:
                raise ValueError(f"{key}: {needed!r}; must be a training with neither start nor teacher")
        for name, chosen in self.our_methods.items():
            self._check_experts(f"methods.{name}", chosen)
        for dataset, method in product(self.datasets, self.our_methods):
            self.certification(dataset, method)
        for (name, table), dataset in product(self.tables.items(), self.datasets):
            self._check_labels(f"tables.{name}.methods", rows_of(table, dataset))
        if self.high_dimension is not None:
            self._check_labels("high_dimension.published", self.high_dimension.published)
        if (toy := self.toy) is not None and toy.sigma not in (known := self.datasets[toy.dataset].sigmas):
            raise ValueError(f"toy.sigma: {toy.sigma}; must be one of datasets.{toy.dataset}.sigmas, {list(known)}")

    def _check_trusted(self, key: str, architecture: Architecture) -> None:
        try:
            check_trusted(architecture, self.trusted, remedy="add {!r} to the list `trusted` of params.yaml")
        except ConfigError as error:
            raise ValueError(f"{key}.{error}") from None

    def routes_of(self, training: str) -> Routes | None:
        """Return what the classes of a router are; None for a training that is no router's."""
        chosen = self.our_trainings.get(training)
        return chosen.routes if chosen else None

    def _check_experts(self, key: str, method: Method) -> None:
        """Check that a router's classes are the experts of its method."""
        routes = self.routes_of(method.training)
        if (routes is None) != (method.experts is None):
            kind = "a router's" if method.experts else "no router's, or this method have experts"
            raise ValueError(f"{key}.training: {method.training!r}; must be {kind}")
        if routes and method.experts and len(routes.methods) != len(method.experts.methods):
            raise ValueError(
                f"{key}.experts.methods: {list(method.experts.methods)}; must be as many as label training images "
                f"for {method.training!r}, in their order: {list(routes.methods)}"
            )

    def _check_labels(self, key: str, methods: Sequence[str]) -> None:
        first: dict[str, str] = {}
        for method in methods:
            if (other := first.setdefault(label := self.methods[method].label, method)) != method:
                raise ValueError(f"{key}: {other!r} and {method!r} have the label {label!r}; must differ")

    @cached_property
    def our_methods(self) -> Mapping[str, Method]:
        """The methods that are run here."""
        return {name: method for name, method in self.methods.items() if isinstance(method, Method)}

    @cached_property
    def our_trainings(self) -> Mapping[str, Training]:
        """The trainings that are run here."""
        return {name: training for name, training in self.trainings.items() if isinstance(training, Training)}

    @cached_property
    def given_trainings(self) -> Mapping[str, GivenTraining]:
        """The trainings that were run elsewhere."""
        return {name: training for name, training in self.trainings.items() if isinstance(training, GivenTraining)}

    @cached_property
    def published_methods(self) -> Mapping[str, PublishedMethod]:
        """The methods that are files of others."""
        return {name: method for name, method in self.methods.items() if isinstance(method, PublishedMethod)}

    def _built_on(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield each key that names what a training starts or learns from: the key, the training, and that name."""
        for name, training in self.our_trainings.items():
            if training.start is not None:
                yield f"trainings.{name}.start.training", name, training.start.training
            if training.teacher is not None:
                yield f"trainings.{name}.teacher", name, training.teacher
        for dataset, entry in self.datasets.items():
            for name, changes in entry.trainings.items():
                if changes.start is not None:
                    yield f"datasets.{dataset}.trainings.{name}.start.training", name, changes.start.training

    def _references(self) -> Iterator[tuple[str, str | None, Collection[str]]]:
        """Yield every key whose value is a name, its value, and the names that there are."""
        yield "dataset", self.dataset, self.datasets
        for name, entry in self.datasets.items():
            key = f"datasets.{name}"
            own = entry.member is None
            yield (key, name, names("datasets")) if own else (f"{key}.member", entry.member, names("datasets"))
            if isinstance(entry.architecture, str):
                yield f"{key}.architecture", entry.architecture, names("models")
            if entry.certification.stop is not None:
                yield f"{key}.certification.stop.name", entry.certification.stop.name, names("stopping")
            for each, changes in entry.methods.items():
                yield from _stops(f"{key}.methods.{each}", changes.certification)
            yield from ((f"{key}.trainings", each, self.our_trainings) for each in entry.trainings)
            yield from ((f"{key}.methods", each, self.our_methods) for each in entry.methods)
        for name, given in self.given_trainings.items():
            if isinstance(given.architecture, str):
                yield f"trainings.{name}.architecture", given.architecture, names("models")
        for name, training in self.our_trainings.items():
            key = f"trainings.{name}"
            yield f"{key}.objective.name", training.objective.name, names("objectives")
            yield f"{key}.policy.name", training.policy.name, names("sigma")
            yield f"{key}.noise", training.noise, names("noise")
        yield from ((key, needed, self.trainings) for key, _, needed in self._built_on())
        yield from self._routed()
        for name, published in self.published_methods.items():
            yield f"methods.{name}.dataset", published.dataset, names("datasets")
        for name, method in self.our_methods.items():
            key = f"methods.{name}"
            yield f"{key}.training", method.training, self.trainings
            yield f"{key}.policy.name", method.policy.name, names("sigma")
            yield f"{key}.certificate.name", method.certificate.name, names("certificates")
            yield from _stops(key, method.certification)
        for name, table in self.tables.items():
            yield from self._references_of(f"tables.{name}", table)
        if self.toy is not None:
            yield "toy.dataset", self.toy.dataset, self.datasets
            yield "toy.constant", self.toy.constant, self.our_methods
            yield "toy.input_dependent", self.toy.input_dependent, self.our_methods
        if self.pictures is not None:
            yield "pictures.method", self.pictures.method, self.our_methods
            yield from (("pictures.datasets", each, self.datasets) for each in self.pictures.datasets)
        if self.high_dimension is not None:
            yield "high_dimension.method", self.high_dimension.method, self.our_methods
            for each in self.high_dimension.published:
                yield "high_dimension.published", each, self.published_methods

    def _routed(self) -> Iterator[tuple[str, str, Collection[str]]]:
        """Yield every key that names what a router chooses between, or learns from; as `_references`."""
        folded = [name for name, method in self.our_methods.items() if method.folds]
        for name, training in self.our_trainings.items():
            labelling = training.routes.methods if training.routes else ()
            yield from ((f"trainings.{name}.routes.methods", each, folded) for each in labelling)
        alone = [name for name, method in self.our_methods.items() if not (method.folds or method.experts)]
        for name, method in self.our_methods.items():
            experts = method.experts.methods if method.experts else ()
            yield from ((f"methods.{name}.experts.methods", each, alone) for each in experts)

    def _references_of(self, key: str, table: AnyTable) -> Iterator[tuple[str, str | None, Collection[str]]]:
        known = self.methods if isinstance(table, CertifiedTable | AccuracyTable) else self.our_methods
        yield from ((f"{key}.methods", each, known) for each in table.methods)
        for dataset, changes in table.settings.items():
            yield f"{key}.settings", dataset, self.datasets
            yield f"{key}.settings.dataset", changes.dataset, self.datasets
            yield from ((f"{key}.settings.{dataset}.methods", each, self.methods) for each in changes.methods or ())
        if isinstance(table, CertifiedTable | AccuracyTable):
            yield f"{key}.baseline", table.baseline, self.methods
        if isinstance(table, AccuracyTable):
            yield from ((f"{key}.datasets", each, self.datasets) for each in table.datasets or ())
        if isinstance(table, EmpiricalTable):
            for name, choice in table.attacks.items():
                yield f"{key}.attacks.{name}.attack.name", choice.attack.name, names("attacks")

    def certification(self, dataset: str, method: str) -> Certification:
        """Return how a method is certified on a data set: the data set's setting with the method's changes.

        Raises:
            ConfigError: an unknown field or a bad value.
        """
        entry = self.datasets[dataset]
        changes = entry.methods.get(method, MethodChanges()).certification
        base = _changed(entry.certification, self.our_methods[method].certification, f"methods.{method}.certification")
        return _changed(base, changes, f"datasets.{dataset}.methods.{method}.certification")

    def of_kind(self, kind: type[K]) -> Mapping[str, K]:
        """Return the tables of one kind, by name."""
        return {name: table for name, table in self.tables.items() if isinstance(table, kind)}


def _stops(key: str, changes: CertificationChanges) -> Iterator[tuple[str, str, Collection[str]]]:
    if isinstance(stop := changes.get("stop"), Member):
        yield f"{key}.certification.stop.name", stop.name, names("stopping")


def _changed(base: Certification, changes: CertificationChanges, key: str) -> Certification:
    try:
        return replace(base, **cast(Any, changes)) if changes else base
    except ValidationError as error:
        raise _refusal(Certification, error, lambda message: f"{key}: {message}") from error


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
        raise _refusal(cls, error, located) from error


def _refusal(cls: type, error: ValidationError, located: Callable[[str], str]) -> ConfigError:
    problems: dict[object, str] = {}
    for item in error.errors():
        # Once for all entries that have it from the first, since they are like it.
        found = "" if item["type"] == "value_error" else repr(item["input"])
        mistake = (item["loc"][:1], item["loc"][2:], item["msg"], found)
        problems.setdefault(mistake, located(_explain(cls, item)))
    lines = list(dict.fromkeys(problems.values()))
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return ConfigError("\n".join([*lines[:_SHOWN], *more]))


_RIGHT = {
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names",
    "bool_type": "must be true or false",
}
"""What would be right, in the words of YAML."""

_SHOWN = 50  # problems

_OF_KINDS = ("tables", "methods", "trainings")
"""Sections whose entries are of several kinds: the kind stands in the location of an error after the entry's name."""


def _check_one_value(key: str, chosen: Member) -> None:
    if several := [name for name, value in chosen.options.items() if isinstance(value, tuple | Mapping)]:
        raise ValueError(f"{key}.options.{several[0]}: {_short(chosen.options[several[0]])}; must be one value")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]} ..."


def _explain(cls: type, error: ErrorDetails) -> str:
    path = [str(part) for part in error["loc"]]
    location = [part for at, part in enumerate(path) if not (at == 2 and path[0] in _OF_KINDS)]
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
    if error["type"] == "network":
        return f"{key.rpartition('.')[0]}.{error['msg']}"
    if error["type"] == "check":
        return f"{key}: {error['msg']}"
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
    if error["type"] == "literal_error":
        return f"must be {error['ctx']['expected']}"
    return _RIGHT.get(error["type"], error["msg"])


def _valid_keys(cls: object, location: list[str]) -> list[str]:
    """Return the keys of the section at ``location``: the fields of the dataclass that its type leads to."""
    for part in location:
        hints = get_type_hints(cls) if is_dataclass(cls) else {}
        cls = _KINDS[part] if cls in _KINDS.values() and part in _KINDS else hints.get(part, cls)
        while not is_dataclass(cls) and get_args(cls):
            cls = next((a for a in get_args(cls) if is_dataclass(a) or get_args(a)), None)
    known = [f.name for f in fields(cls)] if is_dataclass(cls) else []
    return [*known, *SHORT] if cls is Params else known
