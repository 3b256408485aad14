"""``-o KEY=VALUE``: replaces one key of a file before it is validated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from schedsearch.files.problems import Findings, InvalidFileError, KeyPath
from schedsearch.files.strict_yaml import Document, parse_document

KEY_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def apply_overrides(
    document: Document, overrides: Sequence[str]
) -> tuple[Document, dict[KeyPath, str]]:
    """Replace keys of a document.

    Args:
        document: The file.
        overrides: ``KEY=VALUE`` with a dotted key and a YAML value; a later one wins.

    Returns:
        A new document, and for each replaced key the option as the user wrote it.

    Raises:
        InvalidFileError: If an option is not of this form or its value is not YAML.
    """
    parsed = [_parse(option) for option in overrides]
    broken = [problem for _, _, findings in parsed for problem in findings.problems]
    if broken:
        raise InvalidFileError(broken)
    data, marks = document.data, dict(document.marks)
    origins: dict[KeyPath, str] = {}
    for path, value, findings in parsed:
        data = _replaced({} if data is None else data, path, value)
        for stale in [key for key in marks if key[: len(path)] == path]:
            del marks[stale]
        for stale in [key for key in origins if key[: len(path)] == path]:
            del origins[stale]
        origins[path] = findings.file
    return Document(data, marks), origins


def _parse(option: str) -> tuple[KeyPath, Any, Findings]:
    findings = Findings(f"-o {option}")
    key, equals, text = option.partition("=")
    key = key.strip()
    if not equals or KEY_PATTERN.fullmatch(key) is None:
        findings.add((), "not of the form KEY=VALUE", "write for example -o solver.num_steps=20")
        return (), None, findings
    value = parse_document(text, findings).data
    # NOTE: A value has no line in the file, so its mistakes belong to the option as a whole.
    findings.problems = [
        type(p)(findings.file, None, None, key, p.reason, p.remedy) for p in findings.problems
    ]
    return tuple(key.split(".")), value, findings


def _replaced(data: Any, path: KeyPath, value: Any) -> Any:
    """A copy of nested sections with one key replaced; missing sections are created."""
    if not path:
        return value
    section = dict(data) if isinstance(data, dict) else {}
    section[str(path[0])] = _replaced(section.get(str(path[0])), path[1:], value)
    return section
