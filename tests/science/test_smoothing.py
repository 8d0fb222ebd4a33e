"""The smoothed classifier: certificates against classifiers whose exact robustness is known."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import certsmooth
from certsmooth import (
    BorderDistanceSigma,
    CohenCertificate,
    DataDependentSigma,
    FixedSigma,
    L1Certificate,
    Memory,
    MultiStartSigma,
    NearestNeighbourSigma,
    SemiElasticCertificate,
    SmoothedClassifier,
    TwoSidedCertificate,
    semi_elastic_radius,
)
from certsmooth.errors import ConfigError, DataError, ModelError
from certsmooth.science.certificates import Smoothing, cohen
from certsmooth.science.theory.pixel_grid import PixelGrid
from factories import ROOT, WEIGHT, RowLinear, half_space, images_of

ADAPTIVE = DataDependentSigma(sigma=0.3, iterations=5, step=0.01, class_samples=4)
POLICIES = [FixedSigma(0.25), ADAPTIVE]
FEW = {"n0": 20, "n": 120, "seed": 0}


def smooth(model=None, policy=POLICIES[0], **options):
    return SmoothedClassifier(model or RowLinear(WEIGHT), num_classes=3, sigma=policy, **options)


def test_settings_that_cannot_succeed_are_refused_before_sampling():
    class Untouched(nn.Module):
        def forward(self, images):
            raise AssertionError("a sample was drawn")

    x, untouched = images_of(1), smooth(Untouched())
    with pytest.raises(ConfigError, match=r"^n: 10; every image would abstain at alpha 0\.001, .*must be at least 11$"):
        untouched.predict(x, n=10, alpha=0.001, seed=0)
    with pytest.raises(ConfigError, match=r"^n: 9; every image would abstain at alpha 0\.001, .*must be at least 10$"):
        untouched.certify(x, n=9, alpha=0.001, seed=0)
    with pytest.raises(ConfigError, match=r"^n: 2000000000; must be at most 1000000000$"):
        untouched.certify(x, n=2_000_000_000, seed=0)
    for call in (untouched.certify, untouched.predict):
        with pytest.raises(ConfigError, match=r"^alpha: 1e-120; must be in \(0, 1\), at least 1e-100$"):
            call(x, alpha=1e-120, seed=0)
        with pytest.raises(ConfigError, match=r"^n: 1000\.0; must be a whole number: 1000$"):
            call(x, n=1000.0, seed=0)


def test_the_least_settings_that_can_succeed_do():
    x, sure = images_of(5), smooth(RowLinear(torch.zeros(3, 4), torch.tensor([1.0, 0.0, 0.0])))
    assert (sure.predict(x, n=11, alpha=0.001, seed=0) == 0).all()
    found = sure.certify(x, n0=1, n=10, alpha=0.001, seed=0)
    assert (found["predict"] == 0).all()
    assert (found["radius"] > 0).all()


@pytest.mark.parametrize("make", [np.int64, np.uint8, np.array, torch.tensor])
def test_an_integer_of_any_type_is_the_same_integer(make):
    x, smoothed = images_of(3), smooth()
    plain = smoothed.certify(x, n0=20, n=120, alpha=0.01, seed=3)
    found = smoothed.certify(x, n0=make(20), n=make(120), alpha=np.float64(0.01), seed=make(3))
    assert found.equals(plain)
    assert (smoothed.predict(x, n=make(120), seed=make(0)) == smoothed.predict(x, n=120, seed=0)).all()
    again = SmoothedClassifier(RowLinear(WEIGHT), num_classes=make(3), sigma=FixedSigma(np.float32(0.25)))
    assert again.certify(x, n0=20, n=120, alpha=0.01, seed=3).equals(plain)


def test_a_large_number_of_samples_as_numpy_has_it():
    x, smoothed = images_of(1), smooth()
    assert smoothed.sample(x, n0=1, n=np.int64(1000), seed=0).estimation.sum() == 1000


@pytest.mark.parametrize("seed", [0.0, True, np.True_, torch.tensor(0.0), torch.tensor(False), "0", None])
def test_what_is_no_seed_is_refused(seed):
    for call in (smooth().sample, smooth().certify):
        with pytest.raises(ConfigError, match=r"^seed: .*must be a whole number"):
            call(images_of(1), n0=10, n=20, seed=seed)
    with pytest.raises(ConfigError, match=r"^seed: .*must be a whole number"):
        smooth().predict(images_of(1), n=20, seed=seed)


# --- the certificate


def test_radius_of_a_half_space_stays_below_the_exact_margin():
    """The distance to the boundary is the largest radius that is true; alpha of the radii may exceed it."""
    direction, offset, alpha, images = torch.tensor([0.6, 0.0, 0.48, 0.64]), 0.86, 0.001, 300
    x = images_of(images)
    margin = x.flatten(1).double() @ direction.double() - offset
    smoothed = SmoothedClassifier(half_space(direction, offset), num_classes=2, sigma=FixedSigma(0.25))
    found = smoothed.certify(x, n0=100, n=2000, alpha=alpha, seed=1)
    certified = found["predict"] >= 0
    assert certified.mean() > 0.7
    assert (found["radius"] > margin.abs().numpy()).sum() <= stats.binom.isf(1e-4, images, alpha)
    assert (found["radius"] > margin.abs().numpy() + 0.02).sum() == 0  # where one exceeds it, by how little
    right = (margin > 0).numpy().astype(int)
    assert (found["predict"][certified] == right[certified]).all()
    assert (found["radius"][certified] > 0).all()
    assert (found["radius"][~certified] == 0).all()
    tight = margin.abs().numpy() - found["radius"]
    assert np.median(tight[margin.abs().numpy() < 0.25]) < 0.05  # not by being far too small


def test_certificates_are_those_of_the_counts():
    smoothed, x = smooth(), images_of(60)
    counts = smoothed.sample(x, **FEW)
    smoothing = Smoothing(counts.sigma, x[0].numel(), 0.0, counts.constant_within, grid=PixelGrid(255))
    bound = cohen.CohenCertificate()(counts.selection, counts.estimation, smoothing, alpha=0.01)
    found = smoothed.certify(x, alpha=0.01, **FEW)
    assert list(found.columns) == ["predict", "radius", "radius_linf", "p_a_lower", "n", "sigma", "guarantee"]
    for column in ("predict", "radius", "p_a_lower"):
        np.testing.assert_array_equal(found[column], getattr(bound, column))
    assert (found["n"] == 120).all()
    assert (found["sigma"] == 0.25).all()
    assert counts.index.tolist() == list(range(60))
    assert (counts.label == -1).all()
    assert (counts.selection.sum(axis=1) == 20).all()
    assert (counts.estimation.sum(axis=1) == 120).all()


def test_prediction_abstains_on_the_boundary_and_nowhere_else():
    smoothed = SmoothedClassifier(half_space([1.0, 0.0], 0.5), num_classes=2, sigma=FixedSigma(0.25))
    x = torch.tensor([[0.5, 0.0], [0.5, 1.0], [0.0, 0.3], [0.25, 0.3], [0.75, 0.3], [1.0, 0.3]])
    assert smoothed.predict(x, n=1000, alpha=0.001, seed=0).tolist() == [-1, -1, 0, 0, 1, 1]
    found = smoothed.certify(x, n=1000, alpha=0.001, seed=0)
    assert found["predict"].tolist() == [-1, -1, 0, 0, 1, 1]
    assert found["radius"][:2].tolist() == [0, 0]


# --- other certificates, and sigma policies that state their semi-elasticity

DIRECTION, OFFSET = torch.tensor([0.6, 0.0, 0.48, 0.64]), 0.86
TRAINING = images_of(200, seed=7)
CLASSES = (TRAINING.flatten(1) @ DIRECTION > OFFSET).long().numpy()
FITTED = {
    "nearest_neighbour": NearestNeighbourSigma(sigma=0.25, rate=0.3, neighbours=3).fit(TRAINING),
    "border_distance": BorderDistanceSigma(sigma=0.25, rate=0.5).fit(TRAINING, CLASSES),
    "a jump": BorderDistanceSigma(sigma=0.25, rate=float("inf"), lower=0.6, upper=1.4).fit(TRAINING, CLASSES),
}


@pytest.mark.parametrize(
    ("sigma", "certificate"),
    [
        *((name, SemiElasticCertificate()) for name in FITTED),
        ("fixed", SemiElasticCertificate()),
        ("fixed", TwoSidedCertificate(split=0.3)),
        ("fixed", L1Certificate()),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__module__.rpartition(".")[2],
)
def test_radius_of_a_half_space_stays_below_the_exact_margin_for_every_global_certificate(sigma, certificate):
    """Noise that is symmetric at every x leaves the boundary of a half space where it is, whatever sigma(x)."""
    alpha, images = 0.001, 150
    x = images_of(images)
    margin = (x.flatten(1).double() @ DIRECTION.double() - OFFSET).abs().numpy()
    margin /= DIRECTION.max().item() if certificate.norm == "l1" else 1
    policy = FITTED.get(sigma, FixedSigma(0.25))
    smoothed = SmoothedClassifier(half_space(DIRECTION, OFFSET), num_classes=2, sigma=policy, certificate=certificate)
    found = smoothed.certify(x, n0=100, n=2000, alpha=alpha, seed=1)
    assert set(found["guarantee"]) == {"global"}
    assert (found["sigma"].nunique() > 1) == (sigma != "fixed")
    certified = found["predict"] >= 0
    assert certified.mean() > 0.5
    assert (found["radius"] > margin).sum() <= stats.binom.isf(1e-4, images, alpha)
    assert np.median((margin - found["radius"])[certified & (margin < 0.15)]) < 0.06  # not by being far too small
    ratio = x[0].numel() if certificate.norm == "l1" else x[0].numel() ** 0.5
    np.testing.assert_allclose(found["radius_linf"], found["radius"] / ratio, rtol=1e-12)


def test_a_semi_elastic_certificate_is_its_radius_at_the_sigma_and_the_rate_of_the_policy():
    x, policy = images_of(20), FITTED["nearest_neighbour"]
    found = smooth(policy=policy, certificate=SemiElasticCertificate()).certify(x, **FEW)
    expected = semi_elastic_radius(found["p_a_lower"].to_numpy(), found["sigma"].to_numpy(), 0.3, x[0].numel())
    np.testing.assert_allclose(found["radius"], expected, rtol=1e-4)  # sigma(x) was rounded to float32
    alike = smooth(policy=policy, certificate=CohenCertificate()).certify(x, **FEW)
    assert set(alike["guarantee"]) == {"none"}
    assert (found["radius"] <= alike["radius"]).all()
    assert (found["radius"] < alike["radius"]).any()


def test_a_memory_in_l1():
    sigma = DataDependentSigma(sigma=0.3, iterations=5, step=0.01, norm="l1", variant="class_held")
    x = images_of(40)
    alone = smooth(policy=sigma, certificate=L1Certificate()).certify(x, alpha=0.5, **FEW)
    assert set(alone["guarantee"]) == {"none"}
    # A ball of class 2 around the first image, that reaches into the widest ball of another class.
    distances = (x - x[0]).double().abs().flatten(1).sum(1).numpy()
    widest = alone["radius"].where(alone["predict"].isin([0, 1]), 0).argmax()
    reach = distances[widest] - alone["radius"][widest] / 2
    memory = Memory(norm="l1")
    memory.enter(x[:1].flatten(1).numpy(), np.array([2]), np.array([reach]))
    found = smooth(policy=sigma, certificate=L1Certificate(), memory=memory).certify(x, alpha=0.5, **FEW)
    assert set(found["guarantee"]) == {"memory"}
    assert 0 < found["radius"][widest] <= distances[widest] - reach < alone["radius"][widest]
    assert set(found["predict"][distances < reach]) <= {2, -1}  # -1: it abstained before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"policy": ADAPTIVE, "certificate": SemiElasticCertificate()},
            "semi_elastic needs a sigma policy that states",
        ),
        (
            {"policy": MultiStartSigma(sigma=0.25), "certificate": SemiElasticCertificate()},
            "states its semi-elasticity",
        ),
        ({"policy": ADAPTIVE, "certificate": L1Certificate()}, "sigma: norm l2; must be l1"),
        (
            {"policy": DataDependentSigma(sigma=0.3, iterations=1, norm="l1", variant="class_held")},
            "sigma: norm l1; must be l2",
        ),
        ({"memory": Memory(norm="l1")}, "memory: norm l1; must be l2"),
        ({"memory": Memory(), "certificate": L1Certificate()}, "memory: norm l2; must be l1"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        smooth(**options)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (NearestNeighbourSigma(sigma=0.25, rate=0.1), r"nearest_neighbour: not fitted; must be what fit\("),
        (BorderDistanceSigma(sigma=0.25, rate=0.1), r"border_distance: not fitted; must be what fit\("),
    ],
)
def test_a_policy_that_is_not_fitted_is_refused(policy, message):
    with pytest.raises(ConfigError, match=message):
        smooth(policy=policy, certificate=SemiElasticCertificate()).certify(images_of(1), **FEW)


def test_the_python_of_the_docs_runs():
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL)
    names = {
        "model": RowLinear(torch.rand(10, 4)),
        "router": RowLinear(torch.rand(2, 4)),
        "images": images_of(2),
        "training_images": TRAINING,
        "labels": CLASSES,
        "p_a_lower": [0.6, 0.9],
        "sigma": 0.25,
    }
    exec(code, names)
    assert names["near"].semi_elasticity == 0.01
    shown = {"SmoothedClassifier", "Memory", "FixedSigma", "DataDependentSigma", "NearestNeighbourSigma"}
    shown |= {
        "DualSmoothedClassifier",
        "BorderDistanceSigma",
        "L1Certificate",
        "SemiElasticCertificate",
        "TwoSidedCertificate",
    }
    assert names.keys() & set(certsmooth.__all__) >= shown | {"semi_elastic_radius", "xi"}


def test_every_public_name_can_be_imported():
    for name in certsmooth.__all__:
        found = getattr(certsmooth, name)
        assert (found.__module__, found.__name__) == (certsmooth._HOME[name], name)
        assert found.__doc__


def test_dir_lists_the_public_names():
    assert set(dir(certsmooth)) >= set(certsmooth.__all__)
    assert [name for name in dir(certsmooth) if not name.startswith("_")] == certsmooth.__all__
    with pytest.raises(AttributeError, match="module 'certsmooth' has no attribute 'smoothing'"):
        _ = certsmooth.smoothing


@pytest.mark.slow
def test_looking_at_the_package_does_not_load_torch():
    code = "import sys, certsmooth; dir(certsmooth); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_stub_is_shipped():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert {"py.typed", "__init__.pyi"} <= set(data["certsmooth"])


# --- what a row depends on


@pytest.mark.parametrize("policy", POLICIES, ids=["fixed", "data_dependent"])
def test_an_image_has_its_row_in_any_batch(policy):
    x = images_of(55)  # more than a group
    smoothed = smooth(policy=policy)
    together = smoothed.certify(x, **FEW)
    assert together["radius"].nunique() > 5
    order = torch.randperm(55, generator=torch.Generator().manual_seed(1))
    reordered = smoothed.certify(x[order], **FEW)
    assert reordered.equals(together.iloc[order.numpy()].reset_index(drop=True))
    for i in (0, 13, 54):
        assert smoothed.certify(x[i : i + 1], **FEW).equals(together.iloc[[i]].reset_index(drop=True))
    twice = smoothed.certify(x[[3, 3]], **FEW)
    assert twice.iloc[0].equals(twice.iloc[1])
    assert smoothed.certify(x.double(), **FEW).equals(together)
    assert not smoothed.certify(x, **FEW | {"seed": 1}).equals(together)
    answers = smoothed.predict(x, n=120, seed=0)
    assert smoothed.predict(x[order], n=120, seed=0).tolist() == answers[order.numpy()].tolist()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("policy", POLICIES, ids=["fixed", "data_dependent"])
def test_the_callers_gradient_mode_makes_no_difference(policy, mode):
    expected = smooth(policy=policy).certify(images_of(3), **FEW)
    with mode():
        assert smooth(policy=policy).certify(images_of(3), **FEW).equals(expected)


def test_guarantee():
    x = images_of(3)
    assert set(smooth().certify(x, **FEW)["guarantee"]) == {"global"}
    assert set(smooth(policy=ADAPTIVE).certify(x, **FEW)["guarantee"]) == {"none"}
    assert set(smooth(policy=ADAPTIVE, memory=Memory()).certify(x, **FEW)["guarantee"]) == {"memory"}


def test_a_data_dependent_sigma_is_reported_as_used():
    found = smooth(policy=ADAPTIVE).certify(images_of(5), **FEW)
    assert found["sigma"].nunique() == 5
    assert (found["sigma"] == found["sigma"].astype(np.float32)).all()


# --- with a memory


def test_a_memory_makes_later_certificates_agree_with_earlier_ones():
    x = images_of(80)
    alone = smooth(policy=ADAPTIVE).certify(x, alpha=0.5, **FEW)
    memory = Memory()
    smoothed = smooth(policy=ADAPTIVE, memory=memory)
    found = [smoothed.certify(part, alpha=0.5, **FEW) for part in x.split([1, 60, 19])]
    predict, radius = (np.concatenate([f[name] for f in found]) for name in ("predict", "radius"))
    expected = Memory().enter(x.flatten(1).numpy(), alone["predict"].to_numpy(), alone["radius"].to_numpy())
    np.testing.assert_array_equal(predict, expected[0])
    np.testing.assert_array_equal(radius, expected[1])
    assert (radius < alone["radius"]).any()
    points = x.flatten(1).double().numpy()
    apart = np.linalg.norm(points[:, None] - points, axis=2) - radius - radius[:, None]
    kept = predict >= 0
    assert (apart[(predict != predict[:, None]) & kept & kept[:, None]] >= -1e-12).all()


def test_an_image_in_a_certified_ball_is_predicted_the_balls_class():
    memory = Memory()
    smoothed = SmoothedClassifier(
        half_space([1.0, 0.0], 0.5), num_classes=2, sigma=FixedSigma(0.25), pixel_range=None, memory=memory
    )
    x = torch.tensor([[0.9, 0.0], [0.5, 0.0], [0.0, 0.0], [0.9, 9.0]])
    assert smoothed.predict(x, n=1000, seed=0).tolist() == [1, -1, 0, 1]  # an empty memory changes nothing
    memory.enter(np.float32([[0.9, 0.0]]), np.array([0]), np.array([0.45]))
    assert smoothed.predict(x, n=1000, seed=0).tolist() == [0, 0, 0, 1]  # the second abstained, and lies in the ball
    assert smoothed.predict(x, n=1000, seed=0).tolist() == [0, 0, 0, 1]


# --- any torch module


def test_a_plain_module_on_flattened_or_whole_images():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4, 3))
    first = smooth(model).certify(images_of(4), **FEW)
    assert model.training
    assert smooth(model.eval()).certify(images_of(4), **FEW).equals(first)


def test_a_module_that_converts_its_input_itself_gets_float32():
    class Converting(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()

        def forward(self, x):
            assert x.dtype == torch.float32
            return self.model(x.double())

    assert smooth(Converting()).sample(images_of(2), **FEW).estimation.sum() == 240


# --- errors


@pytest.mark.parametrize(
    "x",
    [
        torch.full((2, 1, 2, 2), 1.5),
        torch.full((2, 1, 2, 2), -0.01),
        torch.full((2, 1, 2, 2), torch.nan),
        torch.full((2, 1, 2, 2), torch.inf),
        torch.ones(2, 1, 2, 2, dtype=torch.uint8),
        torch.ones(2, 1, 2, 2, dtype=torch.complex64),
        torch.ones(0, 1, 2, 2),
        torch.ones(2, 0),
        torch.ones(4),
    ],
    ids=["above 1", "below 0", "NaN", "infinite", "integers", "complex", "no image", "no pixel", "one image"],
)
def test_what_is_no_batch_of_images_is_refused(x):
    with pytest.raises(DataError, match="images: "):
        smooth().certify(x, **FEW)
    with pytest.raises(DataError, match="images: "):
        smooth().predict(x, n=20, seed=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1.0001, -0.0001])
def test_one_bad_pixel_is_enough(value):
    x = images_of(3)
    x[1, 0, 1, 0] = value
    with pytest.raises(DataError, match="finite and in"):
        smooth().certify(x, **FEW)


def test_another_pixel_range_or_none():
    x = 3 * images_of(3) - 1
    with pytest.raises(DataError, match=r"\[0.0, 1.0\]"):
        smooth().certify(x, **FEW)
    assert len(smooth(pixel_range=(-1, 2)).certify(x, **FEW)) == 3
    assert len(smooth(pixel_range=None).certify(100 * x, **FEW)) == 3
    with pytest.raises(DataError, match="finite"):
        smooth(pixel_range=None).certify(x / 0, **FEW)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_alpha_is_checked_before_anything_is_sampled(alpha):
    model = RowLinear(WEIGHT)
    model.register_forward_hook(lambda *_: pytest.fail("sampled"))
    with pytest.raises(ConfigError, match="alpha"):
        smooth(model).certify(images_of(1), alpha=alpha, **FEW)
    with pytest.raises(ConfigError, match="alpha"):
        smooth(model).predict(images_of(1), alpha=alpha, n=10, seed=0)


@pytest.mark.parametrize(("key", "value"), [("n", 0), ("n0", 0), ("seed", -1)])
def test_bad_numbers_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: {value}"):
        smooth().certify(images_of(1), **FEW | {key: value})


def test_a_classifier_of_other_classes_is_refused():
    with pytest.raises(ConfigError, match="num_classes: 1"):
        SmoothedClassifier(RowLinear(WEIGHT), num_classes=1, sigma=FixedSigma(0.25))
    with pytest.raises(ModelError, match=r"3.*must be.*10"):
        SmoothedClassifier(RowLinear(WEIGHT), num_classes=10, sigma=FixedSigma(0.25)).certify(images_of(1), **FEW)
