"""How other programs name the tensors of networks that are here as well.

Cohen et al. 2019, SmoothAdv and those after them save ``Sequential(NormalizeLayer, network)``, whose names start with
``1.``; ``nn.DataParallel`` puts ``module.`` somewhere before. Their ResNet-110, and MACER's, which has no such first
layer, has ``conv1, bn1, layer1.0 ... layer3.17, fc``. ImageNet's ResNet-50 and the ResNet-18 of DDRS have torchvision's
names, which are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from certsmooth.errors import CheckpointError
from certsmooth.science.models import Normalisation

_BLOCK = re.compile(r"layer([123])\.(\d+)\.(.+)")
_COUNTER = "num_batches_tracked"  # of batch normalisation: not used, and not in files from before torch 0.4.1
_SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Layout:
    """Tensors under the names of one of our networks.

    Attributes:
        tensors: float32 where they are of any floating type.
        under: what all names started with: ``1.`` after a layer that normalises.
        normalisation: of that layer, if it is in the file.
    """

    tensors: dict[str, Tensor]
    under: str
    normalisation: Normalisation | None = None


def as_ours(tensors: Mapping[str, Tensor], ours: Mapping[str, Tensor], *, prefix: str = "") -> Layout:
    """Return tensors of another program under the names of ours.

    Args:
        tensors: by the names of the other program.
        ours: the state of our network: names, shapes and types.
        prefix: what to take away from the start of each name that has it, and to leave out the others.

    Raises:
        CheckpointError: tensors are missing, left over, or of another shape, in whichever layout fits best; names them.
    """
    found = [(list(_mismatches(each.tensors, ours)), each) for each in _layouts(tensors, prefix)]
    wrong, best = min(found, key=lambda each: len(each[0]))
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise CheckpointError(f"tensors do not fit: {', '.join(wrong[:_SHOWN])}{more}")
    fitting = {
        name: best.tensors[name].to(value.dtype) if name in best.tensors else torch.zeros_like(value)
        for name, value in ours.items()
    }
    return Layout(fitting, best.under, best.normalisation)


def _layouts(tensors: Mapping[str, Tensor], prefix: str) -> Iterator[Layout]:
    """Yield the tensors in every known layout."""
    if prefix:
        tensors = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
    bare = {".".join(part for part in name.split(".") if part != "module"): each for name, each in tensors.items()}
    inner = {name.removeprefix("1."): each for name, each in bare.items() if name.startswith("1.")}
    first = {name: each for name, each in bare.items() if name.startswith("0.")}
    normalisation = _normalisation(first)
    is_nested = len(inner) + (0 if normalisation is None else len(first)) == len(bare)
    for held in (
        Layout(dict(tensors), ""),
        Layout(bare, ""),
        *([Layout(inner, "1.", normalisation)] if is_nested else []),
    ):
        yield held
        yield Layout(_cifar_resnet(held.tensors), held.under, held.normalisation)


def _normalisation(first: Mapping[str, Tensor]) -> Normalisation | None:
    """Return what a first layer normalises by, if its tensors are means and standard deviations."""
    means = [each for name, each in first.items() if "mean" in name]
    sds = [each for name, each in first.items() if re.search("sd|std", name)]
    if len(first) != 2 or len(means) != 1 or len(sds) != 1:
        return None
    mean, sd = (tuple(each.flatten().tolist()) for each in (means[0], sds[0]))
    return Normalisation(mean, sd)


def _cifar_resnet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a residual network for CIFAR-10 under the names of `_resnet_cifar.cifar_resnet`."""
    blocks = [found for name in tensors if (found := _BLOCK.fullmatch(name))]
    in_stage = 1 + max((int(block[2]) for block in blocks), default=-1)
    outer = {"conv1": "0", "bn1": "1", "fc": str(3 + 3 * in_stage + 2)}
    renamed = {}
    for name, each in tensors.items():
        if block := _BLOCK.fullmatch(name):
            at = 3 + in_stage * (int(block[1]) - 1) + int(block[2])
            renamed[f"{at}.{block[3].replace('downsample.', 'shortcut.')}"] = each
        else:
            layer, _, rest = name.partition(".")
            renamed[f"{outer.get(layer, layer)}.{rest}"] = each
    return renamed


def _mismatches(tensors: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> Iterator[str]:
    for name, value in ours.items():
        if name not in tensors:
            if not name.endswith(_COUNTER):
                yield f"{name} is missing"
        elif tensors[name].shape != value.shape:
            yield f"{name} is {list(tensors[name].shape)}, must be {list(value.shape)}"
        elif tensors[name].is_floating_point() != value.is_floating_point():
            yield f"{name} is {tensors[name].dtype}, must be {value.dtype}"
    yield from (f"{name} is left over" for name in tensors if name not in ours)
