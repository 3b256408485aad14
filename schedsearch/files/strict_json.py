"""Lines of JSON that hold a dataclass, read without trusting them."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any


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

    A key with a default may be missing: lines of an earlier version stay readable. Containers
    are left to the caller.

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
        scalars = tuple(o for o in options if o in (int, float, str, bool, type(None)))
        if len(scalars) == len(options) and not isinstance(value, scalars):
            whole = isinstance(value, int) and float in scalars
            if not whole:
                raise ValueError(f"{cls.__name__}.{name}: unexpected value {value!r}.")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
