"""Members from mappings, and the JSON schema of their options: both say the same of every value."""

from __future__ import annotations

import dataclasses
import math
from typing import get_args, get_origin

import jsonschema
import pytest

from certsmooth._internal.options import make, option_descriptions, option_types
from certsmooth._internal.registry import member, names
from certsmooth.errors import ConfigError
from certsmooth.experiment.members import dataclass_schema, options_schema
from certsmooth.science.training.recipe import Recipe

FAMILIES = ("attacks", "certificates", "datasets", "noise", "objectives", "sigma")
MEMBERS = [(family, name) for family in FAMILIES for name in names(family)]
GIVEN = {"sigma": {"sigma": 0.5}, "attacks": {"epsilon": 0.5}}
NEEDED = {"iterations": 2, "rate": 0.3, "steps": 3, "weight": 1.0, "epsilon": 0.5, "name": "KMNIST"}
"""Options without a default."""

PROBES = (True, None, "text", "pgd", -1, 0, 1, 2, 256, -0.5, 0.25, 1.5, [1], [], {}, 1e9)
"""Tried for every option."""


def options_of(family, name):
    cls = member(family, name)
    types = {key: kind for key, kind in option_types(cls).items() if key not in GIVEN.get(family, {})}
    needed = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING and field.init}
    return cls, types, {key: NEEDED[key] for key in needed if key in types}


def accepted_by_schema(schema, options):
    return jsonschema.Draft202012Validator(schema).is_valid(options)


def is_float(kind):
    while get_args(kind) and get_origin(kind) is not tuple:
        kind = get_args(kind)[0]
    return kind is float


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_the_schema_is_valid_and_describes_every_option(family, name):
    cls, types, _ = options_of(family, name)
    schema = options_schema(family, name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(types)
    assert all(schema["properties"][key]["description"] for key in types), f"say them under Attributes: of {cls}"


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_what_the_schema_refuses_the_member_refuses_and_the_other_way_round(family, name):
    """Up to what follows from several options at once, or from another member's name: the member alone knows that."""
    cls, types, needed = options_of(family, name)
    schema = options_schema(family, name)
    for key in types:
        for value in PROBES:
            options = needed | {key: value}
            try:
                make(cls, options, "key", **GIVEN.get(family, {}))
                accepted = True
            except ConfigError as error:
                assert str(error).startswith("key: ")
                accepted = not str(error).startswith(f"key: {key}: ") or ("unknown" in str(error) and key == "attacker")
                accepted = accepted or "must be in [lower, upper]" in str(error) or "must be below upper" in str(error)
            # JSON has 2 for 2.0, and no number is too large.
            if isinstance(value, float) and value.is_integer() and not is_float(types[key]):
                continue
            assert accepted_by_schema(schema, options) == accepted, (key, value)


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_an_unknown_or_missing_option_is_refused_by_both(family, name):
    cls, _, needed = options_of(family, name)
    schema = options_schema(family, name)
    with pytest.raises(ConfigError, match=r"^key: unknown key 'nothing'; "):
        make(cls, needed | {"nothing": 1}, "key", **GIVEN.get(family, {}))
    assert not accepted_by_schema(schema, needed | {"nothing": 1})
    for key in needed:
        rest = {other: value for other, value in needed.items() if other != key}
        with pytest.raises(ConfigError, match=f"^key: missing key '{key}'$"):
            make(cls, rest, "key", **GIVEN.get(family, {}))
        assert not accepted_by_schema(schema, rest)
    assert accepted_by_schema(schema, needed)


def test_what_the_experiment_gives_is_no_option():
    for family, given in GIVEN.items():
        for name in names(family):
            assert not set(given) & set(options_schema(family, name)["properties"])


def test_a_schema_in_full():
    assert options_schema("objectives", "stability") == {
        "additionalProperties": False,
        "properties": {"weight": {"description": "lambda, at least 0.", "minimum": 0, "type": "number"}},
        "required": ["weight"],
        "type": "object",
    }
    assert options_schema("certificates", "cohen") == {
        "additionalProperties": False,
        "properties": {},
        "type": "object",
    }
    recipe = dataclass_schema(Recipe)
    assert recipe["required"] == ["epochs", "batch_size", "learning_rate"]
    assert recipe["properties"]["milestones"]["items"] == {"minimum": 1, "type": "integer"}
    assert recipe["properties"]["augmentation"]["items"] == {"enum": ["resized_crop", "crop", "flip"], "type": "string"}


def test_lists_are_tuples():
    recipe = make(
        Recipe,
        {"epochs": 9, "batch_size": 4, "learning_rate": 0.1, "schedule": "step", "milestones": [3, 5]},
        "recipe",
    )
    assert recipe.milestones == (3, 5)
    with pytest.raises(ConfigError, match=r"^recipe: milestones: 3; must be a list$"):
        make(Recipe, {"epochs": 9, "batch_size": 4, "learning_rate": 0.1, "milestones": 3}, "recipe")


def test_descriptions_are_those_of_the_docstring_nearest_by():
    told = option_descriptions(member("attacks", "pgd"))
    assert told["steps"] == "T."  # of PGD
    assert told["clamp"] == "whether pixels are kept in [0, 1]; false for data that are no images."  # of its base
    told = option_descriptions(member("sigma", "border_distance"))
    assert told["rate"] == "r > 0, per unit of l2 distance, or infinite."


def test_infinity_is_a_rate():
    options = {"rate": math.inf, "lower": 0.5, "upper": 2.0}
    assert make(member("sigma", "border_distance"), options, "key", sigma=0.5).rate == math.inf
    with pytest.raises(ConfigError, match=r"^key: rate: -inf; must be a number > 0$"):
        make(member("sigma", "border_distance"), options | {"rate": -math.inf}, "key", sigma=0.5)
    with pytest.raises(ConfigError, match=r"^key: rate: inf; must be a finite number >= 0$"):
        make(member("sigma", "nearest_neighbour"), {"rate": math.inf}, "key", sigma=0.5)
