"""The architectures are the published ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from certsmooth._internal.registry import function, names
from certsmooth.errors import ConfigError
from certsmooth.science.models._resnet_cifar import _Block

CIFAR = (3, 32, 32)


def network(name: str, shape: tuple[int, ...], classes: int = 10) -> nn.Module:
    return function("models", name, "build")(shape, classes)


def input_of(module: nn.Module, run: nn.Module, shape: tuple[int, ...]) -> torch.Size:
    """Return the shape that ``module`` sees when ``run`` sees one image."""
    seen = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    with torch.no_grad():
        run.eval()(torch.rand(1, *shape))
    handle.remove()
    return seen[0][1:]


@pytest.mark.parametrize(
    ("name", "shape", "classes", "number"),
    [
        ("mlp", (2,), 2, 2 * 20 + 20 + 20 * 20 + 20 + 20 * 2 + 2),
        ("lenet", (1, 28, 28), 10, 61_706),
        # He et al. 2016 give 0.27 and 1.7 million.
        ("resnet20", CIFAR, 10, 269_722),
        ("resnet110", CIFAR, 10, 1_730_714),  # 2,752 in two projections
        ("resnet18_ddrs", CIFAR, 10, 11_181_514),
        # Torchvision's documentation of its weights.
        ("resnet18", (3, 224, 224), 1000, 11_689_512),
        ("resnet50", (3, 224, 224), 1000, 25_557_032),
        ("resnet18_cifar", CIFAR, 10, 11_173_962),
    ],
)
def test_number_of_parameters_is_the_published_one(name, shape, classes, number):
    assert sum(p.numel() for p in network(name, shape, classes).parameters()) == number


def test_small_cnn_is_exactly_the_one_whose_speed_was_measured():
    expected = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    assert str(network("small_cnn", (1, 8, 8))) == str(expected)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 9), (2, 2, 5)])
def test_small_cnn_takes_even_and_odd_sides(shape):
    assert network("small_cnn", shape)(torch.rand(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize("depth", [20, 110])
def test_cifar_resnet_has_6n_plus_2_weighted_layers_and_ends_at_8x8(depth):
    net = network(f"resnet{depth}", CIFAR)
    weighted = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    projections = [m for m in weighted if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(weighted) - len(projections) == depth
    assert len(projections) == (2 if depth == 110 else 0)
    pool = next(m for m in net.modules() if isinstance(m, nn.AdaptiveAvgPool2d))
    assert input_of(pool, net, CIFAR) == (64, 8, 8)


def test_shortcut_of_option_a_drops_pixels_and_adds_zero_channels():
    block = _Block(16, 32, 2, projection=False).eval()
    nn.init.zeros_(block.bn2.weight)  # the residual branch is 0: only the shortcut is left
    inputs = torch.rand(2, 16, 7, 8)
    with torch.no_grad():
        outputs = block(inputs)
    assert outputs.shape == (2, 32, 4, 4)
    assert torch.equal(outputs[:, :16], inputs[:, :, ::2, ::2])
    assert not outputs[:, 16:].any()


def test_shortcut_of_option_b_is_a_normalised_projection():
    block = _Block(16, 32, 2, projection=True).eval()
    nn.init.zeros_(block.bn2.weight)
    inputs = torch.rand(2, 16, 7, 8)
    with torch.no_grad():
        mixed = torch.einsum("oi,bihw->bohw", block.shortcut[0].weight[:, :, 0, 0], inputs[:, :, ::2, ::2])
        assert torch.allclose(block(inputs), torch.relu(mixed / math.sqrt(1 + 1e-5)), atol=1e-6)


def test_block_without_new_channels_adds_its_input():
    block = _Block(16, 16, 1, projection=True).eval()
    inputs = torch.rand(2, 16, 5, 5)
    with torch.no_grad():
        hidden = torch.relu(block.bn1(block.conv1(inputs)))
        expected = torch.relu(inputs + block.bn2(block.conv2(hidden)))
        assert torch.allclose(block(inputs), expected)


def test_stems_of_resnet18_leave_32x32_or_8x8():
    small, own = network("resnet18_cifar", CIFAR), network("resnet18", CIFAR)
    assert input_of(small.layer1, small, CIFAR) == (64, 32, 32)
    assert input_of(own.layer1, own, CIFAR) == (64, 8, 8)


@pytest.mark.parametrize("name", ["resnet20", "resnet18_cifar"])
def test_convolutions_start_with_the_variance_of_he(name):
    for module in network(name, CIFAR).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert float(module.weight.detach().var()) == pytest.approx(2 / fan_out, rel=0.2)


@pytest.mark.parametrize(
    ("name", "shape", "takes"),
    [
        ("lenet", (1, 32, 32), "28x28"),
        ("lenet", (784,), "28x28"),
        ("resnet18", (1, 32, 32), "(3, h, w)"),
        ("resnet50", (3, 31, 32), "32x32"),
        ("resnet18_cifar", (3, 4, 8), "8x8"),
        ("resnet20", (3, 8, 7), "8x8"),
        ("resnet110", (2,), "(c, h, w)"),
        ("small_cnn", (64,), "(c, h, w)"),
    ],
)
def test_images_of_another_shape_are_refused_saying_what_is_taken(name, shape, takes):
    with pytest.raises(ConfigError) as caught:
        network(name, shape)
    for part in ("image_shape", name, takes, str(shape)):
        assert part in str(caught.value)


def test_the_families_members_are_the_architectures_and_no_helpers():
    expected = {
        "lenet",
        "mlp",
        "resnet110",
        "resnet18",
        "resnet18_cifar",
        "resnet18_ddrs",
        "resnet20",
        "resnet50",
        "small_cnn",
    }
    assert expected <= set(names("models"))
    assert not any(name.startswith("_") for name in names("models"))
