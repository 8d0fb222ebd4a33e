"""The public functions beside the smoothed classifier's methods: training, certificates of counts, forms of a call."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm
from sklearn.datasets import load_digits
from torch import nn

from certsmooth import (
    MACER,
    BorderDistanceSigma,
    CohenCertificate,
    FixedSigma,
    GaussianAugmentation,
    NearestNeighbourSigma,
    Recipe,
    SemiElasticCertificate,
    SmoothedClassifier,
    Standard,
    certify_counts,
    train,
)
from certsmooth.errors import CertsmoothError, ConfigError, DataError
from certsmooth.science.datasets import array_split
from certsmooth.science.models import ModelSpec, build
from factories import WEIGHT, RowLinear, images_of

FEW = {"n0": 10, "n": 50, "seed": 1, "alpha": 0.01}
RECIPE = Recipe(epochs=3, batch_size=50, learning_rate=0.1)


def digits():
    data = load_digits()
    return (data.images[:400, None] / 16).astype(np.float32), data.target[:400]


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def weights(model):
    return [tensor.numpy().tobytes() for tensor in model.state_dict().values()]


# --- the smoothed classifier


def test_number_of_classes_and_sigma_may_stand_without_their_names():
    x = images_of(4)
    named = SmoothedClassifier(RowLinear(WEIGHT), num_classes=3, sigma=FixedSigma(0.25))
    for short in (
        SmoothedClassifier(RowLinear(WEIGHT), 3, 0.25),
        SmoothedClassifier(RowLinear(WEIGHT), 3, FixedSigma(0.25)),
        SmoothedClassifier(RowLinear(WEIGHT), 3, sigma=0.25),
    ):
        assert short.certify(x, **FEW).equals(named.certify(x, **FEW))


def test_repr_says_what_is_certified():
    assert repr(SmoothedClassifier(RowLinear(WEIGHT), 3, 0.25)) == (
        "SmoothedClassifier(RowLinear, 3, FixedSigma(sigma=0.25, factor=1.0), CohenCertificate(), step=1/255)"
    )
    assert "float32 noise" in repr(SmoothedClassifier(RowLinear(WEIGHT), 3, 0.25, step=None))


@pytest.mark.parametrize("size", [1, 7, 100, 150, 1000])
def test_the_batch_size_is_one_of_arithmetic_only(size):
    """A linear classifier of which no row is close to a tie: every batch size gives the same counts."""
    x, smoothed = images_of(5), SmoothedClassifier(RowLinear(WEIGHT), 3, 0.25)
    counts, plain = (smoothed.sample(x, n0=10, n=230, seed=0, **options) for options in ({"batch_size": size}, {}))
    np.testing.assert_array_equal(counts.estimation, plain.estimation)
    np.testing.assert_array_equal(counts.selection, plain.selection)
    assert (counts.batch_size == (size if size < 100 else size // 100 * 100)).all()


def test_the_batch_size_is_that_of_forward_passes():
    seen = []

    def model(images):
        seen.append(len(images))
        return images.flatten(1)[:, :3]

    SmoothedClassifier(model, 3, 0.25).predict(images_of(3), n=400, seed=0, batch_size=100)
    assert set(seen) <= {100, 2, 1, 200} and seen.count(100) >= 12  # and the rows that are run again beside others


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "100"])
def test_a_batch_size_that_is_none_is_refused(wrong):
    smoothed = SmoothedClassifier(RowLinear(WEIGHT), 3, 0.25)
    for call in (smoothed.certify, smoothed.predict):
        with pytest.raises(ConfigError, match=r"^batch_size: .*must be a whole number"):
            call(images_of(1), n=20, seed=0, batch_size=wrong)


def test_progress_goes_to_the_standard_error_stream(capsys):
    smoothed, x = SmoothedClassifier(RowLinear(WEIGHT), 3, 0.25), images_of(60)
    smoothed.certify(x, n0=10, n=20, seed=0)
    smoothed.predict(x, n=20, seed=0)
    assert capsys.readouterr().err == ""
    smoothed.certify(x, n0=10, n=20, seed=0, progress=True)
    assert "60/60" in capsys.readouterr().err
    smoothed.predict(x, n=20, seed=0, progress=True)
    said = capsys.readouterr()
    assert "60/60" in said.err
    assert said.out == ""


# --- certificates of counts


@settings(max_examples=50, deadline=None)
@given(st.integers(501, 1000), st.floats(0.1, 2), st.sampled_from([0.001, 0.01, 0.1]))
def test_certificates_of_counts_are_cohens(successes, sigma, alpha):
    """sigma Phi^-1 of the lower confidence bound of Clopper and Pearson, or abstention; rounded down."""
    counts = np.array([[successes, 1000 - successes]])
    row = certify_counts(counts, counts, sigma, alpha=alpha).iloc[0]
    lower = beta.ppf(alpha, successes, 1001 - successes)
    if lower <= 0.5:
        assert (row["predict"], row["radius"]) == (-1, 0)
    else:
        assert row["predict"] == 0
        assert row["radius"] == pytest.approx(sigma * norm.ppf(lower), rel=1e-9, abs=1e-9)
        assert row["radius"] <= sigma * norm.ppf(lower) * (1 + 1e-14)
    assert row["p_a_lower"] == pytest.approx(lower, rel=1e-9)
    assert row["guarantee"] == "global (real arithmetic)"


def test_certificates_of_counts_are_those_of_the_smoothed_classifier():
    x = images_of(40)
    smoothed = SmoothedClassifier(RowLinear(WEIGHT), 3, 0.25)
    counts = smoothed.sample(x, n0=20, n=120, seed=0)
    found = certify_counts(counts.selection, counts.estimation, 0.25, alpha=0.01, dimension=4, step=1 / 255)
    whole = smoothed.certify(x, n0=20, n=120, alpha=0.01, seed=0)
    for column in ("predict", "radius", "p_a_lower", "guarantee"):
        np.testing.assert_array_equal(found[column], whole[column])
    assert set(found["guarantee"]) == {"global"}


def test_a_sigma_of_each_image_promises_nothing_unless_it_is_known_how_it_varies():
    counts = np.array([[100, 0], [0, 100]])
    sigma = np.array([0.25, 0.25])
    assert set(certify_counts(counts, counts, sigma)["guarantee"]) == {"none"}
    assert set(certify_counts(counts, counts, sigma, semi_elasticity=0.1)["guarantee"]) == {"none"}
    options = {"certificate": SemiElasticCertificate(), "dimension": 64}
    known = certify_counts(counts, counts, sigma, semi_elasticity=0.1, **options)
    assert set(known["guarantee"]) == {"global (real arithmetic)"}
    constant = certify_counts(counts, counts, 0.25)
    assert (known["radius"] < constant["radius"]).all()
    within = certify_counts(counts, counts, sigma, semi_elasticity=0.1, constant_within=np.full(2, 9.0), **options)
    np.testing.assert_allclose(within["radius"], constant["radius"], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, r"^sigma: 0\.0; must be a finite number > 0$"),
        ({"sigma": "0.25"}, r"^sigma: '0\.25'; must be a finite number > 0: 0\.25$"),
        ({"sigma": np.array([0.25])}, r"^sigma: shape \(1,\); must be one value per image, \(2,\)$"),
        ({"alpha": 0}, r"^alpha: 0; must be in \(0, 1\)"),
        ({"estimation": np.array([[1.5, 2], [1, 1]])}, r"^estimation: values of type float64; must be integers$"),
        ({"step": 0.3}, r"^step: 0\.3; must be 1 divided by a whole number"),
        ({"step": 1 / 255}, r"^dimension: None; must be the numbers per image, because a step"),
        ({"certificate": SemiElasticCertificate()}, r"^dimension: None; .*because semi_elastic depends on it$"),
        ({"semi_elasticity": 0.1}, r"^semi_elasticity: 0\.1; must be None, as sigma is one number$"),
        (
            {"sigma": np.array([0.2, 0.3]), "certificate": SemiElasticCertificate(), "dimension": 3},
            r"^certificate: semi_elastic needs a sigma policy that states its semi-elasticity",
        ),
    ],
)
def test_bad_arguments_of_certificates_are_named(options, message):
    counts = np.array([[90, 10], [20, 80]])
    arguments = {"selection": counts, "estimation": counts, "sigma": 0.25} | options
    with pytest.raises(ConfigError, match=message):
        certify_counts(**arguments)


def test_an_integer_sigma_is_a_number():
    counts = np.array([[990, 10]])
    assert certify_counts(counts, counts, 1)["radius"][0] == certify_counts(counts, counts, np.float64(1))["radius"][0]
    by_name = certify_counts(counts, counts, 1, certificate=CohenCertificate())
    assert by_name.equals(certify_counts(counts, counts, 1.0))


# --- training


def test_training_learns_the_digits():
    images, labels = digits()
    some = images[:100], labels[:100]
    result = train(network(), (images, labels), sigma=0.25, recipe=RECIPE, seed=0, validation=some)
    assert not result.model.training
    accuracy = (result.model(torch.from_numpy(images)).argmax(1).numpy() == labels).mean()
    assert accuracy > 0.7
    assert [row.epoch for row in result.log] == [0, 1, 2]
    assert result.log[2].loss < result.log[0].loss
    assert result.log[2].validation_accuracy > 0.5
    assert (result.sigma == 0.25).all()
    assert SmoothedClassifier(result.model, 10, 0.25).predict(images[:20], n=100, seed=0).shape == (20,)


def test_equal_calls_give_equal_weights_and_others_do_not():
    images, labels = digits()
    arguments = {"sigma": 0.25, "recipe": RECIPE, "seed": 0}
    first = weights(train(network(), (images, labels), **arguments).model)
    same = [
        train(network(), (torch.from_numpy(images), torch.from_numpy(labels)), **arguments),
        train(network(), array_split(images, labels, name="x", num_classes=10), **arguments),
        train(network(), (images, labels), **(arguments | {"sigma": FixedSigma(0.25)})),
        train(network(), (images, labels), objective=GaussianAugmentation(), **arguments),
        train(network(), (images, labels), validation=(images[:9], labels[:9]), device="cpu", **arguments),
    ]
    assert all(weights(result.model) == first for result in same)
    others = [{"seed": 1}, {"sigma": 0.5}, {"noise": "uniform"}]
    for change in (*others, {"objective": Standard()}, {"objective": MACER(samples=2)}):
        assert weights(train(network(), (images, labels), **(arguments | change)).model) != first


def test_bytes_are_the_images_divided_by_255():
    images, labels = digits()
    as_bytes = (images * 255).round().astype(np.uint8)
    as_floats = as_bytes.astype(np.float32) / np.float32(255)
    found, right = (
        train(network(), (each, labels), sigma=0.25, recipe=RECIPE, seed=0) for each in (as_bytes, as_floats)
    )
    for one, other in zip(found.model.parameters(), right.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("policy", [NearestNeighbourSigma, BorderDistanceSigma])
def test_a_policy_about_the_training_images_is_fitted_to_them_once(policy):
    images, labels = digits()
    unfitted = policy(sigma=0.25, rate=0.05)
    found = train(network(), (images, labels), sigma=unfitted, recipe=RECIPE, seed=0)
    fitted = train(network(), (images, labels), sigma=unfitted.fit(images, labels), recipe=RECIPE, seed=0)
    assert torch.equal(found.sigma, fitted.sigma)
    assert found.sigma.std() > 0
    half = unfitted.fit(images[:200], labels[:200])
    elsewhere = train(network(), (images, labels), sigma=half, recipe=RECIPE, seed=0)
    assert not torch.equal(elsewhere.sigma, found.sigma)
    assert not unfitted.is_fitted


@pytest.mark.parametrize(("numeric_type", "precision"), [("float32", "highest"), ("tf32", "high")])
def test_a_base_classifier_of_the_package_is_trained_in_its_arithmetic(numeric_type, precision):
    """The backward pass as well, which runs after the forward pass has left it."""
    found, before = set(), torch.get_float32_matmul_precision()
    model = build(ModelSpec("mlp", (1, 8, 8), 10, numeric_type=numeric_type), seed=0)
    next(model.parameters()).register_hook(lambda _: found.add(torch.get_float32_matmul_precision()))
    result = train(model, digits(), sigma=0.12, recipe=RECIPE, seed=0)
    assert found == {precision}
    assert torch.get_float32_matmul_precision() == before
    assert result.log[2].loss < result.log[0].loss


def test_progress_of_training(capsys):
    images, labels = digits()
    train(network(), (images, labels), sigma=0.25, recipe=RECIPE, seed=0)
    assert capsys.readouterr().err == ""
    train(network(), (images, labels), sigma=0.25, recipe=RECIPE, seed=0, progress=True)
    assert "24/24" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (digits()[0], r"^training: ndarray; must be images and labels, or a split"),
        ((digits()[0] * 16, digits()[1]), r"^training: pixels from 0 to 16; must be in \(0\.0, 1\.0\)"),
        ((digits()[0], digits()[1] / 1.0), r"^training: .*labels float64 \[400\]; must be images \[n, \*shape\]"),
        ((digits()[0][:9], digits()[1]), r"^training: 9 images, 400 labels"),
        ((digits()[0][:0], digits()[1][:0]), r"^training: no images"),
        ((digits()[0], digits()[1] - 1), r"^training: labels from -1"),
        ((digits()[0].astype(np.float64), digits()[1]), r"^training: images of type float64; must be uint8 or float32"),
    ],
)
def test_bad_training_images_are_named(training, message):
    with pytest.raises(DataError, match=message):
        train(network(), training, sigma=0.25, recipe=RECIPE, seed=0)


def test_bad_options_of_training_are_named():
    for change, message in (
        ({"sigma": 0}, r"^sigma: 0; must be a finite number > 0$"),
        ({"seed": -1}, r"^seed: -1; must be a whole number, at least 0$"),
        ({"noise": "gausian"}, r"^noise: unknown name 'gausian'; did you mean 'gaussian'"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(network(), digits(), **({"sigma": 0.25, "recipe": RECIPE, "seed": 0} | change))


def test_a_training_that_diverges_says_what_is_kept():
    recipe = Recipe(epochs=3, batch_size=50, learning_rate=1e30, momentum=0.0)
    with pytest.raises(CertsmoothError, match=r"^epoch 0.*; no state was kept; try a smaller learning rate$"):
        train(network(), digits(), sigma=0.25, recipe=recipe, seed=0)
