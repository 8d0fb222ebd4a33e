"""Changes that a file or a configuration may suffer, for the fuzz tests.

``FUZZ_EXAMPLES=3000 pytest tests/hostile/test_fuzz_*.py`` tries more.
"""

from __future__ import annotations

import copy
import datetime
import os
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzz(examples: int) -> settings:
    """Return how many changes are tried, unless the environment says otherwise."""
    return settings(
        max_examples=EXAMPLES or examples,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink) if EXAMPLES else (Phase.generate,),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


TOKENS = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\n",
        b"\t",
        b"\r",
        b'"',
        b"'",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b": ",
        b"- ",
        b"&a ",
        b"*a",
    ),
    *(
        b"!!python/none ",
        b"!!int ",
        b"null",
        b"true",
        b"NaN",
        b"Infinity",
        b"-1",
        b"1e400",
        b"0x",
        b"inf",
        b"-0",
        b"1_0",
    ),
    *(
        b"9" * 5000,
        b"[" * 5000,
        b'{"a":' * 3000,
        b" " * 1000,
        b"../",
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
)
INTEGERS = (
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**60,
    2**63 - 1,
    2**64 - 1,
)


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Return the bytes of a file after one to three changes: at its start and end more often than between."""
    for _ in range(draw(st.integers(1, 3))):
        size = len(content)
        near = st.integers(0, min(300, size))
        place = draw(st.one_of(st.integers(0, size), near, near.map(lambda n, size=size: size - n)))
        kind = draw(st.sampled_from(("cut", "byte", "token", "integer", "copy", "drop", "noise")))
        if kind == "cut":
            content = content[:place]
        elif kind == "byte":
            content = content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]
        elif kind == "token":
            content = content[:place] + draw(st.sampled_from(TOKENS)) + content[place + draw(st.integers(0, 4)) :]
        elif kind == "integer":
            number, width = draw(st.sampled_from(INTEGERS)), draw(st.sampled_from((2, 4, 8)))
            data = (number % 256**width).to_bytes(width, draw(st.sampled_from(("little", "big"))))
            content = content[:place] + data + content[place + width :]
        elif kind == "copy":
            start = draw(st.integers(0, size))
            content = content[:place] + content[start : start + draw(st.integers(1, 100))] + content[place:]
        elif kind == "drop":
            content = content[:place] + content[place + draw(st.integers(1, 100)) :]
        else:
            content = content[:place] + draw(st.binary(max_size=20)) + content[place:]
    return content


VALUES = (
    *(None, True, False, 0, 1, -1, 2, 100, 2**31, 2**62, 10**400, 0.5, -0.5, 1e-300, 1e300, 5e-324),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "0", "1", "nan", "true", "default", "digits", "cohen", "pgd"),
    *(
        "../x",
        "/x",
        "{x}",
        "$(x)",
        "-x",
        "a b",
        "x" * 5000,
        "\0",
        "\ud800",
        "1e400",
        b"x",
        (),
        [],
        {},
        [1],
        [0, 0],
        [None],
    ),
    *([[1]], {"a": 1}, {1: 2}, {None: None}, {"name": "cohen"}, {"name": "fixed", "options": {"factor": []}}),
    *(datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2), {"set"}, [["deep"] * 3] * 3),
    list(range(1000)),
)


def places(whole: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value of a tree."""
    if path:
        yield path
    children = whole.items() if isinstance(whole, dict) else enumerate(whole) if isinstance(whole, list) else ()
    for key, value in children:
        yield from places(value, (*path, key))


@st.composite
def changed_tree(draw: st.DrawFn, make: Callable[[], Any]) -> Any:
    """Return a tree after one to three changes: a value replaced or deleted, a key renamed or added."""
    whole = make()
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(whole))
        if not known:
            break
        path = draw(st.sampled_from(known))
        here = whole
        for part in path[:-1]:
            here = here[part]
        kind = draw(st.sampled_from(("replace", "replace", "replace", "delete", "rename", "add", "move", "wrap")))
        if kind == "replace":
            here[path[-1]] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif kind == "delete":
            del here[path[-1]]
        elif kind == "wrap":
            here[path[-1]] = [here[path[-1]]]
        elif kind == "move":
            value = make()
            for part in draw(st.sampled_from(list(places(value)))):
                value = value[part]
            here[path[-1]] = value
        elif isinstance(here, dict):
            value = here[path[-1]] if kind == "add" else here.pop(path[-1])
            here[draw(st.sampled_from(("x", "", "-x", "../x", "name", "options", 1, None, True, "digits")))] = value
    return whole
