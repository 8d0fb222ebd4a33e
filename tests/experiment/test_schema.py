"""The JSON schema of the configuration and the page of its keys: current, true, and complete."""

import json
import shutil
from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints

import jsonschema
import pytest
import yaml

from certsmooth._internal.registry import names
from certsmooth.errors import ConfigError
from certsmooth.experiment import recipes, schema
from certsmooth.experiment.config import Params, Short, parse_params, read_params
from certsmooth.experiment.library import read_content
from factories import ROOT, SMALL, changed, shipped_content, small_content

SHIPPED = json.loads((ROOT / "config" / "schema.json").read_text())


def page_of_recipes():
    return recipes.page(read_params(ROOT / "params.yaml"), ROOT / "docs" / "recipes.csv")


def test_the_files_are_current():
    right = "must be what `make schema` writes"
    assert schema.schema() == SHIPPED, right
    assert (ROOT / "docs" / "parameters.md").read_text() == schema.page(), right
    assert (ROOT / "docs" / "recipes.md").read_text() == page_of_recipes(), right


def test_a_recipe_says_what_runs():
    changes = {"gaussian-ds": {"recipe": {"epochs": 7, "milestones": [3]}}}
    params = parse_params(changed(shipped_content(), "datasets.cifar10.trainings", changes))
    for entry, key, value in (
        ("trainings.gaussian-ds", "recipe.epochs", "7"),
        ("trainings.gaussian-ds", "recipe.momentum", "0.9"),
        ("trainings.gaussian-ds", "recipe.milestones", "3"),
        ("trainings.gaussian-ds", "policy.iterations", "1"),
        ("trainings.smoothadv", "objective.warmup_epochs", "10"),
        ("methods.cohen-ds", "policy.variant", "published_program"),
        ("", "certification.n", "100000"),
        ("", "channels_last", "false"),
    ):
        assert recipes.ours(params, "cifar10", entry, key) == value
    by_sigma = recipes.ours(params, "imagenet", "trainings.smoothadv", "objective.epsilon")
    assert by_sigma == "0.25: 0.5; 0.5: 1.0; 1.0: 1.0"


def test_it_is_written_where_the_repository_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="must be the repository's root"):
        schema.main()
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "config" / "schema.json").unlink()
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "recipes.csv", tmp_path / "docs")
    schema.main()
    for name in ("config/schema.json", "docs/parameters.md", "docs/recipes.md"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text()


@pytest.mark.slow
def test_every_file_of_the_configuration_names_the_schema_and_fits_it():
    for path in (ROOT / "params.yaml", *(ROOT / "config").rglob("*.yaml")):
        text = path.read_text()
        name = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / name).resolve() == ROOT / "config" / "schema.json"
        jsonschema.validate(yaml.safe_load(text), SHIPPED)


@pytest.mark.parametrize("make", [small_content, shipped_content, lambda: yaml.safe_load(SMALL)])
def test_what_is_valid_fits(make):
    jsonschema.Draft202012Validator.check_schema(SHIPPED)
    jsonschema.validate(make(), SHIPPED)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sed",), 1),
        (("n",), "5,000"),
        (("datasets", "digits", "certification", "nn"), 3),
        (("datasets", "digits", "architecture"), "smal_cnn"),
        (("datasets", "digits", "sigmas"), 0.25),
        (("trainings", "gaussian", "objective", "name"), "gausian"),
        (("trainings", "gaussian", "policy", "name"), "gaussian"),
        (("methods", "cohen", "certificate", "name"), "fixed"),
        (("methods", "cohen", "noise"), "gaussian"),
        (("methods", "cohen", "memory"), "yes"),
        (("tables", "table1", "kind"), "certifed"),
        (("tables", "table1", "shuffles"), 3),
        (("tables", "promises", "predict", "m"), 3),
        (("modifiers", "half", "all", "sigma"), 3),
    ],
)
def test_a_mistake_of_structure_fits_neither_the_schema_nor_the_check(path, value):
    content = small_content() | {"modifiers": {"half": {"all": {}}}}
    wrong = changed(content, path, value)
    assert not jsonschema.Draft202012Validator(SHIPPED).is_valid(wrong)
    if path[0] not in ("n", "modifiers"):  # of params.yaml over a library, and of data sets that are made
        with pytest.raises(ConfigError):
            parse_params(wrong)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("trainings", "smoothadv", "objective", "options", "stepps"), 2),
        (("trainings", "smoothadv", "objective", "options", "steps"), "two"),
        (("methods", "cohen-ds", "policy", "options", "iterations"), [1, -2]),
        (("methods", "cohen", "certificate", "options"), {"split": 0.5}),
        (("tables", "empirical", "attacks", "smoothed", "attack", "options", "steps"), [1, 2]),
        (("tables", "empirical", "attacks", "smoothed", "attack", "options", "steps"), {"0.25": 2}),
        (("trainings", "smoothadv", "objective", "options", "steps"), {"0.25": "two"}),
        (("trainings", "smoothadv", "objective", "options", "steps"), {"0.25": [2]}),
        (("datasets", "digits", "recipe", "epochs"), {"0.25": 2}),
    ],
)
def test_a_mistake_in_the_options_of_a_member_does_not_fit(path, value):
    wrong = changed(small_content(), path, value)
    assert not jsonschema.Draft202012Validator(SHIPPED).is_valid(wrong)


def test_a_value_for_each_sigma_fits():
    as_json = changed(small_content(), ("trainings", "smoothadv", "objective", "options", "steps"), {"0.25": 2})
    as_yaml = changed(small_content(), ("trainings", "smoothadv", "objective", "options", "steps"), {0.25: 2})
    for content in (as_json, as_yaml):
        jsonschema.validate(content, SHIPPED)
    assert parse_params(as_json) == parse_params(as_yaml)


def dataclasses_of(cls, seen):
    """Every dataclass that a type leads to."""
    if is_dataclass(cls) and cls not in seen:
        seen.add(cls)
        for hint in get_type_hints(cls).values():
            dataclasses_of(hint, seen)
    for argument in get_args(cls):
        dataclasses_of(argument, seen)
    return seen


def test_every_key_is_described_once_in_the_schema_and_on_the_page():
    types = {cls.__name__: cls for cls in dataclasses_of(Params, {Short})}
    del types["ExternalArchitecture"]  # params.yaml has a key for each library: `Network`
    assert all(f"| `{key}` | " in schema.page() for key in SHIPPED["$defs"]["Network"]["properties"])
    page = schema.page()
    for name, cls in types.items():
        described = SHIPPED["$defs"].get(name) or SHIPPED
        if name != "Member":  # each family has its own
            assert {field.name for field in fields(cls)} <= set(described["properties"])
        for field in fields(cls):
            assert f"| `{field.name}` | " in page
            assert name == "Member" or described["properties"][field.name]["description"], (name, field.name)
        assert "Attributes:" not in cls.__doc__


@pytest.mark.parametrize("family", ["objectives", "sigma", "certificates", "attacks"])
def test_editors_know_the_members(family):
    assert SHIPPED["$defs"][family]["properties"]["name"]["enum"] == list(names(family))


def test_the_shipped_params_yaml_says_what_its_keys_mean():
    own = read_content(ROOT / "params.yaml").own
    assert set(own) <= set(SHIPPED["properties"])
