"""Counter-based randomness: the noise of an image is a function of (seed, dataset, stage, image) and nothing else.

Noise comes in blocks of a fixed number of samples. Block b of an image is a function of the image's key and of b, so
any block can be made alone, in any order, by any worker. On the CPU the words are the AES-128 keystream in counter mode
(Salmon et al. 2011 use the same cipher as a counter-based generator): the key is a hash of (seed, dataset, stage,
image), the counter is the position in the image's stream. On other devices a ``torch.Generator`` (Philox on CUDA) is
seeded by a hash of the key and the block. The two give different noise, each reproducible on its kind of device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import ModuleType

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from jaxtyping import Float
from torch import Tensor

_CIPHER_BYTES = 16  # one counter step of AES
_CACHED_WORDS = 2**17  # words that are made into noise at a time: what stays in the second-level cache


def image_identities(images: Float[Tensor, " b *shape"]) -> list[str]:
    """Return an identity of each image from its content, for images that have no index in a data set."""
    rows = images.detach().to("cpu", torch.float32).contiguous().numpy()
    return [hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).hexdigest() for row in rows]


Source = tuple[str, int | str]
"""Stage and image: what a stream of noise belongs to."""


@dataclass(frozen=True)
class NoiseStreams:
    """The noise of one certification: one stream per stage and image.

    The stages are "selection", "estimation" and "sigma"; they never share noise.

    Attributes:
        noise: a member of certsmooth.noise.
        seed: of the certification.
        dataset: name of the data set.
    """

    noise: ModuleType
    seed: int
    dataset: str

    def key(self, source: Source) -> bytes:
        """Return the 128-bit key of a stream."""
        parts = repr((self.noise.__name__, self.seed, self.dataset, *source))
        return hashlib.blake2b(parts.encode(), digest_size=16).digest()

    def fill(self, out: Float[Tensor, "g block d"], sources: Sequence[Source], blocks: Sequence[int]) -> None:
        """Write block ``blocks[i]`` of the stream of ``sources[i]`` to ``out[i]``, for each i.

        Args:
            out: float32, contiguous; its device decides on the generator. The size of a block is part of what its
                noise depends on.
            sources: stage and image of each block.
            blocks: number of each block within its stream.
        """
        if out.device.type == "cpu":
            self._fill_from_keystream(out.view(len(out), -1), sources, blocks)
        else:
            generator = torch.Generator(out.device)
            for row, source, block in zip(out.view(len(out), -1), sources, blocks, strict=True):
                digest = hashlib.blake2b(block.to_bytes(8, "big"), key=self.key(source), digest_size=8).digest()
                generator.manual_seed(int.from_bytes(digest, "big") >> 1)
                self.noise.from_generator(generator, row)

    def _fill_from_keystream(self, out: Float[Tensor, "g m"], sources: Sequence[Source], blocks: Sequence[int]) -> None:
        size = out.shape[1]
        padded = -(-4 * size // _CIPHER_BYTES) * _CIPHER_BYTES
        buffer = np.empty(len(out) * padded + _CIPHER_BYTES, dtype=np.uint8)
        for start, stop in _runs(sources, blocks):
            counter = blocks[start] * (padded // _CIPHER_BYTES)
            cipher = Cipher(algorithms.AES(self.key(sources[start])), modes.CTR(counter.to_bytes(_CIPHER_BYTES, "big")))
            length = (stop - start) * padded
            # The cipher wants room for a block more than it writes.
            target = buffer[start * padded : start * padded + length + _CIPHER_BYTES - 1]
            cipher.encryptor().update_into(_zeros(length), target.data)
        words = torch.from_numpy(buffer[: len(out) * padded].view(np.int32).reshape(len(out), -1))
        rows = max(1, _CACHED_WORDS // words.shape[1])
        for some, part in zip(torch.split(words, rows), torch.split(out, rows), strict=True):
            if words.shape[1] == size:
                self.noise.from_words(some, part)
            else:
                noise = torch.empty(some.shape, dtype=torch.float32)
                self.noise.from_words(some, noise)
                part.copy_(noise[:, :size])


@lru_cache(maxsize=4)
def _zeros(length: int) -> bytes:
    """Return what is encrypted: the keystream is the cipher text of zeros."""
    return bytes(length)


def _runs(sources: Sequence[Source], blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Return the (start, stop) of each run of consecutive blocks of one stream: one call of the cipher each."""
    breaks = [i for i in range(1, len(blocks)) if sources[i] != sources[i - 1] or blocks[i] != blocks[i - 1] + 1]
    return list(pairwise([0, *breaks, len(blocks)]))
