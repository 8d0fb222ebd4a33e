"""Counter-based randomness: the noise of an image is a function of (seed, dataset, stage, image) and nothing else.

Noise comes in blocks of a fixed number of samples. Block b of an image is a function of the image's key and of b, so
any block can be made alone, in any order, by any worker. On the CPU the words are the AES-128 keystream in counter mode
(Salmon et al. 2011 use the same cipher as a counter-based generator): the key is a hash of (seed, dataset, stage,
image), the counter is the position in the image's stream. On other devices a ``torch.Generator`` (Philox on CUDA) is
seeded by a hash of the key and the block. The two give different noise, each reproducible on its kind of device: on the
CPU everywhere, on GPUs of one model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from jaxtyping import Float
from torch import Generator, Tensor

_CIPHER_BYTES = 16  # one counter step of AES


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
        noise: a member of certsmooth.science.noise.
        seed: of the certification.
        dataset: name of the data set.
    """

    noise: ModuleType
    seed: int
    dataset: str

    def key(self, source: Source) -> bytes:
        """Return the 128-bit key of a stream."""
        # Not the module's full name: noise must not change because a file moved.
        name = "certsmooth.noise." + self.noise.__name__.rpartition(".")[2]
        parts = repr((name, self.seed, self.dataset, *source))
        return hashlib.blake2b(parts.encode(), digest_size=16).digest()

    def fill(self, out: Float[Tensor, "g block d"], source: Source, first: int) -> None:
        """Write blocks ``first``, ``first`` + 1, ... of a stream of standard noise to the rows of ``out``.

        Args:
            out: float32, contiguous; its device decides on the generator. The size of a block is part of what its
                noise depends on.
            source: stage and image.
            first: number of the first block, from 0.
        """
        rows = out.view(len(out), -1)
        if out.device.type != "cpu":
            for row, generator in zip(rows, self.generators(out.device, source, first), strict=False):
                self.noise.from_generator(generator, row)
            return
        size = rows.shape[1]
        words = torch.from_numpy(self.keystream(source, first, len(rows), 4 * size).view(np.int32))
        if words.shape[1] == size:
            self.noise.from_words(words, rows)
        else:
            noise = torch.empty(words.shape, dtype=torch.float32)
            self.noise.from_words(words, noise)
            rows.copy_(noise[:, :size])

    def keystream(self, source: Source, first: int, blocks: int, size: int) -> npt.NDArray[np.uint8]:
        """Return uniform bytes of blocks ``first``, ``first`` + 1, ... of a stream.

        Args:
            source: stage and image.
            first: number of the first block, from 0.
            blocks: how many blocks.
            size: bytes of a block; each starts with a new step of the counter, so up to 15 more are returned.
        """
        steps = -(-size // _CIPHER_BYTES)
        length = blocks * steps * _CIPHER_BYTES
        cipher = Cipher(algorithms.AES(self.key(source)), modes.CTR((first * steps).to_bytes(_CIPHER_BYTES, "big")))
        buffer = np.empty(length + _CIPHER_BYTES, dtype=np.uint8)  # the cipher wants room for a step more
        cipher.encryptor().update_into(_zeros(length), buffer.data)
        return buffer[:length].reshape(blocks, -1)

    def generators(self, device: torch.device, source: Source, first: int) -> Iterator[Generator]:
        """Yield the generator of each block of a stream, from ``first`` on: the same object, seeded anew."""
        generator, block = torch.Generator(device), first
        while True:
            digest = hashlib.blake2b(block.to_bytes(8, "big"), key=self.key(source), digest_size=8).digest()
            yield generator.manual_seed(int.from_bytes(digest, "big") >> 1)
            block += 1


@lru_cache(maxsize=4)
def _zeros(length: int) -> bytes:
    """Return what is encrypted: the keystream is the cipher text of zeros."""
    return bytes(length)
