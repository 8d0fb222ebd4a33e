"""Whether a base classifier is a function f(x) of one row: the class that a row gets beside other rows.

Randomised smoothing certifies the classifier that f gives. A program whose class of a row depends on the other rows of
its batch (batch statistics, a sort, attention over the batch), on the row's place in it, or on chance is no f(x), and
its counts certify nothing. So rows of a batch are run again: half of those that count, in other places, among noisy
copies of other images, far away.

A class that differs is an error unless the two scores are nearly tied both times: sums may be rounded in another order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from certsmooth.errors import ModelError


def far_images(images: Float[Tensor, " b *shape"]) -> Float[Tensor, " b *shape"]:
    """Return for each image a constant one, black or white: the one that its mean is farther from.

    Black and white are 0 and 1, or the smallest and the largest value in the images if they reach beyond. All go to the
    same side, the farther from the mean of all: a mean over the batch moves by a quarter of the range at least.
    """
    low, high = images.min().clamp(max=0), images.max().clamp(min=1)
    return torch.where(images.mean() * 2 < low + high, high, low).expand_as(images)


def beside_others(counted: Int[Tensor, " n"], rows: int) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Return which rows of a batch to run again, and their places in another batch of that shape.

    Args:
        counted: positions of the rows that count, in order.
        rows: of the batch.
    """
    chosen = counted[counted < rows][::2]
    return chosen, rows - 1 - chosen


def check_rows(model: nn.Module, scores: Shaped[Tensor, "m k"], again: Shaped[Tensor, "m k"]) -> None:
    """Raise if rows have another class than before.

    Nearly tied are scores that differ by less than the typical score of the rows times the root of the unit of the
    coarsest floating type, among scores and parameters: 3e-4 for float32. Rows without a class are left out.

    Args:
        model: base classifier, in evaluation mode.
        scores: of the rows.
        again: of the same rows beside others.

    Raises:
        ModelError: says what that means, and names layers that are known to do it.
    """
    valid = scores.amax(1) > -torch.inf  # False for NaN
    scores, again = scores[valid], again[valid]
    before, after = scores.argmax(1, keepdim=True), again.argmax(1, keepdim=True)
    size = torch.where(scores.isfinite(), scores, 0).double().abs().amax(1)
    near = _unit(model, scores) ** 0.5 * size.quantile(0.5) if len(size) else size
    first = _gap(scores, before, after)
    second = _gap(again, after, before)
    # A comparison with NaN is False: such a row is not nearly tied.
    other = (before != after) & ~((first <= near) & (second <= near))
    if bool(other.any()):
        raise ModelError(
            f"the model gave {int(other.sum())} of {len(other)} rows another class beside other rows: the class of "
            "a row depends on the other rows of its batch, or on chance, so there is no base classifier f(x) to "
            f"smooth; put the model in evaluation mode, or replace such layers{_suspects(model)}"
        )


def _gap(scores: Shaped[Tensor, "m k"], of: Int[Tensor, "m 1"], to: Int[Tensor, "m 1"]) -> Float[Tensor, "m 1"]:
    return scores.gather(1, of).double() - scores.gather(1, to).double()


def _unit(model: nn.Module, scores: Tensor) -> float:
    floating = [part.dtype for part in (scores, *model.parameters()) if part.is_floating_point()]
    return max((torch.finfo(dtype).eps for dtype in set(floating)), default=0.0)


def _suspects(model: nn.Module) -> str:
    """Return the names of layers that normalise over the batch, or are in training mode, in a clause."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            found.append(f"{name or 'the model'} ({type(module).__name__} without running statistics)")
        elif module.training and not list(module.children()):
            found.append(f"{name or 'the model'} ({type(module).__name__} in training mode)")
    return f": {', '.join(found)}" if found else ""
