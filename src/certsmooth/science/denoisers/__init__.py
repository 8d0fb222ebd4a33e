"""Denoisers, one file each: networks that take noisy images to images, in front of a classifier that never saw noise.

A member module defines one frozen dataclass, a subclass of `Denoiser`; its fields are the options that params.yaml may
give. The denoiser and the classifier behind it are one base classifier, which is smoothed (denoised smoothing: Salman,
Sun, Yang, Kapoor, Kolter 2020, arXiv:2003.01908, Section 3): a certificate is about the two as one program, however
well the denoiser works, which adds no noise of its own. A denoiser is trained for one noise level, by the objective of
the training, through the classifier: with `gaussian` that is the paper's stability objective with the labels of the
images where the paper has the classes that the classifier gives them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from certsmooth._internal.options import Member

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Denoiser(Member, ABC):
    """Base of the denoisers: a member is one with its options."""

    @abstractmethod
    def check_shape(self, image_shape: tuple[int, ...]) -> None:
        """Raise unless it takes images of a shape; no torch is loaded.

        Args:
            image_shape: of one image, (c, h, w).

        Raises:
            ConfigError: it does not.
        """

    @abstractmethod
    def build(self, image_shape: tuple[int, ...]) -> nn.Module:
        """Build the network, freshly initialised.

        Args:
            image_shape: of one image, (c, h, w).

        Returns:
            A module: images with noise [b, c, h, w], pixels in [0, 1] plus the noise, to images of the same shape.

        Raises:
            ConfigError: it does not take images of that shape.
        """


BASE = Denoiser
