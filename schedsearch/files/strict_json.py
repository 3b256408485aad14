"""Lines of JSON that hold a dataclass, read without trusting them."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, cast

from schedsearch.files.checksums import KEY, has_seal, opened, sealed

_SCALARS = {int, float, str, bool, type(None)}

MOST = 1e18
"""Sums and ratios of numbers up to this are finite."""

_BOXES = (dict, list)
_DEEPEST = 50
"""Levels of a value; code that walks through one may need a few stack frames per level."""

_LONGEST_INTEGER = 20
"""Characters of the largest 64-bit number."""


def read_object(line: str, what: str) -> dict[str, Any]:
    """The object that a line holds, without its checksum.

    Args:
        line: JSON; :func:`check_line` verifies the checksum.
        what: What it should be, for the message.

    Raises:
        ValueError: If it is no JSON with finite numbers, or no object.
    """
    data = load_json(line)
    if not isinstance(data, dict):
        raise ValueError(f"{what} is a JSON object, but got {line[:40]!r}.")
    data.pop(KEY, None)
    return data


def check_line(line: str) -> None:
    """Verify the checksum of a line that carries one.

    Raises:
        ValueError: If the line was changed since it was written.
    """
    if has_seal(line):
        opened(line)


def to_line(data: Mapping[str, Any]) -> str:
    """One line of JSON that carries its checksum."""
    return sealed(json.dumps(data, separators=(",", ":")))


def to_document(data: Mapping[str, Any], place: str | None = None) -> str:
    """JSON with a line per key, for a file of its own; it carries its checksum.

    Args:
        data: The object.
        place: Where it belongs; None binds it to no place.
    """
    return sealed(json.dumps(data, indent=1) + "\n", place or "")


def read_document(path: Path, place: str | None = None) -> dict[str, Any]:
    """The object of a file that :func:`to_document` made.

    Args:
        path: The file.
        place: Where it must belong; None takes any.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, or belongs elsewhere.
    """
    return read_object(opened(path.read_bytes().decode("utf-8"), place), "The file")


def check_numbers(value: Any, what: str, *, least: float | None = None) -> None:
    """Refuse what is no finite number, or larger than anything that is measured.

    Raises:
        ValueError: With the name and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r}.")
    if abs(value) > MOST:
        raise ValueError(f"{what} must be at most {MOST:g}, got {value!r}.")
    if least is not None and value < least:
        raise ValueError(f"{what} must be at least {least:g}, got {value!r}.")


def load_json(text: str) -> Any:
    """The value of a JSON text that may come from anyone.

    Raises:
        ValueError: If it is no JSON, is nested deeper than anything needs to be, or holds a number
            that is not finite or has more than 64 bits.
    """
    too_deep = ValueError(f"it is nested deeper than {_DEEPEST} levels.")
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_real, parse_int=_integer)
    except RecursionError:
        raise too_deep from None
    level = [value]
    for _ in range(_DEEPEST + 1):
        boxes = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, _BOXES)]
        if not boxes:
            return value
        level = list(chain.from_iterable(boxes))
    raise too_deep


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no finite number.")


def _real(text: str) -> float:
    if math.isinf(value := float(text)):
        _refuse(text)
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise ValueError(f"{text[:20]}... has {len(text)} digits; 64 bits are enough for any.")
    return int(text)


def check_fields(cls: type[Any], data: Mapping[str, Any]) -> None:
    """Refuse missing and unknown keys, and scalars of another type.

    A key with a default may be missing. Mappings of scalars are looked into; other containers are
    left to the caller.

    Raises:
        ValueError: With the keys, or the field and its value.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{cls.__name__}: expected an object, got {data!r}.")
    hints = _hints(cast(Hashable, cls))
    names = {f.name for f in fields(cls)}
    required = {f.name for f in fields(cls) if f.default is f.default_factory is MISSING}
    if wrong := sorted((required - data.keys()) | (data.keys() - names)):
        raise ValueError(f"{cls.__name__}: missing or unknown keys {', '.join(wrong)}.")
    for name, value in data.items():
        hint, values = hints[name], [value]
        if typing.get_origin(hint) is Mapping and isinstance(value, dict):
            hint, values = typing.get_args(hint)[1], list(value.values())
        elif typing.get_origin(hint) is Mapping:
            raise ValueError(f"{cls.__name__}.{name}: expected an object, got {value!r}.")
        options = typing.get_args(hint) if _is_union(hint) else (hint,)
        allowed = {*options, int} if float in options else set(options)
        # NOTE: Exact types, because a bool is an int in Python.
        if allowed <= _SCALARS and any(type(v) not in allowed for v in values):
            raise ValueError(f"{cls.__name__}.{name}: unexpected value {value!r}.")


@lru_cache(maxsize=64)
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cast(type, cls))


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
