"""Networks as programs of the field write them, under the names that these give: Cohen et al., MACER, ImageNet, DDRS.

Each is naive and apart from the package; weights are random, and outputs are spread so that many classes are predicted.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Its means and standard deviations are attributes, which no state_dict holds."""

    def __init__(self, means, sds):
        super().__init__()
        self.means, self.sds = torch.tensor(means), torch.tensor(sds)

    def forward(self, images):
        return (images - self.means[:, None, None]) / self.sds[:, None, None]


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        if before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        beside = self.downsample(x) if hasattr(self, "downsample") else x
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + beside)


class ResNet110(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*(Block(before if i == 0 else after, after, stride if i == 0 else 1) for i in range(18)))
            for before, after, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(F.avg_pool2d(x, 8).flatten(1))


class DDRS(nn.Module):
    """A ResNet-18 without its first batch normalisation; normalised inside, and with a softmax."""

    def __init__(self):
        super().__init__()
        whole = torchvision.models.resnet18(num_classes=10)
        for name, child in whole.named_children():
            if name != "bn1":
                setattr(self, name, child)

    def logits(self, x):
        means, sds = (torch.tensor(each)[:, None, None] for each in CIFAR10)
        x = self.maxpool(self.relu(self.conv1((x - means) / sds)))
        return self.fc(self.avgpool(self.layer4(self.layer3(self.layer2(self.layer1(x))))).flatten(1))

    def forward(self, x):
        return self.logits(x).softmax(1)


def cohen():
    return nn.Sequential(Normalize(*CIFAR10), ResNet110())


def imagenet():
    return nn.Sequential(Normalize(*IMAGENET), nn.DataParallel(torchvision.models.resnet50(num_classes=10)))


PEERS = {"cohen": cohen, "macer": ResNet110, "imagenet": imagenet, "ddrs": DDRS}


def make_peer(name: str, images: torch.Tensor, seed: int = 0) -> nn.Module:
    """Return a network in evaluation mode, with the statistics of images, that predicts many classes of them."""
    torch.manual_seed(seed)
    network = PEERS[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = None  # the mean of what it sees
    network.train()
    with torch.no_grad():
        network(images)
        network.eval()
        last = next(module for module in reversed(list(network.modules())) if isinstance(module, nn.Linear))
        given = getattr(network, "logits", network)(images)
        scale = given.std(0) + 1e-6
        last.weight.div_(scale[:, None])
        last.bias.sub_(given.mean(0)).div_(scale)
    return network


def save_peer(path: Path, name: str, network: nn.Module, *, legacy: bool = False) -> None:
    """Write a checkpoint as the program does; ``legacy``: in the form before torch 1.6."""
    state = OrderedDict(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9).state_dict()
    content = {
        "cohen": {"epoch": 90, "arch": "cifar_resnet110", "state_dict": state, "optimizer": optimizer},
        "imagenet": {"epoch": 90, "arch": "resnet50", "state_dict": state, "optimizer": optimizer},
        "macer": {"net": OrderedDict((f"module.{key}", each) for key, each in state.items()), "epoch": 440},
        "ddrs": state,
    }[name]
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
