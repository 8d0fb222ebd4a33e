"""The record of a data set: what it is and the fingerprints of its parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from certsmooth.errors import DataError


def read_record(path: Path) -> dict[str, Any]:
    """Read what `certsmooth.steps.data.record_data` wrote.

    Raises:
        DataError: missing or damaged.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a record of a data set ({error}); make it with `certsmooth data`") from error
    return record
