"""l2 attacks on the soft smoothed classifier, and so on the base classifier; one file each.

A member module defines one frozen dataclass named ``Attack`` that follows `L2Attack`; its fields are the options that
params.yaml may give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn

Loss = Callable[[Float[Tensor, "b k"], Int[Tensor, " b"]], Float[Tensor, " b"]]
"""Log probabilities of the soft smoothed classifier and labels -> what an attack maximises, per example."""


class L2Attack(Protocol):
    """An attack.

    Attributes:
        epsilon: the perturbation's l2 norm is at most this, in pixel coordinates [0, 1].
    """

    @property
    def epsilon(self) -> float:
        """Largest l2 norm of a perturbation."""

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        labels: Int[Tensor, " b"],
        noise: Float[Tensor, "m b *shape"],
        *,
        loss: Loss | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """Return adversarial images.

        The same noise is used at every step (SmoothAdv, Pseudocode 1). The model runs in evaluation mode; its
        parameters, their gradients and its mode are left as they are. The result for an example does not depend on
        the other examples of the batch. The attack has no randomness of its own.

        Args:
            model: base classifier, images in, logits [b, k] out.
            images: pixel range [0, 1].
            labels: the true classes.
            noise: m samples of each image's smoothing noise, already scaled by its sigma. One sample of zeros makes
                it an attack on the base classifier.
            loss: what is maximised; None for the cross entropy of the smoothed classifier (SmoothAdv, eq. S).

        Raises:
            ModelError: the model returned something else than finite logits [m b, k], k >= 2.
        """
