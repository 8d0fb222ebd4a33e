"""Entries of params.yaml that say ``like: NAME``: what they do not say is as in another entry of their section.

Not YAML's anchors and merge keys: a program that changes one value (`dvc exp run --set-param`) cannot write those.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from certsmooth.errors import ConfigError, nearest

SECTIONS = ("datasets", "trainings", "methods")
KEY = "like"


def written_out(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of params.yaml with every ``like`` replaced by what it stands for.

    The keys of an entry replace those of the other one whole. That one may say ``like`` as well. What is not a mapping
    is left for the validation to refuse.

    Args:
        content: the sections by name; entries of `SECTIONS` may have the key ``like``.

    Raises:
        ConfigError: no such entry, or an entry that is like itself.
    """
    return {
        section: _section(section, entries) if section in SECTIONS and isinstance(entries, Mapping) else entries
        for section, entries in content.items()
    }


def _section(section: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for name in entries:
        path, seen = [name], {name}
        while path[-1] not in done and (other := _like(section, entries, path[-1])) is not None:
            if other in seen:
                chain = " -> ".join([*path[path.index(other) :], other])
                raise ConfigError(f"{section}.{path[-1]}.{KEY}: {chain}; must end at an entry without {KEY!r}")
            path.append(other)
            seen.add(other)
        for each in reversed(path):
            if each not in done:
                done[each] = _merged(section, entries, each, done)
    return {name: done[name] for name in entries}


def _like(section: str, entries: Mapping[str, Any], name: str) -> str | None:
    """Return the entry that an entry is like, if it is like one."""
    own = entries[name]
    if not isinstance(own, Mapping) or KEY not in own:
        return None
    other = own[KEY]
    if not isinstance(other, str) or other not in entries:
        raise ConfigError(f"{section}.{name}.{KEY}: unknown {other!r}; {nearest(str(other), map(str, entries))}")
    return other


def _merged(section: str, entries: Mapping[str, Any], name: str, done: Mapping[str, Any]) -> object:
    if (other := _like(section, entries, name)) is None:
        return entries[name]
    if not isinstance(done[other], Mapping):
        kind = type(done[other]).__name__
        raise ConfigError(f"{section}.{name}.{KEY}: {section}.{other} holds {kind}; must be a mapping of keys")
    # A copy: what is written as YAML again must not hold one part in two places, as an alias.
    return {**deepcopy(done[other]), **{key: value for key, value in entries[name].items() if key != KEY}}
