"""Sigma policies: x -> sigma(x), for training, certification or both, one file each.

A member module defines one frozen dataclass, a subclass of `SigmaPolicy`; its fields are the options that params.yaml
may give. Sigma is a vector with one value per example everywhere; a fixed sigma is a constant vector. Sigma is float64
(a step of 1e-4 of an optimisation is not rounded away); the noise that it scales has the dtype of the images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int

from certsmooth._internal.options import Member
from certsmooth.errors import ConfigError
from certsmooth.science.datasets import Images

if TYPE_CHECKING:
    from torch import Tensor, nn

DrawNoise = Callable[[int], "Float[Tensor, 'n b *shape']"]
"""Step number (0, 1, 2, ...) -> standard noise (sigma = 1) of that step: ``samples`` draws for each image of
the batch, with the device and dtype of the images. A pure function of the step number; a policy asks for the
steps in order, each at most once, and has no other randomness."""


@dataclass(frozen=True)
class SigmaPolicy(Member, ABC):
    """Base of the policies: a member defines `sigma0`, `_choose`, and of the rest what is other than here.

    One that has an `extent` also defines `together`.

    Attributes:
        label: in the columns Train and Certify of tables; two letters.
        legend: what it stands for there: a sentence without its full stop. Both are literals in the member's file.
        uses_model: whether sigma(x) depends on the base classifier. Where it does not, training evaluates it once
            for each training image, without augmentation, and keeps it.
        uses_training_images: whether sigma(x) depends on the training images; such a policy must be fitted first.
        extent: the option that says how far a search goes, if more goes on along the same path: then `together` costs
            no more than the policy that goes farthest. None: nothing is shared.
    """

    label: ClassVar[str]
    legend: ClassVar[str]
    uses_model: ClassVar[bool] = False
    uses_training_images: ClassVar[bool] = False
    extent: ClassVar[str | None] = None

    @property
    @abstractmethod
    def sigma0(self) -> float:
        """The constant sigma, or the one that an optimisation starts from; > 0, in pixel coordinates."""

    @property
    def samples(self) -> int:
        """Noise samples per image in each draw; 0: the policy draws nothing."""
        return 0

    @property
    def semi_elasticity(self) -> float | None:
        """The r such that log sigma(x) is r-Lipschitz in l2 (IDRS, Definition 3.1 and Theorem 3.2).

        0 for a constant sigma, None where nothing is known. Only certificates that allow it give a ``global``
        guarantee.
        """
        return None

    @property
    def is_fitted(self) -> bool:
        """Whether the policy can be called: one that uses training images must be fitted first."""
        return True

    def fit(self, images: Images, labels: Int[np.ndarray, " n"] | None = None) -> Self:
        """Return the policy for these training images; one that does not use them returns itself.

        Args:
            images: those that the base classifier is trained on: uint8 (divided by 255) or float32.
            labels: their classes, for a policy that uses them.

        Raises:
            ConfigError: the policy needs labels, and there are none.
        """
        return self

    def constant_within(self, images: Float[Tensor, " b *shape"]) -> Float[Tensor, " b"]:
        """Return how far sigma(x) is known to be constant around each image: l2, float64, rounded down.

        With c of an image and the semi-elasticity r: |log sigma(x') - log sigma(x)| <= r max(0, ||x' - x|| - c). It is
        0 where nothing more than r is known, and infinite for a constant sigma.

        Args:
            images: pixel range [0, 1].
        """
        return torch.zeros(len(images), dtype=torch.float64)

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        sigma: Float[Tensor, " b"],
        draw: DrawNoise,
    ) -> Float[Tensor, " b"]:
        """Return the sigma of each image, float64, > 0.

        The result for an image is a function of the model, that image, its starting sigma and its noise: not
        of the other images of the batch. The model runs in evaluation mode, if at all.

        Args:
            model: base classifier, images [b, *shape] in, logits [b, k] out; its parameters, their gradients
                and its mode are left as they are.
            images: pixel range [0, 1], on the device of the model.
            sigma: where to start: sigma0, or what an earlier epoch carried over; pixel coordinates.
            draw: where all randomness comes from.

        Raises:
            ConfigError: ``sigma`` is not one number per image, or the policy cannot be used for these images.
            ModelError: the model returned something else than finite logits [b, k].
        """
        return self._choose(model, images, self._start(images, sigma), draw)

    def together(
        self,
        policies: Sequence[Self],
        model: nn.Module,
        images: Float[Tensor, " b *shape"],
        sigma: Float[Tensor, " b"],
        draw: DrawNoise,
    ) -> Float[Tensor, "p b"]:
        """Return the sigma of each image for each of some policies: what calls of these return.

        Policies that differ from this one in `extent` alone share one search. Of others, each asks for the steps of
        the noise by itself.

        Args:
            policies: of the class of this one, in any order.
            model: as in a call, and so are the others.
            images: likewise.
            sigma: likewise.
            draw: likewise.

        Raises:
            ConfigError, ModelError: as a call.
        """
        return torch.stack([policy(model, images, sigma, draw) for policy in policies])

    def _start(self, images: Float[Tensor, " b *shape"], sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return where to start in float64, or raise if it is not one number per image."""
        if sigma.shape != images.shape[:1]:
            raise ConfigError(f"sigma: shape {list(sigma.shape)}; must be one per image, {list(images.shape[:1])}")
        return sigma.detach().to(torch.float64)

    @abstractmethod
    def _choose(
        self, model: nn.Module, images: Float[Tensor, " b *shape"], sigma: Float[Tensor, " b"], draw: DrawNoise
    ) -> Float[Tensor, " b"]:
        """Return the sigma of each image; the arguments are those of the call, with sigma in float64."""


BASE = SigmaPolicy
