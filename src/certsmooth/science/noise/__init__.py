"""Smoothing noise, one file each, and the streams that it is drawn from.

A member module defines one frozen dataclass, a subclass of `Noise`; its law at t <= 0 is for noise that is exact on a
grid (`theory.pixel_grid`).
"""

from certsmooth.science.noise._law import Noise
from certsmooth.science.noise._noisy import FloatNoise, GridNoise, NoisyImages
from certsmooth.science.noise._streams import NoiseStreams, image_identities

__all__ = ["BASE", "FloatNoise", "GridNoise", "Noise", "NoiseStreams", "NoisyImages", "image_identities"]

BASE = Noise
