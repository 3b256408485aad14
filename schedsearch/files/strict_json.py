"""Lines of JSON that hold a dataclass, read without trusting them."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

_SCALARS = {int, float, str, bool, type(None)}


def read_object(line: str, what: str) -> dict[str, Any]:
    """The object that a line holds.

    Args:
        line: JSON.
        what: What it should be, for the message.

    Raises:
        ValueError: If it is no JSON, or no object.
    """
    data = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError(f"{what} is a JSON object, but got {line[:40]!r}.")
    return data


def check_fields(cls: type[Any], data: Mapping[str, Any]) -> None:
    """Refuse missing and unknown keys, and scalars of another type.

    A key with a default may be missing. Containers are left to the caller.

    Raises:
        ValueError: With the keys, or the field and its value.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{cls.__name__}: expected an object, got {data!r}.")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in fields(cls)}
    required = {f.name for f in fields(cls) if f.default is f.default_factory is MISSING}
    if wrong := sorted((required - data.keys()) | (data.keys() - names)):
        raise ValueError(f"{cls.__name__}: missing or unknown keys {', '.join(wrong)}.")
    for name, value in data.items():
        options = typing.get_args(hints[name]) if _is_union(hints[name]) else (hints[name],)
        allowed = {*options, int} if float in options else set(options)
        # NOTE: Exact types, because a bool is an int in Python.
        if allowed <= _SCALARS and type(value) not in allowed:
            raise ValueError(f"{cls.__name__}.{name}: unexpected value {value!r}.")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
