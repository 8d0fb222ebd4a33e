"""Entries of params.yaml that are made from others.

An entry that says ``like: NAME`` is in what it does not say as another entry of its section; changes of single values
are merged in (`certsmooth.experiment.library`); a table with a ``modifier`` is about a data set that differs from one.

Not YAML's anchors and merge keys: a program that changes one value (`dvc exp run --set-param`) cannot write those.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from graphlib import CycleError, TopologicalSorter
from typing import Any

from certsmooth.errors import ConfigError, nearest

SECTIONS = ("datasets", "trainings", "methods")
KEY = "like"


def written_out(content: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return content with changes merged into it, and with every ``like`` replaced by what it stands for.

    The keys of an entry replace those of the other one whole. That one may say ``like`` as well. Changes of an entry
    are merged into what it then holds, value by value. What is not a mapping is left for the validation to refuse.

    A data set that is like another is about the same data: its ``member``, if it says none, is the other's.

    Args:
        content: the sections by name; entries of `SECTIONS` may have the key ``like``.
        changes: likewise; an entry that says ``like``, or that the content lacks, is a whole one.

    Raises:
        ConfigError: no such entry, or an entry that is like itself.
    """
    changes = {} if changes is None else changes
    both = {**content, **{key: merged(content.get(key), value) for key, value in changes.items()}}
    return {
        section: _section(section, content.get(section, {}), changes.get(section, {}))
        if section in SECTIONS and isinstance(entries, Mapping)
        else entries
        for section, entries in both.items()
    }


def merged(content: Any, changes: Any) -> Any:  # noqa: ANN401 - what YAML holds
    """Return content with changes merged in value by value where both are mappings; else the changes."""
    # Copies: what is written as YAML again must not hold one part in two places, as an alias.
    if not (isinstance(content, Mapping) and isinstance(changes, Mapping)):
        return deepcopy(changes)
    return {
        **{key: value if key in changes else deepcopy(value) for key, value in content.items()},
        **{key: merged(content.get(key), value) for key, value in changes.items()},
    }


def at(content: object, *path: object) -> object:
    """Return the value at a path; None where there is none."""
    for part in path:
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def modified(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return content without ``modifiers``, with the data sets that tables with a ``modifier`` are about.

    A table with the modifier M is about the data set NAME-M, where NAME is what ``dataset`` says: the entry NAME, into
    which the values of ``modifiers.M.all`` and of ``modifiers.M.NAME`` are merged. A data set that the ``settings`` of
    the table name, and an entry NAME-M that is there, come first.

    Raises:
        ConfigError: there is no such modifier.
    """
    content = dict(content)
    modifiers, name = content.pop("modifiers", {}), content.get("dataset")
    _check_modifiers(modifiers, content.get("datasets"))
    tables, entry = content.get("tables"), at(content, "datasets", name) if isinstance(name, str) else None
    for key, table in tables.items() if isinstance(tables, Mapping) else ():
        if not isinstance(table, Mapping) or "modifier" not in table:
            continue
        shown = {each: value for each, value in table.items() if each != "modifier"}
        changes = _changes(f"tables.{key}.modifier", table["modifier"], modifiers, str(name))
        if isinstance(entry, Mapping):  # or else the validation refuses what `dataset` says
            copy = f"{name}-{table['modifier']}"
            shown = merged({"settings": {name: {"dataset": copy}}}, shown)
            if at(shown, "settings", name, "dataset") == copy and copy not in content["datasets"]:
                made = merged({**entry, "member": entry.get("member") or name}, changes)
                content["datasets"] = {**content["datasets"], copy: made}
        content["tables"] = {**content["tables"], key: shown}
    return content


def _check_modifiers(modifiers: object, datasets: object) -> None:
    if not isinstance(modifiers, Mapping):
        raise ConfigError(f"modifiers: {modifiers!r}; must be a mapping of names")
    known = ["all", *(datasets if isinstance(datasets, Mapping) else ())]
    for name, modifier in modifiers.items():
        if not isinstance(modifier, Mapping):
            raise ConfigError(f"modifiers.{name}: {modifier!r}; must be a mapping of 'all' and names of data sets")
        for key, changes in modifier.items():
            if key not in known:
                raise ConfigError(f"modifiers.{name}: unknown {key!r}; {nearest(str(key), map(str, known))}")
            if not isinstance(changes, Mapping):
                raise ConfigError(f"modifiers.{name}.{key}: {changes!r}; must be a mapping of keys")


def _changes(key: str, name: object, modifiers: Mapping[str, Any], dataset: str) -> object:
    """Return what a modifier changes in a data set."""
    if not isinstance(name, str) or name not in modifiers:
        raise ConfigError(f"{key}: unknown {name!r}; {nearest(str(name), map(str, modifiers))}")
    return merged(modifiers[name].get("all", {}), modifiers[name].get(dataset, {}))


def _section(section: str, given: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    whole = {name: entry for name, entry in changes.items() if name not in given or _says_like(entry)}
    entries, rest = {**given, **whole}, {name: entry for name, entry in changes.items() if name not in whole}
    others = {name: _like(section, entries, name) for name in entries}
    before = {name: () if other is None else (other,) for name, other in others.items()}
    done: dict[str, Any] = {}
    try:
        for name in TopologicalSorter(before).static_order():
            entry = _as_other(section, entries, name, done)
            done[name] = merged(entry, rest[name]) if name in rest else entry
    except CycleError as error:
        *chain, last = reversed(error.args[1])
        found = " -> ".join([*chain, last])
        raise ConfigError(f"{section}.{chain[-1]}.{KEY}: {found}; must end at an entry without {KEY!r}") from error
    return {name: done[name] for name in entries}


def _says_like(entry: object) -> bool:
    return isinstance(entry, Mapping) and KEY in entry


def _like(section: str, entries: Mapping[str, Any], name: str) -> str | None:
    """Return the entry that an entry is like, if it is like one."""
    if not _says_like(entries[name]):
        return None
    other = entries[name][KEY]
    if not isinstance(other, str) or other not in entries:
        raise ConfigError(f"{section}.{name}.{KEY}: unknown {other!r}; {nearest(str(other), map(str, entries))}")
    return other


def _as_other(section: str, entries: Mapping[str, Any], name: str, done: Mapping[str, Any]) -> object:
    if (other := _like(section, entries, name)) is None:
        return entries[name]
    if not isinstance(done[other], Mapping):
        kind = type(done[other]).__name__
        raise ConfigError(f"{section}.{name}.{KEY}: {section}.{other} holds {kind}; must be a mapping of keys")
    base = deepcopy(done[other])
    if section == "datasets" and base.get("member") is None:
        base["member"] = other
    return base | {key: value for key, value in entries[name].items() if key != KEY}
