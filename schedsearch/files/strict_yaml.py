"""Strict YAML: YAML 1.2 scalars, no duplicates, no aliases, no tags, and every key's line.

PyYAML follows YAML 1.1: ``1e-5`` is a string, ``010`` is 8, ``1:30`` is 90 and ``yes`` is true.
It also keeps the last of two equal keys without a warning.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader

from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import MAX_PROBLEMS, Findings, KeyPath

MAX_BYTES = 1_000_000
MAX_NESTING = 20
MAX_NODES = 100_000


def read_limited(path: Path) -> bytes:
    """The content of a small file.

    Raises:
        ConfigError: If it cannot be read; more than the limit is never read.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # NOTE: a pipe would block
            raise ConfigError(f"Cannot read {path}: it is a device or pipe, not a file.")
        with path.open("rb") as handle:
            return handle.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot read {path}: {reason}.") from error


_Base: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""libyaml where PyYAML has it: it reads 1 MB in a fraction of a second."""

_FAULTS = (yaml.YAMLError, ValueError, OverflowError)
"""What PyYAML raises for broken text; its own scanner lets odd escapes through."""


class CoreLoader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader with the scalars of YAML 1.2 (core schema)."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_NULL, _BOOL, _INT, _FLOAT = (
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")
)

for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    # A leading zero means octal to one reader and decimal to the next: neither is chosen here.
    (_INT, r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        _FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    CoreLoader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data and where it stood."""

    data: Any
    marks: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    """Line and column of each key and list item, counted from 1."""


def parse_document(content: bytes | str, findings: Findings) -> Document:
    """Read one YAML document.

    Args:
        content: The file; bytes must be UTF-8.
        findings: Receives the mistakes, with their lines.

    Returns:
        The data with everything that could be read; the mistakes are in ``findings``.
    """
    text = _decode(content, findings)
    if text is None or not _refuse_events(text, findings):
        return Document(None)
    try:
        node = yaml.compose(text, Loader=CoreLoader)
    except _FAULTS as error:
        _add_syntax_error(error, text, findings)
        return Document(None)
    marks: dict[KeyPath, tuple[int, int]] = {}
    # The same object serves both, so that a mistake inside the file finds its line at once.
    findings.marks = marks
    return Document(None if node is None else _plain(node, (), marks, findings), marks)


def resolve_scalar(text: str) -> str:
    """Tag that a plain scalar gets, for example ``tag:yaml.org,2002:int``."""
    for tag, pattern in CoreLoader.yaml_implicit_resolvers.get(text[:1], []):
        if pattern.match(text):
            return tag
    return "tag:yaml.org,2002:str"


# ---- text to events ---------------------------------------------------------------------------


def _decode(content: bytes | str, findings: Findings) -> str | None:
    size = len(content.encode(errors="replace")) if isinstance(content, str) else len(content)
    if size > MAX_BYTES:
        findings.add((), f"the file has {size} bytes", f"at most {MAX_BYTES} are read")
        return None
    if isinstance(content, str):
        return content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        findings.marks = {(): (line, 1)}
        findings.add((), "the file is not UTF-8 text", "save it as UTF-8")
        return None


def _refuse_events(text: str, findings: Findings) -> bool:
    """Look for aliases, tags, deep nesting and broken syntax; False when there is any.

    Done on the event stream, before anything is composed, so that a bomb is never expanded.
    """
    before, depth, nodes = len(findings.problems), 0, 0
    try:
        for event in yaml.parse(text, Loader=CoreLoader):
            nodes += 1
            if len(findings.problems) >= MAX_PROBLEMS:
                return False
            if nodes > MAX_NODES:
                _add_at(event, findings, f"more than {MAX_NODES} keys and values")
                return False
            if isinstance(event, yaml.AliasEvent):
                _add_at(event, findings, "aliases (*name) are refused", "write the value out")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.NodeEvent):
                if event.anchor is not None:
                    _add_at(event, findings, "anchors (&name) are refused", "write the value out")
                tag = getattr(event, "tag", None)
                if tag is not None:
                    _add_at(event, findings, f"the tag {str(tag)[:60]} is refused", "remove it")
                if isinstance(event, yaml.CollectionStartEvent):
                    depth += 1
                    if depth > MAX_NESTING:
                        _add_at(event, findings, f"nested deeper than {MAX_NESTING} levels")
                        return False
    except _FAULTS as error:
        _add_syntax_error(error, text, findings)
    return len(findings.problems) == before


def _add_at(event: Any, findings: Findings, reason: str, remedy: str | None = None) -> None:
    mark = event.start_mark
    findings.marks = {(): (mark.line + 1, mark.column + 1)}
    findings.add((), reason, remedy)


def _add_syntax_error(error: Exception, text: str, findings: Findings) -> None:
    remedy = None
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "not YAML"
        lines = text.splitlines() or [""]
        row, column = (mark.line, mark.column) if mark else (0, 0)
        if row >= len(lines):  # libyaml names the line after the last one
            row, column = len(lines) - 1, len(lines[-1])
        findings.marks = {(): (row + 1, column + 1)}
        if "'\\t'" in reason or lines[row][column:].startswith("\t"):
            reason, remedy = "a tab stands where YAML wants spaces", "indent with spaces"
        elif "mapping values are not allowed" in reason:
            remedy = "a value that contains ': ' needs quotes; or the indentation is wrong"
        elif "single document" in str(error.context):
            reason, remedy = "the file holds more than one document", "remove the second '---'"
    elif (control := Reader.NON_PRINTABLE.search(text)) is not None:
        line_start = text.rfind("\n", 0, control.start()) + 1
        row, column = text.count("\n", 0, control.start()), control.start() - line_start
        findings.marks = {(): (row + 1, column + 1)}
        reason, remedy = f"the character {control.group()!a} is not allowed", "remove it"
    else:
        reason = "not YAML: " + " ".join(str(error).split())
        findings.marks = {}
    findings.add((), reason, remedy)


# ---- nodes to data ----------------------------------------------------------------------------


def _plain(
    node: yaml.Node, path: KeyPath, marks: dict[KeyPath, tuple[int, int]], findings: Findings
) -> Any:
    marks.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        return _plain_mapping(node, path, marks, findings)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, i), marks, findings) for i, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    return _plain_scalar(node, path, findings)


def _plain_mapping(
    node: yaml.MappingNode,
    path: KeyPath,
    marks: dict[KeyPath, tuple[int, int]],
    findings: Findings,
) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        here = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            marks[(*path, "?")] = here
            findings.add((*path, "?"), "a key must be a word, not a list or a section")
            continue
        key = key_node.value
        if key in data:
            first_line = marks[(*path, key)][0]
            marks[(*path, key)] = here
            findings.add(
                (*path, key), "duplicate key", f"it stands in line {first_line} already; keep one"
            )
            continue
        marks[(*path, key)] = here
        data[key] = _plain(value_node, (*path, key), marks, findings)
    return data


def _plain_scalar(node: yaml.ScalarNode, path: KeyPath, findings: Findings) -> Any:
    text = node.value
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() == "true"
    if node.tag == _INT:
        digits = text.lstrip("-+")
        if len(digits) > 18:
            findings.add(path, f"the number {digits[:18]}... is too large")
            return 0
        return int(text, 0)
    if node.tag == _FLOAT:
        value = float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower()))
        if not math.isfinite(value):
            findings.add(path, f"must be a finite number, got {text[:60]}")
            return 0.0
        return value
    return text
