"""YAML files that are passed on: a schema, finite numbers, and no absolute path."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from schedsearch.exceptions import ConfigError
from schedsearch.files.atomic import write_text
from schedsearch.files.checksums import opened_yaml, sealed_yaml
from schedsearch.files.content import as_path
from schedsearch.files.problems import Findings, KeyPath, dotted, shown
from schedsearch.files.strict_yaml import parse_document, read_limited
from schedsearch.files.yaml_writer import dump_yaml

ABSOLUTE = re.compile(r"(?:^|[\s=:,'\"(])(?:~?/|[A-Za-z]:[\\/])[\w.]")
"""Matches text with an absolute path, which may contain a user's name."""


def write_portable(
    path: str | Path, data: Mapping[str, Any], what: str, *, place: str | None = None
) -> None:
    """Write a file atomically.

    Args:
        path: File to write or replace.
        data: Plain data with finite numbers and without absolute paths; keys in order.
        what: Kind of file, such as ``schedule file``, for messages.
        place: What the checksum in its first line says; None leaves it out, for files that people
            edit.

    Raises:
        ValueError: If ``data`` breaks one of these rules.
        ConfigError: If ``path`` cannot be written.
    """
    plain = _plain(data)
    for key, value in _leaves(plain, ()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"A {what} holds finite numbers, but {key} is {value}.")
        if isinstance(value, str) and ABSOLUTE.search(value):
            raise ValueError(
                f"A {what} is passed on, so it holds no absolute path, but {key} is {value!r}."
            )
    try:
        text = dump_yaml(plain)
        write_text(Path(path), text if place is None else sealed_yaml(text, place))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from error


def read_portable(
    path: str | Path,
    schema: str,
    what: str,
    newer: Sequence[str] = (),
    *,
    place: str | None = None,
) -> tuple[dict[str, Any], Findings]:
    """Read a file and check its schema.

    Args:
        path: The file.
        schema: Value of its key ``schema``, such as ``schedsearch.schedule/1``.
        what: Kind of file, for messages.
        newer: Further schemas to accept; the data then keeps the key ``schema``.
        place: What a checksum in its first line must say; None takes any.

    Returns:
        The data without the schema, and the mistakes so far, for more checks.

    Raises:
        InvalidFileError: If it is no such file.
        ConfigError: If it cannot be read.
    """
    findings = Findings(str(path))
    content = read_limited(as_path(path))
    try:
        opened_yaml(content.decode("utf-8", "replace"), place)
    except ValueError as error:
        remedy = "restore it; where it was edited on purpose, remove its first line"
        findings.add((), str(error).rstrip("."), remedy)
        findings.raise_if_any()
    data = parse_document(content, findings).data
    if not isinstance(data, dict) or data.get("schema") not in (schema, *newer):
        if not findings.problems:
            _add_wrong_schema(data, schema, what, findings)
        findings.raise_if_any()
    return {key: value for key, value in data.items() if newer or key != "schema"}, findings


def check_weights_path(weights: str | None, what: str, findings: Findings) -> None:
    """Add a mistake unless the weights lie beside or below their file."""
    if weights is None:
        return
    # NOTE: Windows' rules know both kinds of slash and letters of drives.
    path = PureWindowsPath(weights)
    if path.anchor or ".." in path.parts or not path.parts:
        findings.add(
            ("weights",),
            f"must be a path inside the folder of the file, got {shown(weights)}",
            f"put the weights beside the {what}",
        )


def weights_beside(file: str | Path, weights: str) -> Path:
    """The weights that a schedule or method file names, inside its own folder.

    Args:
        file: The file.
        weights: Relative path in it, of :func:`check_weights_path`.

    Raises:
        ConfigError: If a link leads out of the folder.
    """
    file = as_path(file)
    path = file.absolute().parent / weights
    # NOTE: A download cache may link both files into one folder of its own.
    folders = (file.parent.resolve(), file.resolve().parent)
    if not any(path.resolve().is_relative_to(folder) for folder in folders):
        raise ConfigError(
            f"{file} names the weights {weights}, but a link leads out of its folder. Put the "
            "file itself there, or name it with --weights."
        )
    return path


def _add_wrong_schema(data: Any, schema: str, what: str, findings: Findings) -> None:
    found = data.get("schema") if isinstance(data, dict) else None
    family = schema.partition("/")[0]
    if isinstance(found, str) and found.startswith(f"{family}/"):
        reason, remedy = f"unknown version {found!r}", "update schedsearch to read it"
    else:
        reason = f"not a {what}" if found is None else f"unknown schema {shown(found)}"
        remedy = f"a {what} begins with 'schema: {schema}'"
    findings.add(() if found is None else ("schema",), reason, remedy)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[str, Any]]:
    """Every value and, because it may be a path too, every key, with its place."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield dotted((*path, key)), key
            yield from _leaves(item, (*path, key))
    else:
        yield dotted(path), value
