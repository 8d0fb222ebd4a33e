"""The residual networks for 32x32 images.

He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2: depth 6n + 2, three stages of n
blocks with 16, 32 and 64 channels. Where the channels change, shortcuts have no parameters (option A), or are 1x1
convolutions with batch normalisation (option B).
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class _ZeroChannels(nn.Module):
    """Option A: the input at every stride-th pixel, and zeros for the channels that it does not have."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, inputs: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        return F.pad(inputs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels))


class _Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut around them."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, *, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out and projection:
            convolution = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels_out))
        elif channels_in != channels_out:
            self.shortcut = _ZeroChannels(channels_out - channels_in, stride)

    def forward(self, inputs: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        hidden = F.relu(self.bn1(self.conv1(inputs)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(inputs))


def cifar_resnet(depth: int, image_shape: tuple[int, ...], num_classes: int, *, projection: bool = False) -> nn.Module:
    """Build the network of a depth, initialised as in He et al. 2015 (normal, fan-out).

    Args:
        depth: 6n + 2.
        image_shape: (c, h, w) of at least 8x8 pixels; the paper's is (3, 32, 32).
        num_classes: number of logits.
        projection: whether shortcuts are of option B.
    """
    blocks_per_stage = (depth - 2) // 6
    layers: list[nn.Module] = [
        nn.Conv2d(image_shape[0], 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    ]
    channels = 16
    for width in (16, 32, 64):
        for _ in range(blocks_per_stage):
            stride = 1 if channels == width else 2
            layers.append(_Block(channels, width, stride, projection=projection))
            channels = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
