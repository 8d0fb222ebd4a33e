"""What tables of papers come to in the per-image certificates that authors released.

A file is known by its path in the authors' repositories, below ``data/certify``: those of Cohen et al. 2019
(``cifar10/resnet110/noise_0.25/test/sigma_0.25``) and of SmoothAdv (``best_models/cifar10/ours/...``). In a flat folder
names have ``__`` for ``/``, or are as ``cohen2019_cifar10_resnet110_train0.25_certify0.25``; ``.tsv`` and ``.gz`` may
follow.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from certsmooth.analysis import Record
from certsmooth.analysis.result import records, tidy
from certsmooth.errors import CountsError
from certsmooth.science.certificates import ABSTAIN

if TYPE_CHECKING:
    import pandas as pd

DERIVED_COLUMNS = (
    *("paper", "table", "dataset", "method", "sigma", "metric", "radius", "value", "unit", "images", "files", "file"),
    "sha256",
)
"""Of derived values: the cell; its value there; of how many images; the best of how many files; which file gives it, by
its path in the authors' repository, and the SHA-256 of its text."""

BEST = "best"
"""Sigma of a cell that is the best over all sigmas."""

_ABOVE = r"(?:(?!cifar10|imagenet|eps_)[^/]+/)*"
"""Folders above a known path. SmoothAdv's files of 500 images have a path of Cohen's form below ``eps_...``."""
_MODELS = {
    "cohen cifar10": "cifar10/resnet110",
    "cohen imagenet": "imagenet/resnet50",
    "cohen cifar10 by smoothadv": "cifar10/cohen/resnet110",
    "cohen imagenet by smoothadv": "imagenet/replication/resnet50",
    "smoothadv cifar10": "cifar10/ours/.+",
    "smoothadv cifar10 pre-trained": "cifar10/ours_pretraining/.+",
    "smoothadv cifar10 self-trained": "cifar10/ours_selftraining/.+",
    "smoothadv cifar10 both": "cifar10/ours_pretraining_selftraining/.+",
    "smoothadv imagenet": "imagenet/(?:PGD_1step|DDN_2steps)/(?:imagenet/)?eps_(?:127|255|512|1024)/resnet50",
}
_PATHS = {
    models: re.compile(rf"{_ABOVE}(?P<name>{path}/noise_(?P<sigma>[0-9.]+)/test/sigma_(?P=sigma))")
    for models, path in _MODELS.items()
}
_FLAT = re.compile(r"cohen2019_([a-z0-9]+)_(resnet[0-9]+)_train([0-9.]+)_certify([0-9.]+)")
_SIGMAS = {"cifar10": (0.12, 0.25, 0.5, 1.0), "imagenet": (0.25, 0.5, 1.0)}
"""Those that Cohen et al. and SmoothAdv trained for: a best value needs files of all."""

_ROWS: Mapping[tuple[str, int, str, str], tuple[str, ...]] = {
    ("adre", 1, "cifar10", "Basic"): ("cohen cifar10",),
    ("adre", 1, "imagenet", "Basic"): ("cohen imagenet",),
    ("idrs", 4, "cifar10", "Cohen"): ("cohen cifar10",),
    ("smoothadv", 1, "imagenet", "Cohen"): ("cohen imagenet", "cohen imagenet by smoothadv"),
    ("smoothadv", 1, "imagenet", "SmoothAdv"): ("smoothadv imagenet",),
    ("smoothadv", 2, "cifar10", "Cohen"): ("cohen cifar10", "cohen cifar10 by smoothadv"),
    ("smoothadv", 2, "cifar10", "SmoothAdv"): ("smoothadv cifar10",),
    ("smoothadv", 2, "cifar10", "SmoothAdv + pre-training"): ("smoothadv cifar10 pre-trained",),
    ("smoothadv", 2, "cifar10", "SmoothAdv + semi-supervision"): ("smoothadv cifar10 self-trained",),
    ("smoothadv", 2, "cifar10", "SmoothAdv + both"): ("smoothadv cifar10 both",),
}
"""Which models a row is about; of several, the first of which there are files enough."""


@dataclass(frozen=True)
class Known:
    """What the path of a file says.

    Attributes:
        models: whose certificates they are.
        name: its path in the authors' repository, below ``data/certify`` or ``best_models``.
        sigma: of training and certification, in pixel coordinates [0, 1].
    """

    models: str
    name: str
    sigma: float


@dataclass(frozen=True, eq=False)
class LogFile:
    """A file of per-image certificates.

    Attributes:
        known: what its path says.
        sha256: of its text, 64 hexadecimal digits.
        frame: as `certsmooth.artefacts.certificates.read_published_certificates` returns it.
    """

    known: Known
    sha256: str
    frame: pd.DataFrame


def known_file(path: str) -> Known | None:
    """Return what a path says, relative to the folder of all; None if it is not one of those known.

    A file of models that were certified at another sigma than they were trained with is in no table.
    """
    path = _FLAT.sub(r"\1/\2/noise_\3/test/sigma_\4", path.removesuffix(".gz").removesuffix(".tsv").replace("__", "/"))
    for models, pattern in _PATHS.items():
        if found := pattern.fullmatch(path):
            return Known(models, found["name"], float(found["sigma"]))
    return None


def derived_values(cells: Iterable[Record], files: Sequence[LogFile]) -> tuple[pd.DataFrame, list[str]]:
    """Return what cells come to in files.

    A certified accuracy is the share of images that are classified correctly with a radius of at least r, as printed in
    the file; the best over sigma is over all files of the row's models.

    Args:
        cells: as `certsmooth.analysis.published.published_cells` returns them.
        files: of different names.

    Returns:
        A frame with `DERIVED_COLUMNS`, in the order of the cells. And what could not be derived although some files of
        its models are there, a line for each row of a table.
    """
    rows: list[Record] = []
    lacking: dict[str, None] = {}
    for cell in cells:
        row = cell["paper"], cell["table"], cell["dataset"], cell["method"]
        found, missing = _files_of(cell, _ROWS.get(row, ()), files)
        if missing:
            lacking[f"{cell['paper']} table {cell['table']}, {cell['dataset']}, {cell['method']}: {missing}"] = None
        if found:
            values = {each: _value(each.frame, cell["metric"], cell["radius"]) for each in found}
            best = max(found, key=lambda each: values[each])
            made = {"value": round(values[best], 6), "images": len(best.frame), "files": len(found)}
            rows.append(cell | made | {"file": best.known.name, "sha256": best.sha256})
    return tidy(rows, DERIVED_COLUMNS), list(lacking)


def _files_of(cell: Record, choices: Sequence[str], files: Sequence[LogFile]) -> tuple[list[LogFile], str]:
    """Return the files that a cell is about, or what is missing though there are others of their models."""
    needed = _SIGMAS[cell["dataset"]] if cell["sigma"] == BEST else (float(cell["sigma"]),) if choices else ()
    missing = ""
    for models in choices:
        of_models = [each for each in files if each.known.models == models]
        absent = set(needed) - {each.known.sigma for each in of_models}
        if not absent:
            return [each for each in of_models if each.known.sigma in needed], ""
        if of_models and not missing:
            missing = f"no file of {models} at sigma {', '.join(f'{sigma:g}' for sigma in sorted(absent))}"
    return [], missing


def _value(frame: pd.DataFrame, metric: str, radius: float | None) -> float:
    """Return a metric in percent."""
    correct, abstains = frame["correct"] == 1, frame["predict"] == ABSTAIN
    counted = {
        "certified_accuracy": correct & (frame["radius"] >= (radius or 0.0)),
        "clean_accuracy": correct,
        "abstention_rate": abstains,
        "misclassification_rate": ~correct & ~abstains,
    }
    return 100 * float(counted[metric].mean())


def updated(derived: pd.DataFrame, newer: pd.DataFrame) -> pd.DataFrame:
    """Return derived values, with newer ones in the place of those of the same cell."""
    rows = {tuple(row[name] for name in DERIVED_COLUMNS[:7]): row for row in records(derived) + records(newer)}
    return tidy(rows.values(), DERIVED_COLUMNS)


def shipped_derived() -> pd.DataFrame:
    """Return the derived values that come with the package: a frame with `DERIVED_COLUMNS`."""
    file = resources.files("certsmooth.analysis.ledger").joinpath("derived.csv")
    return parse_derived(file.read_text(encoding="utf-8"), source=file.name)


def parse_derived(text: str, *, source: str) -> pd.DataFrame:
    """Return derived values from CSV.

    Args:
        text: with the columns `DERIVED_COLUMNS`.
        source: where it comes from, for messages.

    Raises:
        CountsError: other columns, or a value that is no number; names source, line, column and what would be right.
    """
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != DERIVED_COLUMNS:
        found = " ".join(reader.fieldnames or ())
        raise CountsError(f"{source}: columns {found!r}; must be {' '.join(DERIVED_COLUMNS)!r}")
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise CountsError(f"{source}: line {reader.line_num}: must have {len(DERIVED_COLUMNS)} fields")
        whole = {name: _number(source, reader.line_num, name, row[name], int) for name in ("table", "images", "files")}
        real = {name: _number(source, reader.line_num, name, row[name], float) for name in ("radius", "value")}
        rows.append({**row, **whole, **real})
    return tidy(rows, DERIVED_COLUMNS)


def _number(source: str, line: int, name: str, text: str, kind: type[int] | type[float]) -> float | None:
    if not text and name == "radius":
        return None
    try:
        return kind(text)
    except ValueError as cause:
        raise CountsError(f"{source}: line {line}, column {name}: {text!r}; must be a number") from cause
