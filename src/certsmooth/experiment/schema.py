"""The JSON schema of params.yaml and of the files of its library, and the reference page of all keys.

Both follow from the types of `certsmooth.experiment.config`, and from which members there are. No key is required: the
library completes params.yaml, and ``like`` an entry. ``python -m certsmooth.experiment.schema`` writes both, and the
page of recipes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from certsmooth._internal.external import LIBRARIES
from certsmooth._internal.registry import names
from certsmooth._internal.storage import atomic_write
from certsmooth.errors import ConfigError
from certsmooth.experiment import recipes
from certsmooth.experiment.config import KINDS, GivenTraining, Params, PublishedMethod, Short, read_params
from certsmooth.experiment.members import options_schema

SCHEMA, PAGE = Path("config", "schema.json"), Path("docs", "parameters.md")

_TYPES = {
    **{"DatasetParams": "datasets", "Training": "trainings", "GivenTraining": "trainings"},
    **{"Method": "methods", "PublishedMethod": "methods"},
}
_MEMBERS = {
    ("Training", "objective"): "objectives",
    ("Training", "policy"): "sigma",
    ("Training", "denoiser"): "denoisers",
    ("Method", "policy"): "sigma",
    ("Method", "certificate"): "certificates",
    ("AttackChoice", "attack"): "attacks",
    ("Certification", "stop"): "stopping",
}
"""The family that a member of a key belongs to."""

_ONE_VALUE = ("certificates", "attacks", "stopping", "denoisers")
"""Families whose options are one value each."""

_NAMES = {
    ("DatasetParams", "member"): "datasets",
    ("Training", "noise"): "noise",
    ("PublishedMethod", "dataset"): "datasets",
}
"""The family that a name belongs to."""

_NETWORKS = ("DatasetParams", "GivenTraining")
"""Types with the key ``architecture``."""

Schema = dict[str, Any]


def schema() -> Schema:
    """Return the JSON schema (2020-12)."""
    whole = _plain(TypeAdapter(Params).json_schema())
    types: dict[str, Schema] = whole.pop("$defs")
    short = _plain(TypeAdapter(Short).json_schema())["properties"]
    for name, section in _TYPES.items():
        text = f"An entry of {section}: in the keys that this one does not have, it is as that one."
        types[name]["properties"] = {"like": {"description": text, "type": "string"}, **types[name]["properties"]}
    for kind in KINDS.values():
        text = "A key of modifiers: the table is about the data set NAME-MODIFIER."
        types[kind.__name__]["properties"]["modifier"] = {"description": text, "type": "string"}
    for (name, key), family in _MEMBERS.items():
        types[family] = _member(types["Member"], family)
        _put(types[name]["properties"], key, {"$ref": f"#/$defs/{family}"})
    for (name, key), family in _NAMES.items():
        _put(types[name]["properties"], key, _one_of(family))
    types["Network"] = _network()
    for name in _NETWORKS:
        _put(types[name]["properties"], "architecture", {"anyOf": [_one_of("models"), {"$ref": "#/$defs/Network"}]})
    for name in ("Method", "MethodChanges"):  # fields of the certification, each as there
        _put(types[name]["properties"], "certification", {"$ref": "#/$defs/Certification"})
    del types["Member"]
    changes = {
        "description": "What differs: `all` on every data set, NAME on that one.",
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/DatasetParams"},
    }
    modifiers = {
        "description": "By name: what differs from a data set in the tables that say `modifier`.",
        "type": "object",
        "additionalProperties": changes,
    }
    first = {key: whole["properties"].pop(key) for key in ("dataset", "seed", "training_seeds")}
    properties = {**first, **short, **whole.pop("properties"), "modifiers": modifiers}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "certsmooth: params.yaml and config"}
    return {**head, **whole, "properties": properties, "$defs": dict(sorted(types.items()))}


def _one_of(family: str) -> Schema:
    return {"enum": list(names(family))}


def _network() -> Schema:
    """Return the schema of an architecture of another program; see `certsmooth._internal.external`."""
    told = {
        "import": "package.module:function, called with image_shape, num_classes and the options; the package must be "
        "one of `trusted`",
        "timm": "a model of timm, without its weights",
        "torchvision": "a model of torchvision.models that classifies, without its weights",
    }
    options = {"description": "further arguments", "type": "object", "additionalProperties": True}
    properties = {library: {"description": told[library], "type": "string"} for library in LIBRARIES}
    text = "A network of another program: one of the three, and its options (docs/networks.md)."
    whole: Schema = {"description": text, "type": "object", "additionalProperties": False}
    return {**whole, "properties": {**properties, "options": options}}


def _member(any_member: Schema, family: str) -> Schema:
    """Return the schema of a member of a family and its options."""
    properties = {**any_member["properties"], "name": {"enum": list(names(family))}}
    return {
        **any_member,
        "description": f"A member of certsmooth.science.{family}, and its options.",
        "properties": properties,
        "allOf": [
            {
                "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
                "then": {"properties": {"options": _options(family, name)}},
            }
            for name in names(family)
        ],
    }


def _options(family: str, name: str) -> Schema:
    """Return the schema of the options of a member, each one value or `_several`."""
    content: Schema = _plain(options_schema(family, name))
    if family in _ONE_VALUE:
        return content
    return {**content, "properties": {key: _several(value) for key, value in content["properties"].items()}}


def _several(value: Schema) -> Schema:
    """Return the schema of one value, or of a list of values, or of a value for each sigma."""
    told: Schema = {key: value[key] for key in ("description", "default") if key in value}
    bare = {key: each for key, each in value.items() if key not in told}
    forms = [bare, {"type": "array", "items": bare}, {"type": "object", "additionalProperties": bare}]
    return {**told, "anyOf": forms}


def _put(properties: Schema, key: str, value: Schema) -> None:
    """Let a key be of a type, or null where it may be; its description and default stay."""
    old = properties[key]
    nullable = {"type": "null"} in old.get("anyOf", ())
    kept = {name: old[name] for name in ("description", "default") if name in old}
    properties[key] = {**kept, **({"anyOf": [value, {"type": "null"}]} if nullable else value)}


def _plain(content: Any) -> Any:  # noqa: ANN401 - what JSON holds
    """Return a schema in which nothing is required, and each value may be of any of the types that fit."""
    if isinstance(content, list):
        return [_plain(each) for each in content]
    if not isinstance(content, dict):
        return content
    if "properties" in content:
        content = {**content, "additionalProperties": False}
    kept = {key: value for key, value in content.items() if key not in ("title", "required", "discriminator")}
    if "properties" in kept:  # names of keys, not of the schema's words
        kept["properties"] = {name: _plain(each) for name, each in content["properties"].items()}
    return {
        "anyOf" if key == "oneOf" else key: value if key == "properties" else _plain(value)
        for key, value in kept.items()
    }


def page() -> str:
    """Return the reference page, as Markdown."""
    whole = schema()
    lines = ["# All keys of params.yaml and config/", "", *_ABOUT]
    for place, described in _places(whole, "", whole):
        lines += ["", f"## {place or 'At the top'}", ""]
        if text := described.get("description"):
            lines += [text.replace("``", "`"), ""]
        lines += _table(whole, described["properties"])
    for family in dict.fromkeys([*_MEMBERS.values(), _NAMES["DatasetParams", "member"]]):
        for name in names(family):
            lines += ["", f"## Options of {family}: {name}", ""]
            properties = options_schema(family, name)["properties"]
            lines += _table(whole, properties) if properties else ["None."]
    return "\n".join(lines) + "\n"


def _table(whole: Schema, properties: Mapping[str, Schema]) -> list[str]:
    lines = ["| key | what it is | values | default |", "| --- | --- | --- | --- |"]
    for key, value in properties.items():
        default = f"`{json.dumps(value['default'])}`" if "default" in value else ""
        lines.append(f"| `{key}` | {_cell(value.get('description', ''))} | {_values(whole, value)} | {default} |")
    return lines


_ABOUT = (
    "Written by `make schema` from the types that check the files. How params.yaml and the library go together is in",
    "`config/README.md`. A member is `{name: ..., options: {...}}`; an option that is a list makes one training, or",
    "one certification, for each of its values, and one that is a mapping from sigma, as `{0.25: 0.5, 1.0: 1.0}`, has",
    "at each sigma the value that stands there.",
)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("``", "`")


def _places(whole: Schema, place: str, described: Schema, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, Schema]]:
    """Yield every mapping of keys with the path to it, each type once for a path that leads to it."""
    yield place, described
    for key, value in described["properties"].items():
        for suffix, name in _types_of(value):
            here = f"{place}.{key}{suffix}".lstrip(".")
            if name not in seen and "properties" in whole["$defs"][name] and not here.startswith("modifiers"):
                title = f"{here} ({_kind(name)})" if _kind(name) else here
                yield from _places(whole, title, whole["$defs"][name], (*seen, name))


def _kind(name: str) -> str | None:
    for cls, kind in ((PublishedMethod, "with certificates of others"), (GivenTraining, "with a given checkpoint")):
        if name == cls.__name__:
            return kind
    return next((f"kind: {kind}" for kind, cls in KINDS.items() if cls.__name__ == name), None)


def _types_of(value: Schema, suffix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the types that a value can have, each with what follows its key: ``.NAME`` in a mapping of names."""
    if "$ref" in value:
        yield suffix, value["$ref"].rpartition("/")[2]
    for each in value.get("anyOf", ()):
        yield from _types_of(each, suffix)
    if isinstance(value.get("additionalProperties"), Mapping):
        yield from _types_of(value["additionalProperties"], f"{suffix}.NAME")
    if isinstance(value.get("items"), Mapping):
        yield from _types_of(value["items"], suffix)


_WORDS = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}


def _values(whole: Schema, value: Schema) -> str:
    """Return what a key can hold, in words."""
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    if len(value.get("anyOf", ())) > len(_WORDS):
        by_sigma = any(each.get("type") == "object" for each in value["anyOf"])
        also = "a list of these, or a mapping from sigma to one of these" if by_sigma else "or a list of these"
        return f"number, text, true, false or null, {also}"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_values(whole, each) for each in value["anyOf"]))
    if "$ref" in value:
        return "see below"
    if value.get("type") == "array":
        return f"list of {_values(whole, value['items'])}" if "items" in value else "list"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"mapping of names: {_values(whole, inner)}" if isinstance(inner, dict) else "mapping"
    return _WORDS.get(value.get("type", ""), "any")


def main() -> None:
    """Write the schema and the pages, in the root of the repository.

    Raises:
        ConfigError: this is not the root.
    """
    if not SCHEMA.parent.is_dir() or not PAGE.parent.is_dir():
        raise ConfigError(f"{Path.cwd()}: no folders {SCHEMA.parent} and {PAGE.parent}; must be the repository's root")
    params = read_params(Path("params.yaml"))
    for path, text in (
        (SCHEMA, json.dumps(schema(), indent=2) + "\n"),
        (PAGE, page()),
        (recipes.PAGE, recipes.page(params, recipes.PAGE.with_suffix(".csv"))),
    ):
        with atomic_write(path) as file:
            file.write(text.encode())


if __name__ == "__main__":
    main()
