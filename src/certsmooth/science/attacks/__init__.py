"""l2 attacks on the soft smoothed classifier, and so on the base classifier; one file each.

A member module defines one frozen dataclass, a subclass of `L2Attack`; its fields are the options that params.yaml may
give.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge
from jaxtyping import Float, Int

from certsmooth._internal.modes import evaluation
from certsmooth._internal.options import Member
from certsmooth.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

Loss = Callable[["Float[Tensor, 'b k']", "Int[Tensor, ' b']"], "Float[Tensor, ' b']"]
"""Log probabilities of the soft smoothed classifier and labels -> what an attack maximises, per example."""


@dataclass(frozen=True, kw_only=True)
class L2Attack(Member, ABC):
    """Base of the attacks: a member defines `_perturbed`.

    Attributes:
        epsilon: largest l2 norm of a perturbation, pixel coordinates [0, 1]; 0 returns the images.
        steps: of the attack, at least 1.
        clamp: whether pixels are kept in [0, 1]; false for data that are no images.
    """

    epsilon: Annotated[float, Ge(0)]
    steps: Annotated[int, Ge(1)]
    clamp: bool = True

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
        the other examples of the batch. The attack has no randomness of its own. Must not be called under
        ``torch.inference_mode``; ``torch.no_grad`` is fine.

        Args:
            model: base classifier, images in, logits [b, k] out.
            images: pixel range [0, 1].
            labels: the true classes.
            noise: m samples of each image's smoothing noise, already scaled by its sigma. One sample of zeros makes
                it an attack on the base classifier.
            loss: what is maximised; None for the cross entropy of the smoothed classifier (SmoothAdv, eq. S).

        Raises:
            ConfigError: a loss, for an attack that has its own.
            DataError: pixels outside [0, 1] with ``clamp``.
            ModelError: the model returned something else than finite logits [m b, k], k >= 2, or its gradient is not
                finite.
        """
        images = images.detach()
        # Pixels outside could not be kept in [0, 1] and near the image.
        if self.clamp and not bool(((images >= 0) & (images <= 1)).all()):
            found = f"pixels from {images.min().item():g} to {images.max().item():g}"
            raise DataError(f"images: {found}; must be in [0, 1], or the attack's clamp false")
        if self.epsilon == 0:
            return images
        with evaluation(model):
            return self._perturbed(model, images, labels, noise, loss)

    @abstractmethod
    def _perturbed(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        labels: Int[Tensor, " b"],
        noise: Float[Tensor, "m b *shape"],
        loss: Loss | None,
    ) -> Float[Tensor, " b *shape"]:
        """Return adversarial images; epsilon is above 0, and the model in evaluation mode."""


BASE = L2Attack
