"""Writes settings as text, and compares two of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schedsearch.files.yaml_writer import dump_yaml
from schedsearch.settings import StudySettings


def dump_settings(settings: StudySettings) -> str:
    """The resolved file: every key written out, in the contract's order.

    ``settings_from_text(dump_settings(s)) == s`` for all settings that were read from a file.
    """
    return dump_yaml(_plain(settings))


def differing_keys(
    a: StudySettings,
    b: StudySettings,
    ignoring: Sequence[str] = ("search.n_trials", "search.budget", "resources", "plan", "rivals"),
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
