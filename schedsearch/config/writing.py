"""From settings back to text, and what differs between two of them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from schedsearch.files.strict_yaml import resolve_scalar
from schedsearch.settings import StudySettings

_TEXT = "tag:yaml.org,2002:str"


class _CoreDumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal objects out twice: the reader refuses aliases."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML itself quotes what is special to YAML 1.1; "1e5" is special to 1.2 only.
    style = "'" if resolve_scalar(text) != _TEXT else None
    return dumper.represent_scalar(_TEXT, text, style=style)


_CoreDumper.add_representer(str, _represent_text)


def dump_yaml(data: Any, *, block_levels: int = 2) -> str:
    """Plain data as YAML, keys in their order.

    Args:
        data: Dicts, lists and scalars.
        block_levels: Levels that get a line per key, so that people can compare two files;
            what lies deeper, and lists of numbers, stand on one line.
    """
    node = _CoreDumper(io.StringIO(), sort_keys=False).represent_data(data)
    _set_style(node, block_levels)
    text = yaml.serialize(node, Dumper=_CoreDumper, allow_unicode=True, width=99)
    return str(text)


def _set_style(node: yaml.Node, block_levels: int) -> None:
    if isinstance(node, yaml.MappingNode):
        node.flow_style = block_levels <= 0 or not node.value
        for _, value in node.value:
            _set_style(value, block_levels - 1)
    elif isinstance(node, yaml.SequenceNode):
        node.flow_style = not any(isinstance(item, yaml.MappingNode) for item in node.value)
        for item in node.value:
            _set_style(item, block_levels)


def dump_settings(settings: StudySettings) -> str:
    """The resolved file: every key written out, in the contract's order.

    ``settings_from_text(dump_settings(s)) == s`` for all settings that were read from a file.
    """
    return dump_yaml(_plain(settings))


def differing_keys(
    a: StudySettings,
    b: StudySettings,
    ignoring: Sequence[str] = ("search.n_trials", "search.budget", "resources"),
) -> list[str]:
    """Dotted keys whose values differ, in the order of the file.

    Args:
        a: Settings of a stored run, for example.
        b: Settings to compare.
        ignoring: Keys, or whole sections, that may differ.
    """
    left, right = dict(_flat(_plain(a))), dict(_flat(_plain(b)))
    order = [f.name for f in dataclasses.fields(StudySettings)]
    return [
        key
        for key in sorted({**left, **right}, key=lambda key: order.index(key.partition(".")[0]))
        if left.get(key, _ABSENT) != right.get(key, _ABSENT)
        and not any(key == other or key.startswith(f"{other}.") for other in ignoring)
    ]


_ABSENT = object()


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as dicts and lists."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
