"""What a method would reach if one of its settings were chosen for each image: the ceiling of such a choice.

No classifier has these certificates: the choice is made at the image alone, and looks at what was certified there. A
sigma(x) that takes values between the settings, as the search of DDRS does, may reach more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, Shaped

from certsmooth.analysis import Record
from certsmooth.analysis.metrics import accuracy_record, acr_record
from certsmooth.analysis.runs import Method
from certsmooth.science.metrics import certified_accuracy

CHOICES = ("largest radius of the right class", "largest radius of any class")
"""By which a setting is the best at an image; the first asks for the label."""


def ceiling_records(method: Method, radii: Sequence[float], norm: str) -> Iterator[Record]:
    """Yield certified accuracies and the ACR of a method with the best setting at each image, by each of `CHOICES`.

    With several seeds it is chosen for each of them, and numbers are means.

    Nothing of a method with one setting.

    Args:
        method: its outcomes are about the same images, with as many seeds.
        radii: of the accuracies.
        norm: of the radii.
    """
    if len(method.outcomes) < 2:
        return
    correct = np.stack([outcome.correct for outcome in method.outcomes])
    radius = np.stack([outcome.radius for outcome in method.outcomes])
    for choice, score in zip(CHOICES, (np.where(correct, radius, -1.0), radius), strict=True):
        right, reach = (_at(score.argmax(axis=0), each) for each in (correct, radius))
        numbers = [accuracy_record(certified_accuracy(right, reach, at), right.shape[1], at) for at in radii]
        for number in (*numbers, acr_record(right, reach, norm)):
            yield {"method": method.label, "choice": choice, **number}


def _at(place: Int[np.ndarray, "s n"], values: Shaped[np.ndarray, "m s n"]) -> npt.NDArray[Any]:
    """Return the value of the chosen setting, [s, n]."""
    found: npt.NDArray[Any] = np.take_along_axis(values, place[None], axis=0)[0]
    return found
