"""Validates the sections of a search space file one by one.

So an unknown key in one section does not hide a wrong value in another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, get_type_hints

from schedsearch.config.warm_starts import WARM_START, check_entries
from schedsearch.files.problems import Findings, nearest_or_list
from schedsearch.files.validation import validate
from schedsearch.settings import StudySettings


def validate_sections(
    data: Any, findings: Findings, only: Iterable[str] | None = None
) -> dict[str, Any]:
    """Validate the sections of a file, each by itself.

    Args:
        data: The file as plain data.
        findings: Receives the mistakes.
        only: Sections to read; the others are then ignored, known or not. None reads all.

    Returns:
        The sections without a mistake, by name, defaults filled in.
    """
    if not isinstance(data, Mapping):
        findings.add((), "the file must hold sections ('key: value' lines)", _empty_remedy(data))
        return {}
    hints = section_types()
    wanted = list(hints) if only is None else list(only)
    if only is None:
        for key in data:
            if key not in hints:
                findings.add((key,), "unknown key", nearest_or_list(key, list(hints)))
    defaults = {f.name: f.default for f in dataclasses.fields(StudySettings)}
    valid: dict[str, Any] = {}
    for name in wanted:
        if name == WARM_START and name in data and not check_entries(data[name], findings):
            continue
        if name in data:
            ok, value = validate(hints[name], data[name], (name,), findings)
            if ok:
                valid[name] = value
        elif defaults[name] is dataclasses.MISSING:
            findings.add((name,), "required key is missing", None)
        else:
            valid[name] = defaults[name]
    return valid


@lru_cache(maxsize=1)
def section_types() -> dict[str, Any]:
    """The type of each section, in the order of the file."""
    return get_type_hints(StudySettings, include_extras=True)


def _empty_remedy(data: Any) -> str | None:
    return "the file is empty" if data is None else None
