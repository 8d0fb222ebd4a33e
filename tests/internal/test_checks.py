"""Every integer and every number of the public interface: of any type, it is the plain number, or it is refused."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from fractions import Fraction
from typing import get_args, get_origin

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from certsmooth._internal.checks import (
    LARGEST_INTEGER,
    LARGEST_SEED,
    MAX_SAMPLES,
    MIN_ALPHA,
    check_alpha,
    check_integer,
    check_number,
    check_samples,
    check_seed,
)
from certsmooth._internal.options import option_types
from certsmooth._internal.registry import member, names
from certsmooth._internal.storage import decode_record
from certsmooth.errors import ConfigError
from certsmooth.science.attacks.pgd import PGD
from certsmooth.science.audit.break_certificates import BreakPlan
from certsmooth.science.certificates import renyi
from certsmooth.science.datasets import split_validation
from certsmooth.science.memory import shuffled_order
from certsmooth.science.models import ModelSpec, Normalisation, build
from certsmooth.science.sampling.sampler import Sampler, SamplingPlan
from certsmooth.science.training.recipe import Recipe

INTEGERS = {
    "int8": np.int8,
    "uint16": np.uint16,
    "int64": np.int64,
    "array": np.array,
    "tensor": torch.tensor,
    "byte tensor": lambda value: torch.tensor(value, dtype=torch.uint8),
}
NO_INTEGERS = {
    "bool": True,
    "NumPy bool": np.True_,
    "array of a bool": np.array(True),
    "tensor of a bool": torch.tensor(True),
    "float": 1.0,
    "float32": np.float32(1),
    "float tensor": torch.tensor(1.0),
    "fraction": Fraction(1),
    "text": "1",
    "none": None,
    "complex": 1 + 0j,
    "list": [1],
    "array of one": np.array([1]),
    "tensor of one": torch.tensor([1]),
}
NUMBERS = {
    "int": int,
    "int64": np.int64,
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "long double": np.longdouble,
    "array": np.array,
    "tensor": torch.tensor,
    "bfloat16 tensor": lambda value: torch.tensor(value, dtype=torch.bfloat16),
    "fraction": Fraction,
}
NO_NUMBERS = {
    "bool": True,
    "NumPy bool": np.True_,
    "tensor of a bool": torch.tensor(True),
    "text": "1",
    "none": None,
    "complex": 1 + 0j,
    "NumPy complex": np.complex64(1),
    "decimal": Decimal(1),
    "list": [1.0],
    "array of one": np.array([1.0]),
    "tensor of one": torch.tensor([1.0]),
    "not a number": float("nan"),
    "infinity": np.inf,
}


@given(st.integers(0, 127))
def test_an_integer_of_any_type_is_the_plain_one(value):
    for make in INTEGERS.values():
        found = check_integer("key", make(value), minimum=0)
        assert type(found) is int
        assert found == value


@pytest.mark.parametrize("name", NO_INTEGERS)
def test_what_is_no_integer_is_refused(name):
    with pytest.raises(ConfigError, match=r"^key: .*; must be a whole number"):
        check_integer("key", NO_INTEGERS[name])


@given(st.integers(0, 64))
def test_a_number_of_any_type_is_the_plain_one(value):
    for make in NUMBERS.values():
        found = check_number("key", make(value))
        assert type(found) is float
        assert found == value
    assert check_number("key", np.float32(0.1)) == float(np.float32(0.1)) != 0.1


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_is_no_number_is_refused(name):
    with pytest.raises(ConfigError, match=r"^key: .*; must be a finite number"):
        check_number("key", NO_NUMBERS[name])


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("5,000", "a whole number, without separators: 5000"),
        ("1 000 000", "a whole number, without separators: 1000000"),
        ("-5_000", "a whole number, without separators: -5000"),
        (" 12 ", "a whole number: 12"),
        ("1e4", "a whole number: 10000"),
        (1e4, "a whole number: 10000"),
        (np.float32(3), "a whole number: 3"),
        ("010", "a whole number: 10"),
        ("5,00", "a whole number, at least 1"),
        ("many", "a whole number, at least 1"),
        (2.5, "a whole number, at least 1"),
        (0, "a whole number, at least 1"),
        (float("inf"), "a whole number, at least 1"),
    ],
)
def test_an_integer_that_was_meant_is_said(value, right):
    with pytest.raises(ConfigError) as caught:
        check_integer("n", value, minimum=1)
    assert str(caught.value) == f"n: {value!r}; must be {right}"


def test_a_number_that_was_meant_is_said():
    with pytest.raises(ConfigError, match=r"^rate: '1e-3'; must be a finite number > 0: 0\.001$"):
        check_number("rate", "1e-3", above=0)
    with pytest.raises(ConfigError, match=r"^rate: 'low'; must be a finite number > 0$"):
        check_number("rate", "low", above=0)
    with pytest.raises(ConfigError, match=r"^alpha: '0.001'; must be in \(0, 1\), at least 1e-100: 0\.001$"):
        check_alpha("0.001")


@pytest.mark.parametrize(
    ("check", "least", "most"),
    [
        (lambda value: check_integer("key", value, minimum=-3), -3, LARGEST_INTEGER),
        (lambda value: check_samples("n", value), 1, MAX_SAMPLES),
        (lambda value: check_seed("seed", value), 0, LARGEST_SEED),
    ],
)
def test_limits_of_integers(check, least, most):
    assert (check(least), check(most)) == (least, most)
    for outside in (least - 1, most + 1):
        with pytest.raises(ConfigError, match=f"{outside}; must be"):
            check(outside)


def test_limits_of_alpha():
    assert check_alpha(MIN_ALPHA) == MIN_ALPHA
    assert type(check_alpha(np.float64(0.5))) is float
    for outside in (1e-120, 0, -0.1, 1, np.nan, True, "0.1", None):
        with pytest.raises(ConfigError, match=r"^alpha: .*must be in \(0, 1\), at least 1e-100"):
            check_alpha(outside)


# --- dataclasses

NEEDED = {
    "sigma": 0.5,
    "rate": 0.25,
    "iterations": 2,
    "epsilon": 0.5,
    "steps": 2,
    "weight": 1.0,
    "epochs": 3,
    "batch_size": 4,
    "learning_rate": 0.5,
    "n0": 10,
    "n": 20,
    "seed": 5,
}
"""Numbers that a dataclass has no default for; all of them are the same in single precision."""

GIVEN = {
    "size": 32,
    "crop": 16,
    "offset": 1.5,
    "lower": 0.25,
    "upper": 1.5,
    "step_size": 0.5,
    "levels": 64,
    "threshold": 0.75,
}
"""Numbers whose default is None, or one that single precision changes."""

FAMILIES = ("sigma", "certificates", "objectives", "attacks", "datasets", "denoisers")
DATACLASSES = [member(family, name) for family in FAMILIES for name in names(family)]
DATACLASSES += [Recipe, SamplingPlan, BreakPlan]


def kind_of(cls, field):
    """Return int, float, or another type of a field, without range and None."""
    kind = option_types(cls)[field.name]
    while get_args(kind) and get_origin(kind) is not tuple:
        kind = get_args(kind)[0]
    return kind


FIELDS = [
    pytest.param(cls, field, id=f"{cls.__module__.removeprefix('certsmooth.')}.{cls.__name__}.{field.name}")
    for cls in DATACLASSES
    for field in dataclasses.fields(cls)
    if field.init and kind_of(cls, field) in (int, float)
]


def values_of(cls):
    """Values for the fields without a default, and for the numbers of `GIVEN`."""
    known = {field.name: field for field in dataclasses.fields(cls) if field.init}
    values = {name: value for name, value in (NEEDED | GIVEN).items() if name in known}
    return values | ({"dataset": ""} if "dataset" in known else {})


def test_there_are_fields():
    assert len(FIELDS) > 70


@pytest.mark.parametrize(("cls", "field"), FIELDS)
def test_a_field_holds_the_plain_number(cls, field):
    values = values_of(cls)
    plain = cls(**values)
    value = getattr(plain, field.name)
    kind = kind_of(cls, field)
    assert type(value) is kind
    scalars = (np.int64, torch.tensor, np.array) if kind is int else (np.float64, np.longdouble, np.array)
    for scalar in scalars:
        other = cls(**(values | {field.name: scalar(value)}))
        assert repr(other) == repr(plain)
        assert hash(other) == hash(plain)
        assert type(getattr(other, field.name)) is kind
    for wrong in (True, np.True_, str(value), 1j, [value], *((float(value),) if kind is int else ())):
        with pytest.raises(ConfigError, match=rf"{field.name}: .*must be"):
            cls(**(values | {field.name: wrong}))


def test_an_infinite_rate_is_plain_as_well():
    policy = member("sigma", "border_distance")(sigma=0.5, rate=np.float32(np.inf), lower=0.5, upper=2)
    assert type(policy.rate) is float
    assert policy.rate == np.inf


def test_tuples_of_numbers_are_plain():
    recipe = Recipe(epochs=9, batch_size=4, learning_rate=0.1, schedule="step", milestones=(np.int64(3), np.int8(5)))
    assert repr(recipe.milestones) == "(3, 5)"
    normalisation = Normalisation((np.float64(0.5),), (1,))
    spec = ModelSpec("mlp", (np.int64(1), 8, 8), np.int64(10), normalisation)
    assert spec == decode_record(ModelSpec, json.dumps(dataclasses.asdict(spec)), source="", error=ConfigError)
    assert repr((spec.image_shape, spec.num_classes, normalisation.std)) == "((1, 8, 8), 10, (1.0,))"
    for wrong in (True, "0.5", np.nan):
        with pytest.raises(ConfigError, match=r"normalisation\.mean: .*must be a finite number"):
            Normalisation((wrong,), (1.0,))
    for wrong in (True, 8.0):
        with pytest.raises(ConfigError, match=r"image_shape: .*must be a whole number"):
            ModelSpec("mlp", (1, wrong, 8), 10)


# --- functions


def test_a_seed_of_any_type_gives_the_same():
    spec = ModelSpec("mlp", (4,), 2)
    for seed in (np.int64(3), torch.tensor(3), np.array(3)):
        weights = [build(spec, seed=s).network.state_dict().values() for s in (seed, 3)]
        assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
        np.testing.assert_array_equal(shuffled_order(50, seed=seed), shuffled_order(50, seed=3))
        assert SamplingPlan(1, 1, seed, "").streams().key(("x", 0)) == SamplingPlan(1, 1, 3, "").streams().key(("x", 0))


@pytest.mark.parametrize("seed", [True, 0.0, np.float64(0), torch.tensor(0.0), torch.tensor(False), "0", None, -1])
def test_what_is_no_seed_is_refused(seed):
    calls = (
        lambda: build(ModelSpec("mlp", (4,), 2), seed=seed),
        lambda: shuffled_order(5, seed=seed),
        lambda: SamplingPlan(1, 1, seed, ""),
        lambda: split_validation(None, fraction=0.5, seed=seed),
    )
    for call in calls:
        with pytest.raises(ConfigError, match=r"seed: .*must be a whole number"):
            call()


@pytest.mark.parametrize("value", [True, 2.0, "2", None])
def test_what_is_no_integer_is_refused_by_functions(value):
    plan = SamplingPlan(1, 1, 0, "")
    calls = {
        "num_classes": lambda: Sampler(torch.nn.Identity(), num_classes=value, plan=plan),
        "dimension": lambda: renyi.renyi_radius(0.9, 0.1, 0.5, 0.5, value),
        "n": lambda: shuffled_order(value, seed=0),
        "steps": lambda: PGD(epsilon=0.5, steps=value),
    }
    if value is not None:
        calls["batch_size"] = lambda: Sampler(torch.nn.Identity(), num_classes=2, plan=plan, batch_size=value)
    for key, call in calls.items():
        with pytest.raises(ConfigError, match=f"^{key}: .*must be a whole number"):
            call()
