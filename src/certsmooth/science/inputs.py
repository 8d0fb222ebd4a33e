"""What a smoothed classifier is given, as the types that the rest of the package works with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from numbers import Real

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from certsmooth._internal.checks import check_number
from certsmooth._internal.modes import evaluation
from certsmooth._internal.out_of_memory import is_out_of_memory
from certsmooth._internal.replicas import Replicas
from certsmooth.errors import CertsmoothError, ConfigError, DataError, ModelError
from certsmooth.science.datasets import Split, array_split
from certsmooth.science.sigma import SigmaPolicy
from certsmooth.science.sigma.fixed import FixedSigma

BaseModel = nn.Module | Callable[[Tensor], Tensor]
"""Images [b, *shape] in, one score per class [b, k] out. A function has no evaluation mode that could be set."""

Images = Shaped[np.ndarray, " n *shape"] | Shaped[Tensor, " n *shape"]
Labels = Int[np.ndarray, " n"] | Int[Tensor, " n"]
Arrays = tuple[Images, Labels]
"""Images and labels, of torch or NumPy."""

ImageBatch = Float[Tensor, " b *shape"] | Float[np.ndarray, " b *shape"]
"""Images, floating point, on any device."""


class FunctionModel(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Float[Tensor, " b *shape"]) -> Float[Tensor, "b k"]:
        """Return what the function does."""
        return self.function(images)


class Converting(nn.Module):
    """A module of another numeric type, behind a conversion of its input: together they are the base classifier."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(self, images: Float[Tensor, " b *shape"]) -> Float[Tensor, "b k"]:
        """Return the scores of the converted images."""
        scores: Tensor = self.model(images.to(self.dtype))
        return scores


def as_module(model: BaseModel) -> nn.Module:
    """Return a module, or a function as one.

    Raises:
        ConfigError: it can't be called, or is a class.
    """
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, type) or not callable(model):
        # What `load_classifier` and `train` return hold one.
        held = ", such as its .model" if isinstance(getattr(model, "model", None), nn.Module) else ""
        found = f"a {type(model).__name__}" if held else repr(model)
        raise ConfigError(f"model: {found}; must be a torch module, or a function from images to scores{held}")
    return FunctionModel(model)


def as_policy(sigma: SigmaPolicy | float) -> SigmaPolicy:
    """Return a policy; a number is a fixed sigma.

    Raises:
        ConfigError: it is neither, or a number that is not positive and finite.
    """
    number: object = sigma
    if isinstance(number, Real):
        check_number("sigma", number, above=0)
        return FixedSigma(float(number))
    if not isinstance(sigma, SigmaPolicy):
        raise ConfigError(f"sigma: {sigma!r}; must be a number above 0, or a policy such as FixedSigma(0.25)")
    return sigma


def as_split(name: str, given: Split | Arrays) -> Split:
    """Return a split; images and labels are made one.

    Raises:
        DataError: they are no images and labels, or not as a data set's must be.
    """
    if isinstance(given, Split):
        return given
    if not isinstance(given, tuple) or len(given) != 2:
        raise DataError(f"{name}: {type(given).__name__}; must be images and labels, or a split of a data set")
    images, labels = (np.asarray(part.detach().cpu() if isinstance(part, Tensor) else part) for part in given)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or images.ndim < 2:
        found = f"images {images.dtype} {list(images.shape)}, labels {labels.dtype} {list(labels.shape)}"
        raise DataError(f"{name}: {found}; must be images [n, *shape] and whole numbers [n]")
    return array_split(images, labels, name=name, num_classes=int(labels.max(initial=0)) + 1)


def as_tensor(x: ImageBatch) -> Float[Tensor, " b *shape"]:
    """Return images as a tensor; NumPy's are copied.

    Raises:
        DataError: it is no array, of no floating type, or not [b, *shape] with at least one image and one pixel.
    """
    if not isinstance(x, Tensor | np.ndarray):
        raise DataError(f"images: {type(x).__name__}; must be a torch tensor or a NumPy array [b, *shape]")
    is_float = x.is_floating_point() if isinstance(x, Tensor) else x.dtype.kind == "f"
    if not is_float or x.ndim < 2 or 0 in x.shape:
        hint = "" if is_float else "; integers from 0 to 255 are to be divided by 255"
        found = f"{x.dtype} {list(x.shape)}"
        raise DataError(f"images: {found}; must be floating point [b, *shape] with b >= 1{hint}")
    if isinstance(x, Tensor):
        return x
    return torch.tensor(x.astype(x.dtype.newbyteorder("=") if x.itemsize <= 8 else np.float64))


def device_of(model: nn.Module, otherwise: torch.device) -> torch.device:
    """Return the device of a model's first parameter, or else buffer; ``otherwise`` if it has neither."""
    return next((part.device for part in chain(model.parameters(), model.buffers())), otherwise)


def accepting(model: nn.Module, images: Float[Tensor, " b *shape"]) -> nn.Module:
    """Return what takes these images: the model, or, if it fails on them, one that converts them to its own type.

    That type is the first one of its parameters that is not float32. Two rows are run.

    Args:
        model: base classifier.
        images: float32, on its device.

    Raises:
        ModelError: the model fails on the images; the message says how.
    """
    error = _failure(model, images)
    types = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    dtype = next((each for each in types if each != torch.float32), None)
    if error is not None and dtype is not None:
        model = Converting(model, dtype)
        error = _failure(model, images)
    if error is not None:
        advice = (
            "what it differentiates must be under torch.enable_grad()"
            if "does not require grad" in str(error)
            else "must be a batch [b, *shape] of what it takes, where one image is x[None]"
        )
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        found = f"{images.dtype} {list(images.shape)}"
        raise ModelError(f"images: {found}; the model fails on them ({said}); {advice}") from error
    return model


def _failure(model: nn.Module, images: Float[Tensor, " b *shape"]) -> Exception | None:
    """Return the error of a model that fails on images; those with a message for users, or about memory, are raised."""
    with torch.inference_mode(False), torch.no_grad(), evaluation(model):
        rows = images[:1].repeat(2, *(1 for _ in images.shape[1:]))  # one row is a case of its own for some models
        try:
            with Replicas(model, images.device).lend() as lent:
                lent(rows)
        except Exception as error:
            if isinstance(error, CertsmoothError) or is_out_of_memory(error):
                raise
            return error
    return None
