"""What steps tell later ones as JSON: what a data set is, and how counts were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from certsmooth._internal.storage import file_digest
from certsmooth.artefacts.envelope import Form
from certsmooth.artefacts.provenance import MadeBy, Sha256
from certsmooth.errors import CountsError, DataError

RECORD = Form("record of data 2", "make it with `certsmooth data`", DataError)
RECORD_LOG = Form("log of data 2", RECORD.remedy, DataError)
LOG = Form("log 2", "make again what it is the log of")


@dataclass(frozen=True)
class _Part:
    images: int
    fingerprint: Sha256  # names a file of kept data
    content: Sha256 | None


@dataclass(frozen=True)
class _Record:
    """The form of a record, see `certsmooth.experiment.steps.data.record_data`."""

    spec: dict[str, Any]
    name: str
    description: str
    image_shape: list[int]
    num_classes: int
    pixel_range: tuple[float, float] | None
    parts: dict[str, _Part]
    classes: list[str] | None = None


def read_record(path: Path, *, spec: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read what `certsmooth.experiment.steps.data.record_data` wrote.

    Args:
        path: the file.
        spec: which data it must be about, all of it.

    Raises:
        DataError: missing or damaged, or about other data; the message names the entry and both values.
    """
    content = RECORD.read_json(path)
    RECORD.decoded(_Record, path, content)
    if spec is not None:
        RECORD.check(path, content, {"spec": spec})
    return content


@dataclass(frozen=True, kw_only=True)
class Log:
    """How counts were made: what differs from run to run is not in the counts, but beside them.

    Attributes:
        seconds: one per image, or per group of images.
        device: "cpu", or the name of the GPU.
        threads: CPU threads.
        made_by: what made them.
    """

    seconds: list[float]
    device: str
    threads: int
    made_by: MadeBy

    def summary(self) -> dict[str, Any]:
        """Return it as tables show it, with the sum of the seconds."""
        return asdict(self.made_by) | {"seconds": sum(self.seconds), "device": self.device, "threads": self.threads}


def log_path(made: Path) -> Path:
    """Return where the log of counts or of a record lies: beside them."""
    return made.with_suffix(".log.json")


@dataclass(frozen=True)
class _Logs:
    """How a file was made; ``made`` is its SHA-256: counts of the same form may be others."""

    made: Sha256
    parts: list[Log]


def write_logs(made: Path, logs: Sequence[Log]) -> None:
    """Write how the parts of a file were made, beside it; the file must be there.

    Raises:
        CountsError: the file cannot be written.
    """
    LOG.write_json(log_path(made), asdict(_Logs(file_digest(made, error=CountsError), list(logs))))


def read_logs(made: Path) -> list[Log]:
    """Read how the parts of a file were made, given its path.

    Raises:
        CountsError: missing or damaged, or the log of another file.
    """
    path = log_path(made)
    content = LOG.read_json(path)
    LOG.check(path, content, {"made": file_digest(made, error=CountsError)})
    return LOG.decoded(_Logs, path, content).parts
