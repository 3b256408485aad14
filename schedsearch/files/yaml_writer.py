"""Writes plain data as YAML that both YAML 1.1 and 1.2 read alike."""

from __future__ import annotations

import io
from typing import Any

import yaml

from schedsearch.files.strict_yaml import resolve_scalar

_TEXT = "tag:yaml.org,2002:str"


class _CoreDumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal objects out twice: the reader refuses aliases."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # NOTE: PyYAML quotes for YAML 1.1 only; "1e5" is a number in YAML 1.2.
    style = "'" if resolve_scalar(text) != _TEXT else None
    return dumper.represent_scalar(_TEXT, text, style=style)


_CoreDumper.add_representer(str, _represent_text)


def dump_yaml(data: Any) -> str:
    """Plain data as YAML, keys in their order.

    Two levels get a line per key, so that people can compare two files. Deeper levels and lists
    of numbers stay on one line.

    Args:
        data: Dicts, lists and scalars.
    """
    node = _CoreDumper(io.StringIO(), sort_keys=False).represent_data(data)
    _set_style(node, block_levels=2)
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
