"""Networks of other programs, see `certsmooth._internal.external`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from certsmooth._internal.external import ExternalArchitecture, imported, library
from certsmooth.errors import ConfigError, MissingLibraryError, nearest

if TYPE_CHECKING:
    from certsmooth.science.models import BaseClassifier


def build_external(architecture: ExternalArchitecture, image_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build the network of an architecture, and see that it is a classifier of such images.

    Raises:
        ConfigError: there is no such model, its function fails, or what it returns is no network that gives one logit
            a class for images of that shape.
        MissingLibraryError: the library is not installed.
    """
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in architecture.options.items()}
    try:
        if architecture.library == "import":
            network = imported(architecture)(image_shape, num_classes, **options)
        elif architecture.library == "timm":
            network = _of_timm(architecture.name, image_shape, num_classes, options)
        else:
            network = _of_torchvision(architecture.name, num_classes, options)
    except (ConfigError, MissingLibraryError):
        raise
    except Exception as error:
        raise ConfigError(f"architecture: {architecture} cannot be built: {error!r}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"architecture: {architecture} returned {type(network).__name__}; must be a torch.nn.Module")
    _check_logits(architecture, network, image_shape, num_classes)
    return network


def _of_timm(name: str, image_shape: tuple[int, ...], num_classes: int, options: Mapping[str, object]) -> object:
    timm = library("timm")
    if not timm.is_model(name):
        raise ConfigError(f"architecture.timm: unknown {name!r}; {_close(name, timm.list_models())}")
    return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=image_shape[0], **options)


def _of_torchvision(name: str, num_classes: int, options: Mapping[str, object]) -> object:
    models = library("torchvision").models
    known = models.list_models(module=models)  # those that classify: others fetch weights of a part
    if name not in known:
        raise ConfigError(f"architecture.torchvision: unknown {name!r}; {_close(name, known)}")
    return models.get_model(name, weights=None, num_classes=num_classes, **options)


def _close(name: str, known: list[str]) -> str:
    """Return the hint of `nearest` without a list of a thousand names."""
    return nearest(name, known).partition("valid: ")[0].rstrip() or "see its list of models"


def _check_logits(
    architecture: ExternalArchitecture, network: nn.Module, image_shape: tuple[int, ...], num_classes: int
) -> None:
    was_training = network.training
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(1, *image_shape))
    except Exception as error:
        raise ConfigError(f"image_shape: {architecture} fails on images of shape {image_shape}: {error}") from error
    finally:
        network.train(was_training)
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes) or not logits.is_floating_point():
        found = f"{logits.dtype} {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f"architecture: {architecture} gives {found} for one image; must be [1, {num_classes}]")


def check_state(first: BaseClassifier, second: BaseClassifier) -> None:
    """Check that a checkpoint holds all of a network: with the tensors of another one, it gives the same logits.

    Args:
        first: built with a seed.
        second: the same built with another seed; changed in place.

    Raises:
        ConfigError: something that is no parameter or buffer of the network's state differs.
    """
    second.network.load_state_dict(first.network.state_dict())
    images = torch.rand(2, *first.spec.image_shape, generator=torch.Generator().manual_seed(0))
    one, other = (each.freeze()(images) for each in (first, second))
    if not torch.equal(one, other):
        raise ConfigError(
            f"architecture: {first.spec.architecture} has random values that are not in its state_dict, so that no "
            "checkpoint would hold them; must be parameters or buffers"
        )
