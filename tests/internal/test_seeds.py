"""Seeds of random streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from certsmooth._internal.seeds import derive_seed
from certsmooth.errors import ConfigError

PARTS = st.lists(st.one_of(st.integers(), st.text()), max_size=4)


@given(st.integers(), PARTS, st.integers(), PARTS)
def test_equal_exactly_where_the_arguments_are(seed, parts, other_seed, other_parts):
    a, b = derive_seed(seed, *parts), derive_seed(other_seed, *other_parts)
    assert (a == b) == ((seed, parts) == (other_seed, other_parts))
    assert 0 <= a < 2**63


def test_the_encoding_is_unambiguous():
    seeds = [
        derive_seed(1, "a", "bc"),
        derive_seed(1, "ab", "c"),
        derive_seed(1, "abc"),
        derive_seed(1, "1"),
        derive_seed(1, 1),
        derive_seed(11),
        derive_seed(1),
    ]
    assert len(set(seeds)) == len(seeds)


def test_stable_across_versions_and_numpy_integers():
    # printf 'i1:0s5:noisei1:3' | b2sum -l 64, first 63 bits; a change would change every stored result.
    assert derive_seed(0, "noise", 3) == 0x655325A044527496 >> 1
    assert derive_seed(np.int64(0), "noise", np.int32(3)) == derive_seed(0, "noise", 3)
    no_integers = (1.5, 1.0, True, np.True_, np.float64(1), torch.tensor(True), torch.tensor(1.0), torch.tensor([1]))
    for seed in no_integers:
        with pytest.raises(ConfigError, match="must be a whole number"):
            derive_seed(seed)
        with pytest.raises(ConfigError, match="must be a whole number"):
            derive_seed(0, "noise", seed)
    assert derive_seed(torch.tensor(0), "noise", np.array(3)) == derive_seed(0, "noise", 3)
