"""Images plus noise: in float32, or exactly on the grid of the pixels (see `certsmooth.science.theory.pixel_grid`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from certsmooth.science.noise._law import Noise
from certsmooth.science.noise._streams import NoiseStreams, Source
from certsmooth.science.theory.pixel_grid import LARGEST, SUBSTEPS, PixelGrid

_CELLS = 2**16  # of the first table: what the first 16 random bits of a number decide
_WIDEST = 2**13  # integers on each side of 0 in a table; with wider noise most cells decide nothing
_FARTHEST = 2**21  # of the integers of an image that noise from a table is added to: the sum needs no clipping
_SIGN = np.uint64(1 << 63)


class FloatNoise:
    """x + sigma z in float32: ideal noise up to rounding, which some base classifiers can see."""

    def __init__(self, streams: NoiseStreams, images: Float[Tensor, " g *shape"], sigma: Sequence[float]) -> None:
        self.streams = streams
        self.images = images.flatten(1)
        self.sigma = sigma

    def fill(self, out: Float[Tensor, "g block d"], position: int, source: Source, first: int) -> None:
        """Write blocks ``first``, ``first`` + 1, ... of an image's noisy copies.

        Args:
            out: float32, contiguous, on the device of the images.
            position: of the image in its group.
            source: stage and image, of the stream that the noise comes from.
            first: number of the first block, from 0.
        """
        self.streams.fill(out, source, first)
        torch.add(self.images[position], out, alpha=self.sigma[position], out=out)


class GridNoise:
    """round((S(x) + sigma z) / step) step, with the law of ideal noise; see `certsmooth.science.theory.pixel_grid`.

    Args:
        streams: where random bits come from.
        images: float32.
        sigma: of each image.
        grid: the grid.
    """

    def __init__(
        self, streams: NoiseStreams, images: Float[Tensor, " g *shape"], sigma: Sequence[float], grid: PixelGrid
    ) -> None:
        self.streams = streams
        self.scale = [each * grid.levels for each in sigma]
        read = (images.flatten(1).to(torch.float64) * (grid.levels * SUBSTEPS)).round()  # exact, but for the rounding
        self.nearest = torch.floor(read / SUBSTEPS + 0.5)
        self.rest = (read - self.nearest * SUBSTEPS) / SUBSTEPS  # exact
        on_grid = (self.rest == 0).all(1) & (self.nearest.abs() <= _FARTHEST).all(1)
        laws = {s: Law(streams.noise, s) for s in set(self.scale) if Law.fits(streams.noise, s)}
        self.law = [laws.get(s) if on else None for s, on in zip(self.scale, on_grid.tolist(), strict=True)]
        self.pixels = self.nearest.to(torch.float32)
        # A tensor: CUDA multiplies by the reciprocal where the divisor is a Python number.
        self.levels = torch.tensor(float(grid.levels), device=images.device)

    def fill(self, out: Float[Tensor, "g block d"], position: int, source: Source, first: int) -> None:
        """Write noisy copies, as `FloatNoise.fill`."""
        rows, law = out.view(len(out), -1), self.law[position]
        if law is None:
            self._fill_from_quantiles(out, position, source, first)
        else:
            if out.device.type == "cpu":
                law.fill(rows, self.streams, source, first)
            else:
                for row, words in zip(rows, self._words(rows, source, first), strict=True):
                    row.copy_(law.at(words))
            out.add_(self.pixels[position])
        out.div_(self.levels)

    def _fill_from_quantiles(self, out: Float[Tensor, "g block d"], position: int, source: Source, first: int) -> None:
        nearest, rest, scale = self.nearest[position], self.rest[position], self.scale[position]
        for part, words in zip(out, self._words(out.view(len(out), -1), source, first), strict=True):
            z = standard(self.streams.noise, words).view_as(part)
            part.copy_(z.mul_(scale).add_(rest).round_().add_(nearest).clamp_(-LARGEST, LARGEST))

    def _words(self, rows: Float[Tensor, "g m"], source: Source, first: int) -> Iterator[Int[Tensor, " m"]]:
        """Yield 64 random bits for each number of each block."""
        size, device = rows.shape[1], rows.device
        if device.type == "cpu":
            stream = self.streams.keystream(source, first, len(rows), 8 * size).view(np.int64)
            yield from torch.from_numpy(stream[:, :size])
            return
        for _, generator in zip(rows, self.streams.generators(device, source, first), strict=False):
            yield words_of(generator, size)


NoisyImages = FloatNoise | GridNoise
"""Noisy copies of each image of a group."""


def words_of(generator: torch.Generator, size: int) -> Int[Tensor, " size"]:
    """Return uniform 64-bit words of a generator, on its device."""
    words = torch.empty(size, dtype=torch.int64, device=generator.device)
    return words.random_(-(2**63), None, generator=generator)


def standard(noise: Noise, words: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Return standard noise, float64, of uniform 64-bit words: a sign, and the quantile of 63 bits and a half."""
    magnitude = (words ^ (words >> 63)).to(torch.float64).add_(0.5).mul_(2.0**-64)
    lower = noise.quantile(magnitude)
    return torch.where(words < 0, lower, -lower)


class Law:
    """The law of Z = round(s z): 64 random bits are compared with the exact probabilities, rounded to 2^-64.

    Z is the number of thresholds at or below the bits, as a whole number, less ``reach``. Nearly always the first 16
    bits decide, through a table; then 16 more, and, about once in a million numbers, the last 32.

    Args:
        noise: a member of certsmooth.science.noise.
        scale: s.
    """

    def __init__(self, noise: Noise, scale: float) -> None:
        bounds = (np.arange(-int(noise.reach * scale) - 1, 0) + 0.5) / scale
        below = np.rint(noise.lower_tail(bounds) * 2.0**64)  # below 2^63
        below = below[below > 0].astype(np.uint64)
        self.reach = len(below)
        self.thresholds = np.concatenate([below, np.uint64(0) - below[::-1]])  # 2^64 minus: the law is symmetric
        cell, inside = (self.thresholds >> np.uint64(48)).astype(np.int64), self.thresholds << np.uint64(16) != 0
        after = np.concatenate([[0], cell + inside, [_CELLS]])  # the first cell that begins at a threshold or above
        self.first = np.repeat(np.arange(len(below) * 2 + 1, dtype=np.int32), np.diff(after))
        open_, thresholds = np.unique(cell[inside], return_counts=True)
        self.several = np.zeros(_CELLS, dtype=bool)  # thresholds in the cell
        self.several[open_[thresholds > 1]] = True
        self.cells = torch.from_numpy(self.first.astype(np.float32)).sub_(self.reach)
        self.cells[torch.from_numpy(open_)] = np.nan
        self.signed = torch.from_numpy((self.thresholds ^ _SIGN).view(np.int64))  # the same order, as int64

    @classmethod
    def fits(cls, noise: Noise, scale: float) -> bool:
        """Return whether noise of a scale is narrow enough for a table."""
        return noise.reach * scale < _WIDEST

    def _passed(self, bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the number of thresholds at or below the bits."""
        return np.searchsorted(self.thresholds, bits, side="right")

    def at(self, words: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Return Z of 64-bit words, which stand for themselves plus 2^63."""
        return torch.bucketize(words, self.signed.to(words.device), right=True) - self.reach

    def fill(self, out: Float[Tensor, "g m"], streams: NoiseStreams, source: Source, first: int) -> None:
        """Write Z of blocks ``first``, ``first`` + 1, ... of a stream, on the CPU.

        The bits are those of ``streams``: a block has the first 16 of each number, and then 16 more of each. The other
        arguments are those of `NoiseStreams.fill`.
        """
        size = out.shape[1]
        halves = streams.keystream(source, first, len(out), 4 * size).view(np.uint16)
        torch.index_select(
            self.cells, 0, torch.from_numpy(halves[:, :size].astype(np.int32)).view(-1), out=out.view(-1)
        )
        values = out.numpy()
        undecided = np.flatnonzero(np.isnan(values))
        block, number = np.divmod(undecided, size)
        cell, low = halves[block, number], halves[block, size + number]
        bits = (cell.astype(np.uint64) << np.uint64(48)) | (low.astype(np.uint64) << np.uint64(32))
        passed, open_ = self._compared(bits, cell)
        if len(open_):
            bits[open_] |= _last_bits(streams, source, first + block[open_], number[open_])
            passed[open_] = self._passed(bits[open_])
        values.reshape(-1)[undecided] = passed - self.reach

    def _compared(
        self, bits: npt.NDArray[np.uint64], cell: npt.NDArray[np.uint16]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return how many thresholds are at or below numbers of which 32 bits are known, and where that is not decided.

        ``bits`` are the known ones, followed by zeros; ``cell`` the first 16 of them.
        """
        rest = np.uint64(2**32 - 1)
        passed = self.first[cell]
        threshold = self.thresholds[passed]
        several = np.flatnonzero(self.several[cell])
        open_ = (bits < threshold) & (threshold <= bits | rest)
        passed += bits >= threshold
        passed[several] = self._passed(bits[several])
        open_[several] = passed[several] != self._passed(bits[several] | rest)
        return passed, np.flatnonzero(open_)


def _last_bits(
    streams: NoiseStreams, source: Source, blocks: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Return the last 32 of the random bits of some numbers, from a stream of their own."""
    stage, image = source
    own = (f"{stage}/last", image)
    places = [(int(block) << 32) + int(number) for block, number in zip(blocks, numbers, strict=True)]
    words = [int.from_bytes(streams.keystream(own, place, 1, 4)[0, :4].tobytes(), "little") for place in places]
    return np.asarray(words, dtype=np.uint64)
