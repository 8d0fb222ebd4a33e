"""Per-image certificates as files: Parquet with what they are and how they were made, and the field's format.

The first columns are ``idx label predict radius correct time``, the format of the certificates that Cohen et
al. and SmoothAdv published, which is tab-separated text; more columns follow.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from certsmooth._internal.checks import MAX_SAMPLES, check_number
from certsmooth._internal.storage import atomic_write
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.parts import Part, read_parts, write_parts
from certsmooth.errors import CountsError
from certsmooth.science.certificates import ABSTAIN, GUARANTEES, Norm

if TYPE_CHECKING:
    import pandas as pd

CERTIFICATES = Form("certificates 3", "certify again")

PROVENANCE_KEYS = (
    "description",
    "fingerprint",
    "images",
    "norm",
    "dimension",
    "semi_elasticity",
    "checkpoint",
    "device",
    "threads",
    "seconds",
    "numeric_type",
    "versions",
    "git_commit",
    "image",
    "sampled_by",
    "memory",
)
"""What every file says, besides what its spec says; ``memory`` is null, or has `MEMORY_KEYS`. What certified the counts
is in the entries of `certsmooth.artefacts.provenance.MadeBy`, and ``sampled_by`` is a list of what made them."""

MEMORY_KEYS = ("conflicts", "capped", "repredicted", "order")


def _real_or_empty(text: str) -> float:
    return float(text) if text else float("nan")


def _duration(text: str) -> float:
    """Seconds of ``15.4`` or ``0:00:13.736080``; both occur in published files."""
    if ":" not in text:
        return float(text)
    hours, minutes, seconds = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


@dataclass(frozen=True)
class _Column:
    """One column: how its text is read, which values are right, and that in words."""

    read: Callable[[str], int | float | str]
    valid: Callable[[pd.Series[Any]], pd.Series[bool]]
    right: str


_FIELD_COLUMNS = {
    "idx": _Column(int, lambda v: v >= 0, "an integer >= 0"),
    "label": _Column(int, lambda v: v >= -1, "a class, or -1 where it is unknown"),
    "predict": _Column(int, lambda v: v >= ABSTAIN, f"a class, or {ABSTAIN} (abstain)"),
    "radius": _Column(float, lambda v: (v >= 0) & (v < np.inf), "a finite number >= 0"),
    "correct": _Column(int, lambda v: v.isin((0, 1)), "0 or 1"),
    "time": _Column(_duration, lambda v: (v >= 0) & (v < np.inf), "seconds, or h:mm:ss"),
}
_COLUMNS = _FIELD_COLUMNS | {
    "sigma": _Column(float, lambda v: (v > 0) & (v < np.inf), "a finite number > 0"),
    "p_a_lower": _Column(float, lambda v: v.between(0, 1), "a probability"),
    "p_b_upper": _Column(float, lambda v: v.between(0, 1), "a probability"),
    "n": _Column(int, lambda v: v >= 1, "an integer >= 1"),
    "alpha": _Column(float, lambda v: (v > 0) & (v < 1), "a probability, neither 0 nor 1"),
    "guarantee": _Column(str, lambda v: v.isin(GUARANTEES), f"one of {', '.join(GUARANTEES)}"),
    "radius_before_memory": _Column(
        _real_or_empty, lambda v: v.isna() | ((v >= 0) & (v < np.inf)), "a finite number >= 0, or empty"
    ),
    "radius_linf": _Column(float, lambda v: (v >= 0) & (v < np.inf), "a finite number >= 0"),
}
COLUMNS = tuple(_COLUMNS)
"""The columns of a certificates file, in order."""

_KINDS: dict[object, type[np.generic]] = {int: np.int64, str: np.str_}
TYPES = {name: _KINDS.get(column.read, np.float64) for name, column in _COLUMNS.items()}

_DDRS_COLUMNS = {name: _COLUMNS[name] for name in ("idx", "label", "predict", "radius", "correct", "sigma", "time")}
_PUBLISHED = (_FIELD_COLUMNS, _DDRS_COLUMNS, _COLUMNS)
_DIGITS = 3
_DECIMALS = 4
_GZIP = b"\x1f\x8b"
_MOST_BYTES = 2**26
"""Of a file without gzip's compression, which may announce anything: 100 times one of 10,000 images."""
_LARGEST_RADIUS: Mapping[Norm, float] = {"l1": 1.0, "l2": -float(ndtri(-math.expm1(math.log(0.5) / MAX_SAMPLES)))}
"""In units of sigma, that of all of the most trials in one class, with a probability of error of 1/2: 6.06 with
Gaussian noise, 1 with uniform noise on [-sigma, sigma]^d."""


@dataclass(frozen=True)
class CertificatesPart:
    """The certificates of one run on one split.

    Attributes:
        frame: has the columns `COLUMNS`, and one row per image; ``time`` in seconds, ``correct`` 0 or 1.
        spec: what they are, as JSON holds it.
        provenance: how they were made: has the keys `PROVENANCE_KEYS`.
    """

    frame: pd.DataFrame
    spec: Mapping[str, Any]
    provenance: Mapping[str, Any]


def write_certificates(path: Path, parts: Sequence[CertificatesPart]) -> None:
    """Write per-image certificates as the parts of a Parquet file.

    Raises:
        CountsError: a column is missing, unknown or of the wrong type, a value is not valid, a key of the
            provenance is missing, or the file cannot be written.
    """
    write_parts(path, CERTIFICATES, [_stored(path, part) for part in parts])


def read_certificates(path: Path) -> list[CertificatesPart]:
    """Read certificates that `write_certificates` wrote, and check every value.

    Raises:
        CountsError: missing, not such a file or corrupt, or a value is not valid; the message names the file, the row,
            the column and what would be right.
    """
    import pandas as pd

    found = []
    for part in read_parts(path, CERTIFICATES, TYPES):
        frame = pd.DataFrame(dict(part.columns))
        _check_values(path, frame, _COLUMNS)
        spec, provenance = part.identity.get("spec"), part.identity.get("provenance")
        if not isinstance(spec, Mapping):
            raise CountsError(f"{path}: spec is {spec!r}; must be a mapping; {CERTIFICATES.remedy}")
        found.append(CertificatesPart(frame, spec, _checked_provenance(path, provenance)))
    return found


def find_certificates(path: Path, parts: Sequence[CertificatesPart], spec: Mapping[str, Any]) -> CertificatesPart:
    """Return the certificates that are what is asked for.

    Args:
        path: the file, for messages.
        parts: of it.
        spec: what they must be, all of it.

    Raises:
        CountsError: there are none; the message names the entry and both values.
    """
    return parts[CERTIFICATES.find(path, [{"spec": part.spec} for part in parts], {"spec": spec})]


def export_certificates(path: Path, frame: pd.DataFrame) -> None:
    """Write certificates in the field's format, for other programs: tab-separated, `COLUMNS`.

    Radii are not rounded.

    Args:
        path: the file; its folder is made.
        frame: as in `CertificatesPart`.

    Raises:
        CountsError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise CountsError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
    with atomic_write(path, error=CountsError) as file:
        file.write(frame.loc[:, list(COLUMNS)].to_csv(sep="\t", index=False, lineterminator="\n").encode())


def _stored(path: Path, part: CertificatesPart) -> Part:
    frame = part.frame
    if sorted(found := tuple(map(str, frame.columns))) != sorted(COLUMNS):
        raise _wrong_columns(path, found, [COLUMNS])
    for name, column in _COLUMNS.items():
        kinds = "iub" if column.read is int else "OTU" if column.read is str else "fiu"
        if frame[name].dtype.kind not in kinds:
            raise CountsError(f"{path}: column {name} has type {frame[name].dtype}; must be {column.right}")
    _check_values(path, frame.astype({"correct": np.int64}), _COLUMNS)
    identity = {"spec": dict(part.spec), "provenance": dict(_checked_provenance(path, part.provenance))}
    try:
        json.dumps(identity, allow_nan=False)
    except (TypeError, ValueError) as cause:
        raise CountsError(f"{path}: provenance cannot be JSON: {cause}; must be plain, finite values") from cause
    columns = {name: frame[name].to_numpy(dtype=object if kind is np.str_ else kind) for name, kind in TYPES.items()}
    return Part(identity, columns)


def read_published_certificates(path: Path, *, sigma: float | None = None, norm: Norm = "l2") -> pd.DataFrame:
    """Read a table in one of the field's formats, or ours.

    Args:
        path: tab-separated, with exactly the columns ``idx label predict radius correct time`` (Cohen et al. 2019,
            SmoothAdv and most later work), these with ``sigma`` before ``time`` (DDRS), or `COLUMNS`; plain or
            compressed by gzip. Lines may end in CR LF, a byte order mark may come first, and blank lines last.
        sigma: the constant sigma, in pixel coordinates [0, 1], of the noise that these certificates are said to be of;
            None if that is not said, and is not checked.
        norm: of the radii, which says the noise: Gaussian in l2, uniform on [-sigma, sigma]^d in l1.

    Returns:
        A frame with the columns of the file, ``time`` in seconds (published as seconds, or as h:mm:ss).

    Raises:
        ConfigError: sigma is not a positive number.
        CountsError: the file is missing or damaged, a value is not valid, or a row cannot be a certificate of this
            sigma: its own sigma is another, its guarantee is not global, or its radius is larger than any number of
            samples that can be handled gives, at any probability of error up to 1/2. The message names file, line,
            column and what would be right.
    """
    frame = _parse(path)
    if sigma is not None:
        check_number("sigma", sigma, above=0)
        _check_sigma(path, frame, sigma, norm)
    return frame


def rounding(radius: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return by how much a published radius may be above the one that was certified.

    Half a unit of the third digit (Cohen et al. print so many) or of the fourth decimal (SmoothAdv), whichever is more;
    0 for radius 0, which stands for none.
    """
    exponent = np.floor(np.log10(radius, out=np.zeros_like(radius), where=radius > 0))
    half: Float[np.ndarray, " n"] = 0.5 * np.maximum(10.0 ** (exponent - _DIGITS + 1), 10.0**-_DECIMALS)
    return np.where(radius > 0, half, 0.0)


def read_plain(path: Path) -> bytes:
    """Return the bytes of a published file, or what gzip compressed to it.

    Raises:
        CountsError: the file cannot be read, or what is compressed is damaged or larger than 64 MiB; names ``path``.
    """
    try:
        content = path.read_bytes()
        if not content.startswith(_GZIP):
            return content
        plain = gzip.GzipFile(fileobj=io.BytesIO(content)).read(_MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as cause:
        raise CountsError(
            f"{path}: damaged ({cause}); must be tab-separated text, or that compressed by gzip"
        ) from cause
    except OSError as cause:
        raise CountsError(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    if len(plain) > _MOST_BYTES:
        raise CountsError(f"{path}: more than {_MOST_BYTES:,} bytes without compression; must be at most so many")
    return plain


def _parse(path: Path) -> pd.DataFrame:
    """Return the typed and checked table; its header says in which of the formats it is."""
    import pandas as pd

    try:
        lines = re.split("\r?\n", read_plain(path).decode("utf-8-sig").rstrip("\r\n"))
    except UnicodeDecodeError as cause:
        raise CountsError(f"{path}: not UTF-8 text ({cause}); must be tab-separated values") from cause
    header = tuple(lines[0].split("\t"))
    columns = next((layout for layout in _PUBLISHED if tuple(layout) == header), None)
    if columns is None:
        raise _wrong_columns(path, header, _PUBLISHED)
    rows = [line.split("\t") for line in lines[1:]]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise CountsError(f"{path}: line {number}: {len(row)} fields; must be {len(columns)}, separated by tabs")
    frame = pd.DataFrame(
        {
            name: [_value(path, n, name, column, row[k]) for n, row in enumerate(rows, start=2)]
            for k, (name, column) in enumerate(columns.items())
        }
    )
    _check_values(path, frame, columns)
    return frame


def _value(path: Path, line: int, name: str, column: _Column, text: str) -> int | float | str:
    try:
        return column.read(text)
    except ValueError as cause:
        raise CountsError(f"{path}: line {line}, column {name}: {text!r}; must be {column.right}") from cause


def _wrong_columns(path: Path, found: Sequence[str], layouts: Sequence[Iterable[str]]) -> CountsError:
    right = " or ".join(repr(" ".join(layout)) for layout in layouts)
    return CountsError(f"{path}: columns {' '.join(found)!r}; must be {right}")


def _check_values(path: Path, frame: pd.DataFrame, columns: Mapping[str, _Column]) -> None:
    """Raise CountsError at the first row that is not a certificate."""
    if frame.empty:
        raise CountsError(f"{path}: no certificates; must have one line per image")
    for name, column in columns.items():
        _refuse(path, frame, ~column.valid(frame[name]), name, f"must be {column.right}")
    abstain = frame["predict"] == ABSTAIN
    false = frame["correct"] != ((frame["predict"] == frame["label"]) & ~abstain)
    _refuse(path, frame, frame["idx"].duplicated(), "idx", "must be unique, and occurred before")
    _refuse(path, frame, abstain & (frame["radius"] != 0), "radius", "must be 0, as the prediction abstains")
    _refuse(path, frame, false, "correct", "must be 1 exactly if predict is label and no abstention")
    if "radius_before_memory" in columns:
        lost = (frame["guarantee"] == "memory") & frame["radius_before_memory"].isna()
        _refuse(path, frame, lost, "radius_before_memory", "must be a number where the guarantee is memory")


def _check_sigma(path: Path, frame: pd.DataFrame, sigma: float, norm: Norm) -> None:
    """Raise CountsError at the first row that is no certificate of noise of this constant sigma."""
    if "sigma" in frame:
        # DDRS prints three digits of it; we print all.
        printed = (sigma,) if "guarantee" in frame else (sigma, float(f"{sigma:.{_DIGITS}}"))
        _refuse(path, frame, ~frame["sigma"].isin(printed), "sigma", f"must be {sigma}, the declared sigma")
    if "guarantee" in frame:
        _refuse(path, frame, ~frame["guarantee"].str.startswith("global"), "guarantee", "must be global")
    radius, largest = frame["radius"].to_numpy(dtype=np.float64), sigma * _LARGEST_RADIUS[norm]
    right = f"must be at most {largest:.4g}: with the declared sigma {sigma}, {MAX_SAMPLES:,} samples give no more"
    _refuse(path, frame, frame["radius"] - rounding(radius) > largest, "radius", right)


def _refuse(path: Path, frame: pd.DataFrame, bad: pd.Series[bool], name: str, right: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise CountsError(f"{path}: line {row + 2}, column {name}: {frame[name].iloc[row]}; {right}")


def _checked_provenance(path: Path, provenance: object) -> Mapping[str, Any]:
    found = _checked_keys(path, "provenance", provenance, PROVENANCE_KEYS)
    if found["memory"] is not None:
        _checked_keys(path, "provenance.memory", found["memory"], MEMORY_KEYS)
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", str(found["fingerprint"])):
        raise CountsError(f"{path}: provenance.fingerprint is {found['fingerprint']!r}; must be sha256: and 64 digits")
    return found


def _checked_keys(path: Path, where: str, found: object, required: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise CountsError(f"{path}: {where} is {found!r}; must be a mapping with {', '.join(required)}")
    missing = [key for key in required if key not in found]
    if missing:
        raise CountsError(f"{path}: {where} lacks {', '.join(missing)}; must have {', '.join(required)}")
    return found
