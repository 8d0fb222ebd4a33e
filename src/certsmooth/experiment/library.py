"""params.yaml and the library that it chooses from, put together.

The library is every ``*.yaml`` under the folder ``config`` beside params.yaml. Such a file has the form of params.yaml
and holds entries of its sections; which file holds an entry does not matter, and no two may hold the same one. What
params.yaml says of an entry is merged into it value by value, and wins: a mapping is merged with the library's,
anything else, a list too, takes the place of what the library has. Entries that are like it (`experiment.like`) see the
result. An entry of params.yaml that says ``like``, or that the library lacks, is its own whole.

Four keys of params.yaml are short for longer ones: ``sigmas``, ``n0``, ``n`` and ``alpha`` are those of the data set
that ``dataset`` names, and of the entries that tables take for it. The longer key wins where both are given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certsmooth.errors import ConfigError, nearest
from certsmooth.experiment.like import KEY, SECTIONS, at, merged, written_out
from certsmooth.experiment.strict_yaml import load_yaml

FOLDER = "config"
SHORT = {"sigmas": ("sigmas",), **{name: ("certification", name) for name in ("n0", "n", "alpha")}}
"""Where in the entry of the data set the short keys of params.yaml belong."""

_OF_ENTRIES = (*SECTIONS, "tables", "modifiers")
_WHOLE = ("toy", "pictures", "high_dimension")


@dataclass(frozen=True)
class Content:
    """What params.yaml and its library say.

    Attributes:
        name: of params.yaml, for messages.
        own: what params.yaml says.
        library: what the library says.
        files: the file of each entry of the library, by its key: ``methods.cohen``.
    """

    name: str
    own: Mapping[str, Any]
    library: Mapping[str, Any]
    files: Mapping[str, str]

    def whole(self) -> dict[str, Any]:
        """Return both as one params.yaml without ``like`` and short keys would say them.

        Raises:
            ConfigError: an entry is like none; the message names the file.
        """
        try:
            return written_out(*_long(self.own, self.library))
        except ConfigError as error:
            raise ConfigError(self.located(str(error))) from error

    def located(self, message: str) -> str:
        """Return a message that starts with a key after the name of the file that says what stands there."""
        key = message.removeprefix("missing key ").removeprefix("unknown key ")
        if (entry := _longest(self.files, key)) is None and message.startswith("missing key "):
            section = key.split(".")[0]
            name, known = _longest(at(self.own, section), key.removeprefix(f"{section}.")), self.library.get(section)
            if name is not None and known:  # a name of the library misspelt, or an entry that lacks most of its keys
                return f"{self.name}: {section}.{name}: incomplete, and not in {FOLDER}/; {nearest(name, known)}"
        is_own = entry is None or _says(self.own, key)
        return f"{self.name if is_own else self.files[entry or '']}: {message}"


@contextmanager
def naming_files(path: Path) -> Iterator[None]:
    """Name the file in errors about what params.yaml at a path, and its library, say.

    Raises:
        ConfigError: any that is raised within, after the name of the file.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(read_content(path).located(str(error))) from error


def _longest(names: object, key: str) -> str | None:
    """Return the longest of the names that a key is, or starts with; names may hold dots."""
    found = [name for name in map(str, names if isinstance(names, Mapping) else ()) if _rest(name, key) is not None]
    return max(found, key=len, default=None)


def _rest(name: str, key: str) -> str | None:
    """Return what follows a name that a key starts with: the key may be the start of a message."""
    rest = key.removeprefix(name)
    return rest.removeprefix(".") if key.startswith(name) and rest[:1] in ("", ".", ":", ";", " ") else None


def _says(content: object, key: str) -> bool:
    """Return whether content has a value at the key that a message starts with."""
    if not isinstance(content, Mapping):
        return True
    if (name := _longest(content, key)) is None:
        return key[:1] in ("", ":", ";", " ")
    return _says(next(value for each, value in content.items() if str(each) == name), _rest(name, key) or "")


def _long(own: Mapping[str, Any], library: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the library, and what params.yaml says with the long keys in the place of the short ones.

    A data set of params.yaml that is like another is then one of the library: the short keys change single values of
    what it is like, as they do of any other.
    """
    rest = {key: value for key, value in own.items() if key not in SHORT}
    if all(own.get(key) is None for key in SHORT):
        return library, rest
    known, mine = library.get("datasets"), rest.get("datasets")
    if not (names := _about(own, library)):
        return library, rest
    for name in names:
        entry = at(mine, name)
        changes: dict[str, Any] = {}
        for key, place in SHORT.items():
            value = own.get(key) if at(entry, *place) is None else at(entry, *place)
            if value is not None:
                for part in reversed(place):
                    value = {part: value}
                changes = merged(changes, value)
        if isinstance(entry, Mapping) and KEY in entry:
            known, mine = {**(known or {}), name: entry}, {**(mine or {}), name: changes}
        else:
            mine = merged(mine, {name: merged(changes, entry or {})})
    return (library if known is None else {**library, "datasets": known}), {**rest, "datasets": mine}


def _about(own: Mapping[str, Any], library: Mapping[str, Any]) -> list[str]:
    """Return the data set that params.yaml chooses, and those that tables take for it."""
    chosen = own.get("dataset")
    both = {name: merged(library.get(name, {}), own.get(name, {})) for name in ("datasets", "tables")}
    if not isinstance(chosen, str) or not all(isinstance(section, Mapping) for section in both.values()):
        return []  # left for the validation to refuse
    taken = [at(table, "settings", chosen, "dataset") for table in both["tables"].values()]
    return [name for name in dict.fromkeys([chosen, *map(str, taken)]) if name in both["datasets"]]


def read_content(path: Path) -> Content:
    """Read params.yaml and the library beside it.

    Args:
        path: of params.yaml; without a folder ``config`` beside it the library is empty.

    Raises:
        ConfigError: a file is missing or not YAML or no mapping, or an entry is in two files of the library; names
            the file.
    """
    own = _read(path)
    library: dict[str, Any] = {}
    files: dict[str, str] = {}
    for file in sorted((path.parent / FOLDER).rglob("*.yaml")):
        for section, content in _read(file).items():
            _add(library, files, section, content, str(file))
    return Content(str(path), own, library, files)


def _add(library: dict[str, Any], files: dict[str, str], section: str, content: object, file: str) -> None:
    """Add a section of a file to the library."""
    if section in _WHOLE:
        entries, target = {section: content}, library
    elif section not in _OF_ENTRIES:
        raise ConfigError(f"{file}: {section}: not of the library; {nearest(str(section), (*_OF_ENTRIES, *_WHOLE))}")
    elif isinstance(content, dict):
        entries, target = content, library.setdefault(section, {})
    else:
        raise ConfigError(f"{file}: {section}: {content!r}; must be a mapping of names")
    for name, entry in entries.items():
        key = section if section in _WHOLE else f"{section}.{name}"
        if key in files:
            raise ConfigError(f"{file}: {key}: in {files[key]} as well; must be in one file")
        files[key], target[name] = file, entry


def _read(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds {type(content).__name__}; must be a mapping of keys")
    return content
