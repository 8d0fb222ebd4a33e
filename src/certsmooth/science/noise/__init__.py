"""Smoothing noise, one file each, and the streams that it is drawn from.

A member module defines, for standard noise (scale 1, symmetric about 0):

- ``from_words(words: int32 [g, 2 h], out: float32 [g, 2 h]) -> None``: turns uniform 32-bit words into noise;
- ``from_generator(generator: torch.Generator, out) -> None``: draws it with a generator of out's device; out is of any
  shape and floating-point type;
- ``lower_tail`` and ``quantile``, its law at t <= 0, for noise that is exact on a grid (`theory.pixel_grid`), and
  ``REACH``, beyond which it has a probability below 2^-65 on each side.
"""

from certsmooth.science.noise._noisy import FloatNoise, GridNoise, NoisyImages
from certsmooth.science.noise._streams import NoiseStreams, image_identities

__all__ = ["FloatNoise", "GridNoise", "NoiseStreams", "NoisyImages", "image_identities"]
