"""What IDRS's certificate costs in high dimension: ImageNet, which the paper leaves open (IDRS, Sections 3 and 6).

The certificate of an r-semi-elastic sigma(x) needs p_A, sigma, r and the dimension N alone. So certificates of a
constant sigma, whose p_A is known, say what IDRS would certify for a sigma(x) that equals this sigma at the images
and is r-semi-elastic between them. That is what the certificate pays for r; what sigma(x) may gain by other values at
the images is not in it.

What such a table says, per ``source`` (label of certificates) and ``rate``: accuracies, ACR, and ``acr_kept``, the
ACR in percent of that of the constant sigma (absent where that is 0 or no rate is). ``certified``: the radius of each
image in the order of the certificates, 0 where the prediction is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtr

from certsmooth._internal.checks import check_number
from certsmooth.analysis import Record
from certsmooth.analysis.metrics import accuracy_record, acr_record
from certsmooth.analysis.result import TableResult, tidy
from certsmooth.artefacts.certificates import rounding
from certsmooth.errors import ConfigError, CountsError
from certsmooth.science.metrics import average_certified_radius, certified_accuracy, certified_radii
from certsmooth.science.theory.worst_case import semi_elastic_radius

_COLUMNS = ("table", "source", "dimension", "rate", "metric", "radius", "value", "unit", "lower", "upper", "images")


def with_probabilities(frame: pd.DataFrame, sigma: float) -> pd.DataFrame:
    """Add ``p_a_lower`` and ``sigma`` to published certificates: p_A = Phi(radius / sigma), rounded down.

    Published radii were rounded, half of them upwards, and that is taken off first: no p_A is above the one that was
    certified. Nor is it above the ``p_a_lower`` of certificates that have one: a two-sided radius is more than p_A
    alone gives.

    Args:
        frame: as `certsmooth.artefacts.certificates.read_published_certificates` returns it.
        sigma: the constant sigma of these certificates, in pixel coordinates [0, 1].

    Returns:
        A copy with the two columns; p_A is 1/2 where the radius is 0.

    Raises:
        ConfigError: sigma is not a positive number.
    """
    sigma = check_number("sigma", sigma, above=0)
    radius = frame["radius"].to_numpy(dtype=np.float64)
    p_a = ndtr(np.maximum(radius - rounding(radius), 0.0) / sigma)
    p_a = np.minimum(p_a * (1 - 1e-14), frame.get("p_a_lower", 1.0))
    return frame.assign(p_a_lower=np.maximum(p_a, 0.5), sigma=sigma)


def high_dimension_table(
    certificates: Mapping[str, pd.DataFrame],
    *,
    name: str,
    title: str,
    about: str,
    rates: Sequence[float],
    radii: Sequence[float],
    dimension: int,
) -> TableResult:
    """Certify given p_A for r-semi-elastic sigma(x) in a dimension.

    Args:
        certificates: by label, frames with the columns ``p_a_lower``, ``sigma`` and ``correct``: a certificates file of
            ours, or `with_probabilities` of published ones.
        name: stem of the files, ``"imagenet"``.
        title: heading.
        about: where the certificates come from; a sentence.
        rates: values of r; 0 is the constant sigma.
        radii: at which certified accuracy is given.
        dimension: N.

    Raises:
        ConfigError: there are no certificates, or an argument is out of range.
        CountsError: fewer than two images.
    """
    if not certificates:
        raise ConfigError(f"{name}: no certificates; must be at least one set")
    for label, frame in certificates.items():
        if len(frame) < 2:
            raise CountsError(f"{label}: {len(frame)} image; an interval needs at least 2")
    certified: list[Record] = []
    values: list[Record] = []
    for label, frame in certificates.items():
        correct = frame["correct"].to_numpy(dtype=bool)[None]
        p_a, sigma = (frame[column].to_numpy(dtype=np.float64)[None] for column in ("p_a_lower", "sigma"))
        found = {float(rate): semi_elastic_radius(p_a, sigma, rate, dimension) for rate in rates}
        constant = average_certified_radius(correct, found[0.0]) if 0.0 in found else 0.0
        for rate, radius in found.items():
            shared = {"table": name, "source": label, "dimension": dimension, "rate": rate, "images": len(frame)}
            accuracies = [accuracy_record(certified_accuracy(correct, radius, at), len(frame), at) for at in radii]
            acr = acr_record(correct, radius, "l2")
            kept = 100 * acr["value"] / constant if constant else None
            numbers = [*accuracies, acr, {"metric": "acr_kept", "value": kept, "unit": "percent"}]
            values += [shared | number for number in numbers]
            certified += [shared | {"radius": float(each)} for each in certified_radii(correct, radius)]
    return TableResult(
        kind="high_dimension",
        name=name,
        title=title,
        about={"about": about, "dimension": dimension, "radii": [float(at) for at in radii]},
        values=tidy(values, _COLUMNS),
        more={"certified": tidy(certified, ("source", "rate", "radius"))},
    )
