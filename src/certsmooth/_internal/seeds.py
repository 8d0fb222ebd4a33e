"""One pure function: the seed of a run and the name of a purpose give the seed of a random stream."""

from __future__ import annotations

import hashlib
import math

from certsmooth._internal.checks import check_integer


def derive_seed(seed: int, *parts: str | int) -> int:
    """Return the seed of the random stream that ``parts`` name, in 0 .. 2**63 - 1.

    The result is the first 63 bits of the BLAKE2b hash of an unambiguous encoding of the arguments: type,
    length and text of each. Different arguments therefore give unrelated streams, ``("a", "bc")`` differs
    from ``("ab", "c")`` and ``1`` from ``"1"``, and the value is the same on every platform and in every
    version of Python.

    Args:
        seed: the seed of the whole run; any integer.
        *parts: what the stream is for, for example ``("noise", epoch)``.

    Raises:
        ConfigError: one of them is neither text nor a whole number; a boolean is none.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (seed, *parts):
        kind = "s" if isinstance(part, str) else "i"
        text = part if isinstance(part, str) else str(check_integer("seed", part, maximum=math.inf))
        encoded = text.encode()
        digest.update(f"{kind}{len(encoded)}:".encode() + encoded)
    return int.from_bytes(digest.digest(), "big") >> 1
