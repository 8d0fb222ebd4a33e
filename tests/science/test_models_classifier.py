"""The base classifier: what it adds around a network, and its arithmetic."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from certsmooth._internal.storage import decode_record
from certsmooth.errors import ConfigError
from certsmooth.science.models import BaseClassifier, ModelSpec, Normalisation, build, numerics

DIGITS = ModelSpec("small_cnn", (1, 8, 8), 10, Normalisation((0.3,), (0.4,)))
COLOUR = Normalisation((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))


def flags() -> tuple[object, ...]:
    found: list[object] = [torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()]
    if hasattr(torch.backends, "fp32_precision"):
        backends = torch.backends
        found += [owner.fp32_precision for owner in (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv)]
    return tuple(found)


class Recorder(nn.Module):
    """A network of one weight that notes what it is given and under which flags it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        self.tf32 = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
        logits: Tensor = self.linear(images.flatten(1))
        self.logits_type = logits.dtype
        return logits


def recorded(**options: object) -> BaseClassifier:
    return BaseClassifier(ModelSpec("small_cnn", (1, 8, 8), 10, **options), Recorder())


def test_normalisation_is_the_first_layer_and_acts_per_channel():
    classifier = build(ModelSpec("resnet20", (3, 16, 16), 4, COLOUR), seed=0).freeze()
    images = torch.rand(2, 3, 16, 16)
    by_hand = torch.empty_like(images)
    for channel in range(3):
        by_hand[:, channel] = (images[:, channel] - COLOUR.mean[channel]) / COLOUR.std[channel]
    assert torch.equal(classifier(images), classifier.network(by_hand))


def test_normalisation_of_points_acts_per_coordinate():
    classifier = build(ModelSpec("mlp", (2,), 3, Normalisation((1.0, -2.0), (2.0, 4.0))), seed=0)
    points = torch.tensor([[1.0, 2.0], [3.0, -2.0]])
    assert torch.equal(classifier(points), classifier.network(torch.tensor([[0.0, 1.0], [1.0, 0.0]])))


def test_without_normalisation_the_network_sees_the_images():
    classifier = recorded()
    images = torch.rand(2, 1, 8, 8)
    classifier(images)
    assert torch.equal(classifier.network.images, images)


@pytest.mark.parametrize(
    "images",
    [torch.rand(2, 1, 8, 9), torch.rand(1, 8, 8), torch.rand(2, 64), torch.rand(2, 1, 8, 8).double()],
)
def test_images_of_another_shape_or_type_are_refused(images):
    with pytest.raises(ConfigError, match=r"takes torch\.float32 .* \(1, 8, 8\)"):
        build(DIGITS, seed=0)(images)


def test_frozen_copy_is_in_evaluation_mode_and_leaves_the_original_alone():
    classifier = build(ModelSpec("resnet20", (3, 8, 8), 10), seed=0)
    frozen = classifier.freeze()
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    assert not any(module.training for module in frozen.modules())
    before = frozen(torch.ones(1, 3, 8, 8))
    with torch.no_grad():
        classifier(torch.rand(4, 3, 8, 8))  # moves the batch statistics
        for parameter in classifier.parameters():
            parameter.add_(1)
    assert torch.equal(frozen(torch.ones(1, 3, 8, 8)), before)
    with pytest.raises(RuntimeError, match="frozen"):
        frozen.train()
    assert frozen.eval() is frozen


def test_bfloat16_runs_in_bfloat16_with_float32_masters_for_training():
    classifier = recorded(numeric_type="bfloat16")
    images = torch.rand(2, 1, 8, 8)
    logits = classifier(images)
    assert logits.dtype == torch.float32
    assert classifier.network.logits_type == torch.bfloat16
    logits.sum().backward()
    assert classifier.network.linear.weight.grad.dtype == torch.float32
    frozen = classifier.freeze()
    assert frozen(images).dtype == torch.float32
    assert frozen.network.images.dtype == torch.bfloat16
    assert frozen.network.linear.weight.dtype == torch.bfloat16
    assert classifier.network.linear.weight.dtype == torch.float32


def test_normalisation_is_computed_in_float32_before_rounding():
    classifier = recorded(numeric_type="bfloat16", normalisation=Normalisation((0.1,), (0.3,))).freeze()
    images = torch.rand(2, 1, 8, 8)
    classifier(images)
    exact = (images - torch.tensor(0.1)) / torch.tensor(0.3)
    assert torch.equal(classifier.network.images, exact.to(torch.bfloat16))


def test_batch_normalisation_keeps_float32_in_bfloat16():
    frozen = build(ModelSpec("resnet20", (3, 8, 8), 10, numeric_type="bfloat16"), seed=0).freeze()
    for module in frozen.network.modules():
        expected = torch.float32 if isinstance(module, nn.BatchNorm2d) else torch.bfloat16
        for name, parameter in module.named_parameters(recurse=False):
            assert parameter.dtype == expected, (module, name)


def test_channels_last_changes_the_memory_format_and_not_the_function():
    plain = build(DIGITS, seed=0).freeze()
    spec = ModelSpec("small_cnn", (1, 8, 8), 10, DIGITS.normalisation, channels_last=True)
    other = build(spec, seed=0).freeze()
    assert other.network[2].weight.is_contiguous(memory_format=torch.channels_last)
    assert not plain.network[2].weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.rand(5, 1, 8, 8)
    assert torch.allclose(other(images), plain(images), atol=1e-6)
    recorder = BaseClassifier(ModelSpec("small_cnn", (3, 8, 8), 10, channels_last=True), Recorder())
    recorder.network.linear = nn.Linear(192, 10)
    recorder(torch.rand(2, 3, 8, 8))
    assert recorder.network.images.is_contiguous(memory_format=torch.channels_last)


def test_autocast_around_the_call_changes_nothing():
    frozen = build(DIGITS, seed=0).freeze()
    images = torch.rand(3, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = frozen(images)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, frozen(images))


@pytest.mark.parametrize(("numeric_type", "tf32"), [("float32", False), ("tf32", True), ("bfloat16", False)])
def test_forward_runs_under_the_declared_arithmetic_and_restores_the_flags(numeric_type, tf32):
    before = flags()
    assert torch.backends.cudnn.allow_tf32, "torch's own default, which these tests start from"
    classifier = recorded(numeric_type=numeric_type)
    classifier(torch.rand(1, 1, 8, 8))
    assert classifier.network.tf32 == (tf32, tf32)
    assert flags() == before


@pytest.mark.parametrize("user", ["highest", "high", "medium"])
def test_flags_of_the_user_come_back_after_nesting_and_after_an_exception(user):
    default = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(user)
    try:
        before = flags()
        with numerics("float32"):
            outer = flags()
            assert outer[:2] == (False, "highest")
            with pytest.raises(ZeroDivisionError), numerics("tf32"):
                assert flags()[:2] == (True, "high")
                raise ZeroDivisionError
            assert flags() == outer
        assert flags() == before
    finally:
        torch.set_float32_matmul_precision(default)


def test_flags_stay_until_the_last_thread_leaves():
    before = flags()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with numerics("float32"):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    with numerics("float32"):
        thread.start()
        assert entered.wait(10)
    try:
        assert not torch.backends.cudnn.allow_tf32
        with pytest.raises(RuntimeError, match="another thread"), numerics("tf32"):
            pass
        with numerics("bfloat16"):  # the same float32 arithmetic
            pass
        assert not torch.backends.cudnn.allow_tf32
    finally:
        leave.set()
        thread.join()
    assert flags() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="TF32 exists on NVIDIA GPUs only")
def test_float32_on_a_gpu_has_float32_accuracy_and_tf32_has_not():
    spec = ModelSpec("resnet18_cifar", (3, 32, 32), 10)
    classifier = build(spec, seed=0)
    images = torch.rand(4, 3, 32, 32)
    exact = classifier.freeze().network.double()(images.double())
    for numeric_type, accurate in (("float32", True), ("tf32", False)):
        served = BaseClassifier(
            ModelSpec("resnet18_cifar", (3, 32, 32), 10, numeric_type=numeric_type), classifier.network
        )
        found = served.freeze().to("cuda")(images.to("cuda")).cpu().double()
        error = float((found - exact).abs().max() / exact.abs().max())
        assert (error < 2e-5) == accurate, (numeric_type, error)


def test_seed_of_build_does_not_come_from_the_surrounding_device():
    with torch.device("meta"):
        inside = build(DIGITS, seed=5).state_dict()
    outside = build(DIGITS, seed=5).state_dict()
    assert all(torch.equal(inside[name], outside[name]) for name in outside)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "smal_cnn"}, "architecture: .*'smal_cnn'.*did you mean 'small_cnn'"),
        ({"architecture": "_resnet_cifar"}, "architecture: "),
        ({"image_shape": [1, 8, 8]}, "image_shape: "),
        ({"image_shape": ()}, "image_shape: "),
        ({"image_shape": (1, 0, 8)}, "image_shape: 0"),
        ({"image_shape": (1, 8.0, 8)}, "image_shape: 8.0"),
        ({"num_classes": 1}, "num_classes: 1"),
        ({"num_classes": True}, "num_classes: True"),
        ({"numeric_type": "bf16"}, "numeric_type: .*'bf16'.*bfloat16"),
        ({"image_shape": (2,), "channels_last": True}, "channels_last: "),
        ({"normalisation": COLOUR}, "normalisation: 3 channels.* 1"),
    ],
)
def test_spec_refuses_by_name(change, message):
    valid = {"architecture": "small_cnn", "image_shape": (1, 8, 8), "num_classes": 10, "normalisation": None}
    ModelSpec(**valid)
    with pytest.raises(ConfigError, match=message):
        ModelSpec(**(valid | change))


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.5,), (0.5, 0.5)), ((float("nan"),), (0.5,)), ((0.5,), (0.0,)), ((0.5,), (float("inf"),))],
)
def test_normalisation_refuses_by_name(mean, std):
    with pytest.raises(ConfigError, match="normalisation"):
        Normalisation(mean, std)


unit = st.floats(0, 1)
specs = st.builds(
    ModelSpec,
    architecture=st.sampled_from(["small_cnn", "resnet20"]),
    image_shape=st.tuples(st.just(1), st.integers(1, 300), st.integers(1, 300)),
    num_classes=st.integers(2, 1000),
    normalisation=st.none()
    | st.builds(Normalisation, mean=st.tuples(unit), std=st.tuples(st.floats(0, 1, exclude_min=True))),
    numeric_type=st.sampled_from(["float32", "tf32", "bfloat16"]),
    channels_last=st.booleans(),
)


@given(specs)
def test_spec_survives_json(spec):
    assert decode_record(ModelSpec, json.dumps(asdict(spec)), source="spec", error=ConfigError) == spec


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"width": 3}, "width"),
        ({"num_classes": "10"}, "num_classes"),
        ({"num_classes": 10.0}, "num_classes"),
        ({"channels_last": 1}, "channels_last"),
        ({"image_shape": [1, "8", 8]}, "image_shape.1"),
        ({"normalisation": {"mean": [0.0]}}, "normalisation.std"),
        ({"num_classes": 1}, "num_classes"),
        ({"architecture": "resnet21"}, "architecture"),
    ],
)
def test_spec_in_json_refuses_unknown_missing_and_converted_fields(change, field):
    with pytest.raises(ConfigError, match=field):
        decode_record(ModelSpec, json.dumps(asdict(DIGITS) | change), source="spec", error=ConfigError)
