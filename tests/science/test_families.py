"""What families of members share: the registry names what a file lacks, and a short new member keeps its contract."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from certsmooth import BorderDistanceSigma, DataDependentSigma, FixedSigma
from certsmooth._internal.registry import function, member, member_class, names
from certsmooth.errors import ConfigError
from certsmooth.science.attacks.pgd import PGD
from certsmooth.science.certificates import BASE, Certificate
from certsmooth.science.datasets.cones import Cones
from certsmooth.science.objectives.macer import MACER
from factories import ROOT

FAMILIES = ("attacks", "certificates", "datasets", "denoisers", "noise", "objectives", "sigma")
CLASSES = {
    "attacks": {"base_pgd": "BasePGD", "ddn": "DDN", "pgd": "PGD"},
    "certificates": {
        "cohen": "CohenCertificate",
        "l1": "L1Certificate",
        "renyi": "RenyiCertificate",
        "semi_elastic": "SemiElasticCertificate",
        "t_certify": "TCertifyCertificate",
        "two_sided": "TwoSidedCertificate",
        "two_sided_adaptive": "TwoSidedAdaptiveCertificate",
        "two_sided_grid": "TwoSidedGridCertificate",
    },
    "datasets": {
        "cifar10": "CIFAR10",
        "cones": "Cones",
        "digits": "Digits",
        "folder": "Folder",
        "imagenet": "ImageNet",
        "mnist": "MNIST",
        "npz": "Npz",
        "parquet": "Parquet",
        "torchvision": "Torchvision",
    },
    "denoisers": {"dncnn": "DnCNN"},
    "noise": {"gaussian": "Gaussian", "uniform": "Uniform"},
    "objectives": {
        "adre": "ADRE",
        "cat_rs": "CATRS",
        "consistency": "Consistency",
        "expected_radius": "ExpectedRadius",
        "gaussian": "GaussianAugmentation",
        "macer": "MACER",
        "smoothadv": "SmoothAdv",
        "smoothmix": "SmoothMix",
        "stability": "Stability",
        "standard": "Standard",
    },
    "sigma": {
        "border_distance": "BorderDistanceSigma",
        "data_dependent": "DataDependentSigma",
        "fixed": "FixedSigma",
        "multi_start": "MultiStartSigma",
        "nearest_neighbour": "NearestNeighbourSigma",
    },
}
NEW = '''"""A new certificate."""

from dataclasses import dataclass

import numpy as np

from certsmooth.science.certificates._one_sided import OneSided


@dataclass(frozen=True)
class LinearCertificate(OneSided):
    """Cohen's theorem with Phi^-1(p) >= sqrt(2 pi) (p - 1/2) for p >= 1/2: the slope of Phi^-1 is nowhere less."""

    def radius(self, p_a_lower, smoothing):
        return smoothing.sigma * np.maximum(p_a_lower - 0.5, 0) * np.sqrt(2 * np.pi) * (1 - 2**-50)
'''


def module_of(code: str) -> ModuleType:
    module = ModuleType("certsmooth.science.certificates.new")
    module.__file__ = "src/certsmooth/science/certificates/new.py"
    exec(code, vars(module))
    return module


# --- names


@pytest.mark.parametrize("family", FAMILIES)
def test_every_member_has_a_name_of_its_own(family):
    assert {name: member(family, name).__name__ for name in names(family)} == CLASSES[family]


def test_no_two_members_share_a_name():
    found = [name for family in CLASSES.values() for name in family.values()]
    assert len(set(found)) == len(found)


def test_the_repr_makes_the_same_member():
    made = [
        FixedSigma(0.25),
        DataDependentSigma(sigma=0.25, iterations=3),
        member("certificates", "two_sided")(split=0.25),
        MACER(weight=2),
        PGD(epsilon=1, steps=2),
        Cones(dimension=3),
    ]
    for each in made:
        assert eval(repr(each), {type(each).__name__: type(each)}) == each
    assert repr(FixedSigma(0.25)) == "FixedSigma(sigma=0.25, factor=1.0)"
    assert repr(PGD(epsilon=1, steps=2)) == "PGD(epsilon=1.0, steps=2, clamp=True, step_size=None, estimator='plug_in')"


@pytest.mark.parametrize("family", FAMILIES)
def test_members_are_frozen(family):
    for name in names(family):
        assert member(family, name).__dataclass_params__.frozen


# --- a file that is no member


def test_a_file_without_a_class_is_named():
    with pytest.raises(ConfigError, match=r"^src/\S*/new\.py: no class; must define one subclass of Certificate$"):
        member_class(module_of("x = 1\n"), BASE)


def test_a_file_with_two_classes_is_named():
    two = NEW + "\n\n@dataclass(frozen=True)\nclass Other(LinearCertificate):\n    '''Another.'''\n"
    with pytest.raises(ConfigError, match=r"new\.py: LinearCertificate, Other; must define one subclass"):
        member_class(module_of(two), BASE)


def test_a_class_that_lacks_a_method_is_named():
    without = NEW.replace("def radius(", "def radii(")
    with pytest.raises(ConfigError, match=r"new\.py: LinearCertificate lacks radius; must define what Certificate"):
        member_class(module_of(without), BASE)


def test_a_class_that_lacks_an_attribute_is_named():
    code = """
from dataclasses import dataclass
from certsmooth.science.noise import Noise

@dataclass(frozen=True)
class Silent(Noise):
    from_words = from_generator = lower_tail = quantile = lambda self, *arguments: None
"""
    with pytest.raises(ConfigError, match=r"new\.py: Silent lacks reach; must define what Noise asks for"):
        member_class(module_of(code), member("noise", "gaussian").__mro__[1])


def test_a_class_whose_fields_would_be_no_options_is_named():
    plain = NEW.replace("@dataclass(frozen=True)\n", "")
    with pytest.raises(ConfigError, match=r"new\.py: LinearCertificate is no dataclass; must be decorated with"):
        member_class(module_of(plain), BASE)


def test_what_a_module_imports_is_not_its_member():
    module = module_of(NEW)
    assert member_class(module, BASE) is module.LinearCertificate
    assert issubclass(module.LinearCertificate, Certificate)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_member_names_the_nearest(family):
    name = names(family)[0]
    with pytest.raises(ConfigError, match=f"^{family}: unknown name '{name}x'; did you mean '{name}'"):
        member(family, f"{name}x")


def test_a_function_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"mlp\.py: no function 'make'; must define it$"):
        function("models", "mlp", "make")


# --- a new member


@pytest.mark.slow
def test_a_certificate_of_a_few_lines_keeps_the_contract(tmp_path):
    """In a copy of the package: every test of the contract, for the new file as for any other."""
    assert len(NEW.partition("@dataclass")[2].splitlines()) < 10
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "src" / "certsmooth" / "science" / "certificates" / "linear.py").write_text(NEW)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "tests/science/test_certificates_contract.py",
            "-k",
            "linear",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 30


# --- options


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_option_names_the_nearest(family):
    for name in names(family):
        cls = member(family, name)
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        hint = f"did you mean '{known[0]}'" if known else r"valid: \(none\)"
        with pytest.raises(ConfigError, match=f"^{cls.__name__}: unknown option '{(known or ['x'])[0]}x'; {hint}"):
            cls(**{f"{(known or ['x'])[0]}x": 1})


def test_an_option_that_was_misspelt_by_hand():
    with pytest.raises(
        ConfigError, match=r"^DataDependentSigma: unknown option 'iteration'; did you mean 'iterations'"
    ):
        DataDependentSigma(sigma=0.25, iteration=100)


def test_a_copy_with_other_options_is_checked_as_well():
    policy = BorderDistanceSigma(sigma=0.25, rate=0.1)
    assert dataclasses.replace(policy, rate=np.float32(0.5)).rate == 0.5
    with pytest.raises(ConfigError, match=r"^rate: -1; must be a number > 0$"):
        dataclasses.replace(policy, rate=-1)
