"""Certified robustness by randomized smoothing.

    from certsmooth import FixedSigma, SmoothedClassifier

    smoothed = SmoothedClassifier(model, num_classes=10, sigma=FixedSigma(0.25))
    smoothed.certify(images, n0=100, n=100_000, alpha=0.001, seed=0)

The names below are the public API; they are imported when they are first used, so that the workflow's short jobs do
not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certsmooth.errors import CertsmoothError as CertsmoothError
    from certsmooth.memory import Memory as Memory
    from certsmooth.sigma.data_dependent import Policy as DataDependentSigma
    from certsmooth.sigma.fixed import Policy as FixedSigma
    from certsmooth.sigma.nearest_neighbour import Policy as NearestNeighbourSigma
    from certsmooth.smoothing import SmoothedClassifier as SmoothedClassifier

_PUBLIC = {
    "CertsmoothError": ("certsmooth.errors", "CertsmoothError"),
    "DataDependentSigma": ("certsmooth.sigma.data_dependent", "Policy"),
    "FixedSigma": ("certsmooth.sigma.fixed", "Policy"),
    "Memory": ("certsmooth.memory", "Memory"),
    "NearestNeighbourSigma": ("certsmooth.sigma.nearest_neighbour", "Policy"),
    "SmoothedClassifier": ("certsmooth.smoothing", "SmoothedClassifier"),
}

__all__ = [
    "CertsmoothError",
    "DataDependentSigma",
    "FixedSigma",
    "Memory",
    "NearestNeighbourSigma",
    "SmoothedClassifier",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'certsmooth' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(module), attribute)
