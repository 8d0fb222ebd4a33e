"""Whether a base classifier is a function f(x) of one row: the class that a row gets beside other rows.

Randomised smoothing certifies the classifier that f gives. A program whose class of a row depends on the other rows of
its batch (batch statistics, a sort, attention over the batch), on the row's place in it, or on chance is no f(x), and
its counts certify nothing. So some rows of a batch are run again in other places, few among others that are far away:
noisy copies of constant images, most of them brighter than all images or darker, some the opposite, so that mean,
spread and extremes of the batch all change.

A class that differs is an error unless the two scores are nearly tied both times: sums may be rounded in another order.
It is a test, not a proof: what changes no class of these rows is not found.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from certsmooth.errors import ModelError

_MOST = 100  # rows that are run again: the fewer among all, the more the others matter


def far_images(images: Float[Tensor, " b *shape"]) -> Float[Tensor, " b *shape"]:
    """Return as many constant images, all brighter than white or darker than black: what is farther from the mean.

    Black and white are 0 and 1, or the smallest and the largest value in the images if they reach beyond; these lie
    beyond them by that range: at 2 or -1, which are multiples of any step of pixels.
    """
    low, high = images.min().clamp(max=0), images.max().clamp(min=1)
    beyond = high - low
    return torch.where(images.mean() * 2 <= low + high, high + beyond, low - beyond).expand_as(images)


def mixed(rows: Float[Tensor, " r *shape"]) -> Float[Tensor, " r *shape"]:
    """Return noisy rows of far images in reverse, so that no noise stays in its place, each eighth mirrored at grey."""
    rows = rows.flip(0)
    rows[::8] = 1 - rows[::8]
    return rows


def beside_others(counted: Int[Tensor, " n"], rows: int) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Return which rows of a batch to run again, and their places in another batch of that shape.

    Args:
        counted: positions of the rows that count, in order; those chosen are spread over them, at most every other one.
        rows: of the batch.
    """
    among = counted[counted < rows]
    chosen = among[:: max(2, -(-len(among) // _MOST))]
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
    floating = [part.dtype for part in (scores, *model.parameters()) if part.is_floating_point()]
    unit = max((torch.finfo(dtype).eps for dtype in floating), default=0.0)
    scores, again = scores[valid].double(), again[valid].double()  # which changes no score
    before, after = scores.argmax(1, keepdim=True), again.argmax(1, keepdim=True)
    size = torch.where(scores.isfinite(), scores, 0).abs().amax(1)
    near = unit**0.5 * size.quantile(0.5) if len(size) else size
    first = scores.gather(1, before) - scores.gather(1, after)
    second = again.gather(1, after) - again.gather(1, before)
    # A comparison with NaN is False: such a row is not nearly tied.
    other = (before != after) & ~((first <= near) & (second <= near))
    if bool(other.any()):
        raise ModelError(
            f"the model gave {int(other.sum())} of {len(other)} rows another class beside other rows: the class of "
            "a row depends on the other rows of its batch, or on chance, so there is no base classifier f(x) to "
            f"smooth; put the model in evaluation mode, or replace such layers{_suspects(model)}"
        )


def _suspects(model: nn.Module) -> str:
    """Return the names of layers that normalise over the batch, or are in training mode, in a clause."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            found.append(f"{name or 'the model'} ({type(module).__name__} without running statistics)")
        elif module.training and not list(module.children()):
            found.append(f"{name or 'the model'} ({type(module).__name__} in training mode)")
    return f": {', '.join(found)}" if found else ""
