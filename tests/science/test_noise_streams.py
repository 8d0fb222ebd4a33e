"""Noise of an image: a function of (noise, seed, data set, stage, image, block), in whatever order it is asked for."""

from __future__ import annotations

import hashlib
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from certsmooth._internal.registry import member, names
from certsmooth.science.noise import NoiseStreams, image_identities
from factories import LAWS

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
STAGES = ("selection", "estimation", "sigma")
NOISES = [member("noise", name)() for name in names("noise")]


def bits(words, out):
    """Noise that is the words themselves, bit by bit."""
    out.copy_(words.view(torch.float32))


BITS = SimpleNamespace(member_name=lambda: "bits", from_words=bits)


def fill(streams, sources, blocks, shape, device="cpu"):
    out = torch.full((len(blocks), *shape), math.nan, device=device)
    for row, source, block in zip(out.unsqueeze(1), sources, blocks, strict=True):
        streams.fill(row, source, block)
    return out


def one(streams, source, block, shape=(100, 7)):
    return fill(streams, [source], [block], shape)[0].double().numpy().ravel()


def uncorrelated(first, second):
    return abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(len(first))


@settings(max_examples=50, deadline=None)
@given(
    size=st.sampled_from([1, 2, 3, 4, 5, 8, 31, 100]),
    requests=st.lists(st.tuples(st.sampled_from(["a", "b", 3]), st.integers(0, 6)), min_size=1, max_size=12),
)
def test_words_are_the_aes_keystream_in_counter_mode(size, requests):
    streams = NoiseStreams(BITS, 5, "digits")
    sources, blocks = [("estimation", image) for image, _ in requests], [block for _, block in requests]
    words = fill(streams, sources, blocks, (size,)).view(torch.int32).numpy()
    steps = -(-size // 4)  # of the counter, 16 bytes each: a block begins with a new one
    for row, source, block in zip(words, sources, blocks, strict=True):
        cipher = Cipher(algorithms.AES(streams.key(source)), modes.ECB())
        counters = range(block * steps, (block + 1) * steps)
        stream = b"".join(cipher.encryptor().update(counter.to_bytes(16, "big")) for counter in counters)
        assert row.tobytes() == stream[: 4 * size]


def test_the_key_is_what_it_always_was():
    """Counts of earlier versions can be repeated only as long as this holds."""
    text = "('certsmooth.noise.gaussian', 7, 'digits', 'estimation', 12)"
    key = NoiseStreams(member("noise", "gaussian")(), 7, "digits").key(("estimation", 12))
    assert key == hashlib.blake2b(text.encode(), digest_size=16).digest()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("noise", NOISES, ids=names("noise"))
@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from([(1, 1), (3, 1), (5, 3), (100, 2), (100, 7), (7, 13), (100, 64)]),
    requests=st.lists(
        st.tuples(st.sampled_from(STAGES), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=20
    ),
)
def test_a_block_does_not_depend_on_the_others(device, noise, shape, requests):
    streams = NoiseStreams(noise, 1, "digits")
    sources, blocks = [(stage, image) for stage, image, _ in requests], [block for *_, block in requests]
    together = fill(streams, sources, blocks, shape, device)
    assert together.isfinite().all()
    for i in range(len(requests)):
        assert torch.equal(together[i], fill(streams, sources[i : i + 1], blocks[i : i + 1], shape, device)[0])


@pytest.mark.parametrize("noise", NOISES, ids=names("noise"))
def test_whatever_differs_the_noise_is_another(noise):
    streams = [
        (NoiseStreams(noise, seed, dataset), (stage, image), block)
        for seed, dataset, stage, image, block in itertools.product(
            (0, 1), ("digits", "mnist"), STAGES, (0, 1, "0"), (0, 1)
        )
    ]
    noises = [one(*stream, shape=(100, 40)) for stream in streams]
    matrix = np.corrcoef(np.array(noises))
    np.fill_diagonal(matrix, 0)
    assert np.abs(matrix).max() < 5.5 / math.sqrt(4000)  # 10,000 pairs: beyond by chance once in 2,000 seeds
    squares = np.corrcoef(np.square(noises))
    np.fill_diagonal(squares, 0)
    assert np.abs(squares).max() < 5.5 / math.sqrt(4000)


def test_names_that_join_to_the_same_text_have_streams_of_their_own():
    noise = member("noise", "gaussian")()
    keys = [
        NoiseStreams(noise, 1, "a").key(("b", "c")),
        NoiseStreams(noise, 1, "ab").key(("", "c")),
        NoiseStreams(noise, 1, "a', 'b").key(("c", "")),
        NoiseStreams(noise, 11, "a").key(("b", "c")),
        NoiseStreams(noise, 1, "a").key(("bc", "")),
    ]
    assert len(set(keys)) == len(keys)


def test_another_noise_has_words_of_its_own():
    other = SimpleNamespace(member_name=lambda: "others", from_words=bits)
    first, second = (NoiseStreams(noise, 1, "digits").key(("sigma", 0)) for noise in (BITS, other))
    assert first != second


@pytest.mark.parametrize("name", names("noise"))
def test_the_images_of_a_data_set_are_independent(name):
    """Over images, not within one: the same place of the noise of 4,000 images."""
    streams = NoiseStreams(member("noise", name)(), 0, "digits")
    first, second = (
        fill(streams, [(stage, i) for i in range(4000)], [block] * 4000, (1, 2))[:, 0, 0].double().numpy()
        for stage, block in (("selection", 0), ("estimation", 0))
    )
    assert uncorrelated(first, second)
    assert uncorrelated(first[1:], first[:-1])
    assert stats.kstest(first, LAWS[name].cdf).pvalue > 1e-3


def test_identity_is_the_content_of_an_image():
    images = torch.rand(6, 3, 4, 5)
    identities = image_identities(images)
    assert len(set(identities)) == 6
    assert image_identities(images.flip(0)) == identities[::-1]
    assert image_identities(images[2:3]) == identities[2:3]
    assert image_identities(images.double()) == identities
    assert image_identities(images.contiguous(memory_format=torch.channels_last)) == identities
    assert image_identities(images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)) == identities
    changed = images.clone()
    changed[4, 2, 3, 4] = changed[4, 2, 3, 4].nextafter(torch.tensor(2.0))
    assert [a == b for a, b in zip(image_identities(changed), identities, strict=True)] == [1, 1, 1, 1, 0, 1]
