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
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from jaxtyping import Float
from torch import Tensor

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

    def fill(self, out: Float[Tensor, "g block d"], source: Source, first: int) -> None:
        """Write blocks ``first``, ``first`` + 1, ... of a stream to the rows of ``out``.

        Args:
            out: float32, contiguous; its device decides on the generator. The size of a block is part of what its
                noise depends on.
            source: stage and image.
            first: number of the first block, from 0.
        """
        rows = out.view(len(out), -1)
        if out.device.type == "cpu":
            self._fill_from_keystream(rows, source, first)
            return
        generator = torch.Generator(out.device)
        for block, row in enumerate(rows, first):
            digest = hashlib.blake2b(block.to_bytes(8, "big"), key=self.key(source), digest_size=8).digest()
            generator.manual_seed(int.from_bytes(digest, "big") >> 1)
            self.noise.from_generator(generator, row)

    def _fill_from_keystream(self, out: Float[Tensor, "g m"], source: Source, first: int) -> None:
        size = out.shape[1]
        padded = -(-4 * size // _CIPHER_BYTES) * _CIPHER_BYTES  # each block starts with a new step of the counter
        length = len(out) * padded
        counter = first * (padded // _CIPHER_BYTES)
        cipher = Cipher(algorithms.AES(self.key(source)), modes.CTR(counter.to_bytes(_CIPHER_BYTES, "big")))
        buffer = np.empty(length + _CIPHER_BYTES, dtype=np.uint8)  # the cipher wants room for a step more
        cipher.encryptor().update_into(_zeros(length), buffer.data)
        words = torch.from_numpy(buffer[:length].view(np.int32).reshape(len(out), -1))
        if words.shape[1] == size:
            self.noise.from_words(words, out)
        else:
            noise = torch.empty(words.shape, dtype=torch.float32)
            self.noise.from_words(words, noise)
            out.copy_(noise[:, :size])


@lru_cache(maxsize=4)
def _zeros(length: int) -> bytes:
    """Return what is encrypted: the keystream is the cipher text of zeros."""
    return bytes(length)
