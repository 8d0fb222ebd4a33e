"""YAML as plain data: no tag that builds an object, no key twice, nothing that stands for something else.

PyYAML's safe loader runs no code, but takes the last of several equal keys without a word, turns a few hundred bytes
of aliases into more than the memory holds, and ends in errors of Python where a value is not what its tag says.
Aliases and merge keys are refused: programs that change one value of a file (DVC's experiments) cannot write them.
Numbers are decimal, as those programs write them by YAML 1.2: 1e-05 is a number, and 010 and 1:30 are text. PyYAML,
which goes by YAML 1.1, takes the first for text, and the others for 8 and 90.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from contextlib import suppress
from itertools import takewhile
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode

from certsmooth.errors import ConfigError
from certsmooth.experiment.like import SECTIONS

MOST_CHARACTERS = 2**20
"""Of a file; the configuration that certsmooth ships has 25 thousand."""

_DEEPEST = 50
_LARGEST = 2**63
_MERGE, _INT, _FLOAT = (f"tag:yaml.org,2002:{kind}" for kind in ("merge", "int", "float"))
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
_DECIMAL = re.compile(
    r"""[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9_]*)? | \.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?\Z
    | [-+]?\.(?:inf|Inf|INF)\Z | \.(?:nan|NaN|NAN)\Z""",
    re.VERBOSE,
)
_GROUP = re.compile(r"[0-9]{3}\Z")
_INSTEAD = f"; must be written out, or in an entry of {', '.join(SECTIONS)} be 'like: NAME'"


def load_yaml(text: str) -> object:
    """Return the content of a YAML document: mappings, lists, text, numbers, booleans, dates and null.

    Args:
        text: one document.

    Raises:
        ConfigError: not YAML, or more than plain data of a reasonable size; the message names line and column.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{len(text)} characters; must be at most {MOST_CHARACTERS}")
    try:
        loader = _Loader(text)
        try:
            content: object = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}") from error
    return content


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, whose every complaint about a value says where it stands, with decimal numbers only."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._levels = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:  # noqa: ANN401 - as PyYAML's
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise ComposerError(None, None, f"the alias *{event.anchor}{_INSTEAD}", event.start_mark)
        if self._levels == _DEEPEST:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            problem = f"nested too deeply; must be at most {_DEEPEST} levels deep"
            raise ComposerError(None, None, problem, event.start_mark)
        self._levels += 1
        node = super().compose_node(parent, index)
        self._levels -= 1
        if isinstance(node, MappingNode):
            _check_keys(node)
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:  # noqa: ANN401 - as PyYAML's
        try:
            content = super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise _refusal(f"a value that is no {node.tag.removeprefix('tag:yaml.org,2002:')}", node) from error
        if isinstance(content, int) and not -_LARGEST <= content < _LARGEST:
            raise _refusal("a whole number that 64 bits cannot hold", node)
        return content


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in (_INT, _FLOAT)]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# The first that fits counts, so that what is whole is no float.
_Loader.add_implicit_resolver(_INT, _WHOLE, list("-+0123456789"))
_Loader.add_implicit_resolver(_FLOAT, _DECIMAL, list("-+0123456789."))


def _check_keys(node: MappingNode) -> None:
    _check_separators(node)
    seen: set[Hashable] = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise _refusal("a key that is a list or a mapping; must be text", key)
        if key.tag == _MERGE:
            raise _refusal(f"the merge key '<<'{_INSTEAD}", key)
        if (name := _name(key)) in seen:
            raise _refusal(f"key {key.value!r} twice", key)
        seen.add(name)


def _name(key: ScalarNode) -> Hashable:
    """Return what is equal for equal keys: 0.5 and 0.50 are one."""
    if key.tag in (_INT, _FLOAT):
        with suppress(ValueError):
            return float(key.value)
    return key.tag, key.value


def _check_separators(node: MappingNode) -> None:
    """Refuse {n: 5,000}, which is {n: 5, 000: null}."""
    for at, (key, value) in enumerate(node.value):
        after = takewhile(_is_group, node.value[at + 1 :])
        groups = [value.value, *(group.value for group, _ in after)] if _is_whole(value) else []
        if len(groups) > 1:
            right = "must be a whole number, without separators"
            raise _refusal(f"{key.value}: {','.join(groups)}; {right}: {''.join(groups)}", value)


def _is_whole(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _INT


def _is_group(entry: tuple[Node, Node]) -> bool:
    """Return whether a key of three digits has no value."""
    key, value = entry
    return isinstance(key, ScalarNode) and _GROUP.match(key.value) is not None and value.value == ""


def _refusal(problem: str, node: Node) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)
