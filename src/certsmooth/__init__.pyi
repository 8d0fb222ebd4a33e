from certsmooth.artefacts.trained import TrainedClassifier as TrainedClassifier
from certsmooth.artefacts.trained import load_classifier as load_classifier
from certsmooth.errors import CertsmoothError as CertsmoothError
from certsmooth.science.attacks.base_pgd import BasePGD as BasePGD
from certsmooth.science.attacks.ddn import DDN as DDN
from certsmooth.science.attacks.pgd import PGD as PGD
from certsmooth.science.certificates.cohen import CohenCertificate as CohenCertificate
from certsmooth.science.certificates.l1 import L1Certificate as L1Certificate
from certsmooth.science.certificates.renyi import RenyiCertificate as RenyiCertificate
from certsmooth.science.certificates.semi_elastic import SemiElasticCertificate as SemiElasticCertificate
from certsmooth.science.certificates.t_certify import TCertifyCertificate as TCertifyCertificate
from certsmooth.science.certificates.two_sided import TwoSidedCertificate as TwoSidedCertificate
from certsmooth.science.certificates.two_sided_adaptive import (
    TwoSidedAdaptiveCertificate as TwoSidedAdaptiveCertificate,
)
from certsmooth.science.certificates.two_sided_grid import TwoSidedGridCertificate as TwoSidedGridCertificate
from certsmooth.science.certify import certify_counts as certify_counts
from certsmooth.science.classifier import SmoothedClassifier as SmoothedClassifier
from certsmooth.science.memory import Memory as Memory
from certsmooth.science.objectives.adre import ADRE as ADRE
from certsmooth.science.objectives.expected_radius import ExpectedRadius as ExpectedRadius
from certsmooth.science.objectives.gaussian import GaussianAugmentation as GaussianAugmentation
from certsmooth.science.objectives.macer import MACER as MACER
from certsmooth.science.objectives.smoothadv import SmoothAdv as SmoothAdv
from certsmooth.science.objectives.stability import Stability as Stability
from certsmooth.science.objectives.standard import Standard as Standard
from certsmooth.science.sigma.border_distance import BorderDistanceSigma as BorderDistanceSigma
from certsmooth.science.sigma.data_dependent import DataDependentSigma as DataDependentSigma
from certsmooth.science.sigma.fixed import FixedSigma as FixedSigma
from certsmooth.science.sigma.multi_start import MultiStartSigma as MultiStartSigma
from certsmooth.science.sigma.nearest_neighbour import NearestNeighbourSigma as NearestNeighbourSigma
from certsmooth.science.theory.worst_case import semi_elastic_radius as semi_elastic_radius
from certsmooth.science.theory.worst_case import xi as xi
from certsmooth.science.training.loop import TrainingResult as TrainingResult
from certsmooth.science.training.loop import train as train
from certsmooth.science.training.recipe import Recipe as Recipe
