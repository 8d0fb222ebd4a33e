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
    from certsmooth.science.certificates.cohen import CohenCertificate as CohenCertificate
    from certsmooth.science.certificates.l1 import L1Certificate as L1Certificate
    from certsmooth.science.certificates.semi_elastic import SemiElasticCertificate as SemiElasticCertificate
    from certsmooth.science.certificates.two_sided import TwoSidedCertificate as TwoSidedCertificate
    from certsmooth.science.classifier import SmoothedClassifier as SmoothedClassifier
    from certsmooth.science.memory import Memory as Memory
    from certsmooth.science.sigma.border_distance import BorderDistanceSigma as BorderDistanceSigma
    from certsmooth.science.sigma.data_dependent import DataDependentSigma as DataDependentSigma
    from certsmooth.science.sigma.fixed import FixedSigma as FixedSigma
    from certsmooth.science.sigma.multi_start import MultiStartSigma as MultiStartSigma
    from certsmooth.science.sigma.nearest_neighbour import NearestNeighbourSigma as NearestNeighbourSigma
    from certsmooth.science.theory.worst_case import semi_elastic_radius as semi_elastic_radius
    from certsmooth.science.theory.worst_case import xi as xi

_PUBLIC = {
    "BorderDistanceSigma": ("certsmooth.science.sigma.border_distance", "BorderDistanceSigma"),
    "CertsmoothError": ("certsmooth.errors", "CertsmoothError"),
    "CohenCertificate": ("certsmooth.science.certificates.cohen", "CohenCertificate"),
    "DataDependentSigma": ("certsmooth.science.sigma.data_dependent", "DataDependentSigma"),
    "FixedSigma": ("certsmooth.science.sigma.fixed", "FixedSigma"),
    "L1Certificate": ("certsmooth.science.certificates.l1", "L1Certificate"),
    "Memory": ("certsmooth.science.memory", "Memory"),
    "MultiStartSigma": ("certsmooth.science.sigma.multi_start", "MultiStartSigma"),
    "NearestNeighbourSigma": ("certsmooth.science.sigma.nearest_neighbour", "NearestNeighbourSigma"),
    "SemiElasticCertificate": ("certsmooth.science.certificates.semi_elastic", "SemiElasticCertificate"),
    "SmoothedClassifier": ("certsmooth.science.classifier", "SmoothedClassifier"),
    "TwoSidedCertificate": ("certsmooth.science.certificates.two_sided", "TwoSidedCertificate"),
    "semi_elastic_radius": ("certsmooth.science.theory.worst_case", "semi_elastic_radius"),
    "xi": ("certsmooth.science.theory.worst_case", "xi"),
}

__all__ = [
    "BorderDistanceSigma",
    "CertsmoothError",
    "CohenCertificate",
    "DataDependentSigma",
    "FixedSigma",
    "L1Certificate",
    "Memory",
    "MultiStartSigma",
    "NearestNeighbourSigma",
    "SemiElasticCertificate",
    "SmoothedClassifier",
    "TwoSidedCertificate",
    "semi_elastic_radius",
    "xi",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'certsmooth' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(module), attribute)
