"""Two descriptions are equal, or the entries that differ are named with both values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certsmooth.artefacts.envelope import Form, differences
from certsmooth.errors import CountsError, DataError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "nothing", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
DESCRIPTIONS = st.dictionaries(st.sampled_from("abc"), PLAIN, max_size=3)


def leaves(value, key=""):
    """Every value of a description with its place; an empty mapping and a list are values."""
    if isinstance(value, dict) and value:
        return {place: leaf for name, each in value.items() for place, leaf in leaves(each, f"{key}.{name}").items()}
    return {key: json.dumps(value, sort_keys=True)}


@given(first=DESCRIPTIONS, second=DESCRIPTIONS)
def test_two_descriptions_differ_exactly_if_their_json_does(first, second):
    def text(value):  # in lists, a truth value is a number
        return json.dumps(leaves(value), sort_keys=True).replace("true", "1").replace("false", "0")

    found = list(differences(first, second))
    if not found:
        assert text(first) == text(second)
    assert bool(found) == bool(list(differences(second, first)))
    if leaves(first) == leaves(second):
        assert found == []


@given(description=DESCRIPTIONS)
def test_a_description_equals_itself_and_what_json_makes_of_it(description):
    assert list(differences(description, json.loads(json.dumps(description)))) == []


def test_what_differs_is_named_with_both_values():
    found = {"seed": 0, "policy": {"name": "fixed", "options": {"factor": 2.0}}, "memory": True, "old": "x"}
    right = {"seed": 1, "policy": {"name": "fixed", "options": {"factor": 1.0, "rate": None}}, "memory": 1}
    assert list(differences(found, right)) == [
        "seed is 0; must be 1",
        "policy.options.factor is 2.0; must be 1.0",
        "policy.options.rate is nothing; must be None",
        "memory is True; must be 1",
        "old is 'x'; must be nothing",
    ]
    assert list(differences({"a": 1}, {"a": 1.0})) == []
    assert list(differences({"a": "1"}, {"a": 1})) == ["a is '1'; must be 1"]


COUNTED, DATA = Form("counts 0", "again", CountsError), Form("data 0", "again", DataError)


def test_only_the_entries_asked_for_are_compared_but_these_whole():
    DATA.check(Path("a"), {"spec": {"n": 1}, "more": 2}, {"spec": {"n": 1}})
    with pytest.raises(DataError) as raised:
        DATA.check(Path("a"), {"spec": {"n": 1, "more": 2}}, {"spec": {"n": 1}})
    assert str(raised.value) == "a: spec.more is 2; must be nothing; again"


def test_many_differences_are_counted():
    right = {"spec": dict.fromkeys("abcde", 1)}
    with pytest.raises(CountsError) as raised:
        COUNTED.check(Path("a"), {"spec": dict.fromkeys("abcde", 0)}, right)
    shown = "; ".join(f"spec.{name} is 0; must be 1" for name in "abc")
    assert str(raised.value) == f"a: {shown}; and 2 more entries; again"


def test_the_nearest_part_is_found_and_what_it_lacks_is_named():
    parts = [{"seed": seed, "split": split, "n": 100} for seed in (0, 1) for split in ("test", "validation")]
    for place, part in enumerate(parts):
        assert COUNTED.find(Path("a"), parts, part) == place
    with pytest.raises(CountsError, match=r"^a: n is 100; must be 200; again$"):
        COUNTED.find(Path("a"), parts, {"seed": 1, "split": "validation", "n": 200})
    with pytest.raises(DataError, match=r"^a: no parts; again$"):
        DATA.find(Path("a"), [], {"seed": 1})
