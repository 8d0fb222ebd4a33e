"""Entries of params.yaml that are like others."""

import pytest

from certsmooth.errors import ConfigError
from certsmooth.experiment.config import parse_params
from certsmooth.experiment.like import SECTIONS, written_out


def test_own_keys_replace_those_of_the_other_entry_whole():
    methods = {
        "c": {"like": "b", "y": {"v": 3}},
        "a": {"x": 1, "y": {"u": 1, "v": 2}},
        "b": {"like": "a", "x": 2, "z": 0},
    }
    found = written_out({"methods": methods, "seed": 0})
    b = {"x": 2, "y": {"u": 1, "v": 2}, "z": 0}
    assert found == {"methods": {"c": b | {"y": {"v": 3}}, "a": methods["a"], "b": b}, "seed": 0}
    assert list(found["methods"]) == ["c", "a", "b"]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_long_chain(section):
    entries = {f"e{i}": {"like": f"e{i + 1}", "x": i} for i in range(10_000)} | {"e10000": {"last": True}}
    member = {"member": "e10000"} if section == "datasets" else {}
    assert written_out({section: entries})[section] == {
        **{f"e{i}": {"last": True, "x": i} | member for i in range(10_000)},
        "e10000": {"last": True},
    }


def test_a_data_set_like_another_is_about_the_same_data():
    datasets = {"a": {}, "b": {"like": "a"}, "c": {"like": "b"}, "d": {"member": "m"}, "e": {"like": "d"}}
    datasets |= {"f": {"like": "b", "member": "n"}, "g": {"member": None}, "h": {"like": "g"}}
    found = written_out({"datasets": datasets})["datasets"]
    members = {name: entry.get("member") for name, entry in found.items()}
    assert members == {"a": None, "b": "a", "c": "a", "d": "m", "e": "m", "f": "n", "g": None, "h": "g"}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"digits": {}, "mnist": {"like": "digts"}}, ["datasets.mnist.like: unknown 'digts'", "did you mean 'digits'"]),
        ({"a": {"like": ["b"]}, "b": {}}, ["datasets.a.like: unknown ['b']"]),
        ({"a": {"like": None}}, ["datasets.a.like: unknown None"]),
        ({"a": {"like": "a"}}, ["datasets.a.like: a -> a"]),
        ({"x": {"like": "a"}, "a": {"like": "b"}, "b": {"like": "a"}}, ["datasets.b.like: a -> b -> a"]),
        ({"a": {"like": "b"}, "b": 3}, ["datasets.a.like: datasets.b holds int"]),
    ],
)
def test_mistakes_are_named(entries, words):
    with pytest.raises(ConfigError) as caught:
        parse_params({"datasets": entries}, name="params.yaml")
    assert str(caught.value).startswith("params.yaml: ")
    assert all(word in str(caught.value) for word in words)


def test_what_is_no_mapping_is_left_to_the_validation():
    content = {"datasets": [1], "methods": {"a": 3}, "tables": {"a": {"like": "b"}}}
    assert written_out(content) == content
