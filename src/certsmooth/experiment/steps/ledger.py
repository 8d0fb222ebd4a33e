"""The ledger of all published numbers, and what the authors' per-image files give for them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from certsmooth._internal.storage import atomic_write
from certsmooth.analysis import Record
from certsmooth.analysis.ledger import ledger_table
from certsmooth.analysis.ledger.derive import (
    Known,
    LogFile,
    derived_values,
    known_file,
    parse_derived,
    shipped_derived,
    updated,
)
from certsmooth.analysis.ledger.ours import measured, thresholds
from certsmooth.analysis.published import published_cells
from certsmooth.analysis.result import records
from certsmooth.artefacts.certificates import read_plain, read_published_certificates
from certsmooth.artefacts.records import read_record
from certsmooth.errors import ConfigError, CountsError
from certsmooth.experiment.config import AccuracyTable, CertifiedTable
from certsmooth.experiment.resolve import Experiment
from certsmooth.report.render import write_table

if TYPE_CHECKING:
    import pandas as pd

NAME = "ledger"
DERIVED = Path("tables", "derived.csv")
"""Below the folder of the results: derived values that take the place of the shipped ones, if it is there."""
_THEORY = "idrs/table1"

_BOTH = {
    **dict.fromkeys(("kind", "dataset", "sigma", "metric", "seeds"), "string"),
    **{"value": "float64", "images": "Int64"},
}
_CERTIFIED = {
    **_BOTH,
    **dict.fromkeys(("method", "selected_on"), "string"),
    **dict.fromkeys(("radius", "lower", "upper"), "float64"),
}
_ACCURACY = {**_BOTH, "row": "string", **dict.fromkeys(("seed_sd", "image_error"), "float64")}
_THRESHOLDS = {"dataset": "string", "statement": "Int64", **dict.fromkeys(("p_a", "theorem"), "float64")}
"""What is read of a table of each kind."""


@dataclass(frozen=True, eq=False)
class Derived:
    """What the files of a folder give.

    Attributes:
        path: where it was written.
        values: with the columns of `certsmooth.analysis.ledger.derive.DERIVED_COLUMNS`.
        read: how many files were read.
        others: how many have a path that is not known.
        lacking: rows of tables for which some files are there, and others not.
    """

    path: Path
    values: pd.DataFrame
    read: int
    others: int
    lacking: Sequence[str]

    def described(self) -> str:
        """Return for people what was derived: how much of it is as printed, and each cell that is not."""
        ledger = records(ledger_table(published_cells(), self.values, ()).values)
        found = [cell for cell in ledger if cell["derived"] is not None]
        other = [cell for cell in found if cell["verdict"] == "differs"]
        lines = [
            f"{self.path}: {len(found)} cells from {self.read} files ({self.others} others are of no known path), "
            f"{len(found) - len(other)} as printed"
        ]
        lines += [f"not derived: {each}" for each in self.lacking]
        for cell in other:
            at = cell["metric"] if cell["radius"] is None else f"{cell['metric']} at r = {cell['radius']:g}"
            where = f"{cell['paper']} table {cell['table']}, {cell['dataset']}, {cell['method']}, sigma {cell['sigma']}"
            given = f"printed {cell['printed']}, derived {cell['derived']:g} {cell['unit']} ({cell['derived_file']})"
            lines.append(f"{where}, {at}: {given}")
        return "\n".join(lines)


def derive(logs: Path, *, results: Path) -> Derived:
    """Derive published numbers from the authors' per-image files, and write them to ``tables/derived.csv``.

    There they take the place of the shipped values of the same cells.

    Args:
        logs: folder of files, in the layout of the authors' repositories or flat
            (`certsmooth.analysis.ledger.derive`).
        results: folder of the results.

    Raises:
        ConfigError: no such folder, or none of its files is known.
        CountsError: a file is damaged, a value in it not valid (the message names file and line), or two files have
            the same name and other contents.
        CertsmoothError: the values cannot be written.
    """
    if not logs.is_dir():
        raise ConfigError(f"--logs: {logs} is no folder; must hold per-image certificates that authors released")
    paths = sorted(
        path for folder, _, names in os.walk(logs) for name in names if (path := Path(folder, name)).is_file()
    )
    known = {path: found for path in paths if (found := known_file(path.relative_to(logs).as_posix()))}
    if not known:
        raise ConfigError(
            f"--logs: {logs}: none of {len(paths)} files is known by its path; must be as data/certify in the "
            "repositories of Cohen et al. or SmoothAdv (cifar10/resnet110/noise_0.25/test/sigma_0.25), or with __ for /"
        )
    values, lacking = derived_values(published_cells(), _read(known))
    path = results / DERIVED
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        text = updated(shipped_derived(), values).to_csv(index=False, float_format="%.10g", lineterminator="\n")
        file.write(text.encode())
    return Derived(path, values, len(known), len(paths) - len(known), lacking)


def _read(known: dict[Path, Known]) -> list[LogFile]:
    files: dict[str, tuple[Path, LogFile]] = {}
    for path, found in known.items():
        digest = hashlib.sha256(read_plain(path)).hexdigest()
        other, file = files.setdefault(found.name, (path, LogFile(found, digest, read_published_certificates(path))))
        if file.sha256 != digest:
            raise CountsError(f"{path}: is {found.name} as {other} is, with another content; must be there once")
    return [file for _, (_, file) in sorted(files.items())]


def make_ledger(experiment: Experiment, *, results: Path) -> Path:
    """Write the ledger as Markdown, CSV and JSON to ``tables``.

    Ours are the numbers of the tables that say which published ones they stand beside, of those that are there.

    Args:
        experiment: all that is asked for.
        results: folder that holds ``tables`` and ``data``.

    Returns:
        The path of the Markdown file.

    Raises:
        CountsError: the derived values, or a table, are damaged.
        DataError: the record of the data of a table is missing, or about other data.
    """
    folder, derived = results / "tables", shipped_derived()
    if (path := results / DERIVED).is_file():
        derived = parse_derived(path.read_text(encoding="utf-8"), source=str(path))
    result = ledger_table(published_cells(), derived, _ours(experiment, results))
    folder.mkdir(parents=True, exist_ok=True)
    markdown, *_ = write_table(result, folder)
    return markdown


def compared_tables(experiment: Experiment) -> dict[str, list[tuple[str, int]]]:
    """Return the tables that stand beside published ones, each with papers and numbers of these."""
    found: dict[str, list[tuple[str, int]]] = {}
    for name, table in experiment.params.tables.items():
        if isinstance(table, CertifiedTable) and table.published:
            found[name] = [(table.published.paper, table.published.table)]
        elif isinstance(table, AccuracyTable) and table.published:
            found[name] = [(each.paper, each.table) for each in table.published]
    return found


def _ours(experiment: Experiment, results: Path) -> list[Record]:
    rows: list[Record] = []
    for name, published in compared_tables(experiment).items():
        columns = _ACCURACY if isinstance(experiment.params.tables[name], AccuracyTable) else _CERTIFIED
        if (values := _values(results, name, columns)) is not None:
            known = {dataset: _data(experiment, results, name, dataset) for dataset in _datasets(values)}
            rows += measured(values, source=name, published=published, data=known)
    if (values := _values(results, _THEORY, _THRESHOLDS)) is not None:
        rows += thresholds(values, source=_THEORY)
    return rows


def _values(results: Path, name: str, columns: Mapping[str, str]) -> pd.DataFrame | None:
    """Return columns of a table, by name and type; None if it was not made."""
    import pandas as pd

    path = results / "tables" / f"{name}.csv"
    if not path.is_file():
        return None
    try:
        return pd.read_csv(path, usecols=list(columns), dtype=dict(columns))
    except ValueError as cause:
        raise CountsError(f"{path}: damaged ({cause}); make the table again") from cause


def _datasets(values: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(row["dataset"] for row in records(values[values["kind"] == "measured"])))


def _data(experiment: Experiment, results: Path, table: str, dataset: str) -> str:
    """Return the name of a published data set if the images are proved to be it, or else what they are."""
    if dataset not in experiment.params.datasets:
        raise CountsError(f"tables/{table}.csv: dataset {dataset!r} is not in params.yaml; make the table again")
    spec = experiment.data(dataset)
    record = read_record(results / spec.path, spec=spec.identity)
    described = str(record["description"])
    return described if described.startswith("data in ") else str(record["name"])
