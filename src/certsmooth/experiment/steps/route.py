"""Label the training images for a router, by what experts certify of those that they were not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from certsmooth._internal.storage import exclusive
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import read_record
from certsmooth.errors import DataError
from certsmooth.experiment.specs import CertifySpec, RoutesSpec
from certsmooth.experiment.steps.certify import certified_by
from certsmooth.experiment.steps.gathered import Counted
from certsmooth.experiment.steps.routed import ROUTES, sources_of


def route_images(spec: RoutesSpec, *, results: Path) -> None:
    """Write which expert has the largest radius at each training image, and by how much more than the second best.

    A radius is 0 where the class is wrong. The file is JSON: spec, what images and which checkpoints it is about,
    ``labels`` (the experts' places, from 0; the first of those that are equal) and ``stakes`` (pixels in [0, 1]).

    Args:
        spec: which routes.
        results: the folder of the results.

    Raises:
        DataError: the record of the data is missing or damaged, or no expert certifies an image that another does not.
        CountsError: counts are missing, damaged, incomplete, or of something else.
    """
    output = results / spec.path
    record = read_record(results / spec.data.path, spec=spec.data.identity)
    counted = Counted(results)
    with exclusive(output, error=DataError):
        radius = np.stack([_radii(folds, counted, record) for folds in spec.experts])
        *_, second, best = np.sort(radius, axis=0)
        if not (best > second).any():
            raise DataError(
                f"{output}: no expert has a larger radius than another at any training image; must have, for a router "
                "to learn from"
            )
        content = {"labels": radius.argmax(axis=0).tolist(), "stakes": (best - second).tolist()}
        made = {"made_by": asdict(made_by())}
        ROUTES.write_json(output, {**sources_of(spec, record, results), **content, **made})


def _radii(folds: Sequence[CertifySpec], counted: Counted, record: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Return the radius of each training image, by the classifier that was not trained on it; 0 for a wrong class."""
    found = np.zeros(record["parts"]["training"]["images"])
    for spec in folds:
        gathered, _, bound = certified_by(spec, counted, record)
        assert spec.sampled.base.fold is not None
        places = spec.sampled.base.fold.positions(len(found))
        found[places] = np.where(bound.predict == gathered.counts.label, bound.radius, 0.0)
    return found
