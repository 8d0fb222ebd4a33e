"""The training images of a router: which expert has the largest radius at each, and what the second best would lose."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from certsmooth._internal.storage import file_digest
from certsmooth.artefacts.envelope import Form
from certsmooth.errors import DataError
from certsmooth.experiment.specs import RoutesSpec
from certsmooth.science.datasets import Split

ROUTES = Form("routes 1", "make them with `certsmooth route`", DataError)


def sources_of(spec: RoutesSpec, record: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """Return what routes must say that they are of: their spec, the images and the experts' files.

    Raises:
        DataError: an expert's file is not there.
    """
    return {
        "spec": spec.identity,
        "fingerprint": record["parts"]["training"]["fingerprint"],
        "experts": [file_digest(results / each.sampled.base.path, error=DataError) for each in spec.labelling],
    }


def with_routes(
    training: Split, spec: RoutesSpec, record: Mapping[str, Any], *, results: Path
) -> tuple[Split, npt.NDArray[np.float64]]:
    """Return the images with the labels that `certsmooth route` wrote, and the weight of each, 1 in the mean.

    Raises:
        DataError: the routes are missing, damaged, or of other experts or images.
    """
    path = results / spec.path
    stored = ROUTES.read_json(path)
    ROUTES.check(path, stored, sources_of(spec, record, results))
    labels, stakes = np.asarray(stored["labels"], dtype=np.int64), np.asarray(stored["stakes"], dtype=np.float64)
    if (len(labels), len(stakes)) != (len(training), len(training)):
        raise DataError(f"{path}: {len(labels)} labels of {len(training)} images; {ROUTES.remedy}")
    routed = hashlib.sha256(labels.tobytes() + stakes.tobytes()).hexdigest()
    fingerprint = f"{training.fingerprint} routed by sha256:{routed}"
    return replace(training, labels=labels, fingerprint=fingerprint), stakes / stakes.mean()
