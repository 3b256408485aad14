"""Checks plain data against a type; pydantic's errors become sentences with a remedy."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, cast, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from schedsearch.files.printable import LONGEST_NAME
from schedsearch.files.problems import (
    Findings,
    KeyPath,
    Mistake,
    nearest,
    nearest_or_list,
    shown,
)


class RuleError(ValueError):
    """Values of one section break its rules.

    Args:
        mistakes: Keys count from the section.
    """

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__("; ".join(f"{key}: {reason}" for key, reason, _ in mistakes))
        self.mistakes = mistakes


def rules(find: Callable[[Any], Iterator[Mistake]]) -> Any:
    """Make a method that yields mistakes a pydantic validator of its dataclass."""

    def check(section: Any) -> Any:
        if mistakes := list(find(section)):
            raise RuleError(*mistakes)
        return section

    return model_validator(mode="after")(check)


def validate(kind: Any, value: Any, path: KeyPath, findings: Findings) -> tuple[bool, Any]:
    """Validate one value strictly.

    Args:
        kind: The type that it must have.
        value: Plain data from YAML.
        path: Where it stands.
        findings: Receives the mistakes.

    Returns:
        Whether it is valid, and the value with its type.
    """
    try:
        text = json.dumps(value, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        findings.add(path, f"must be plain data with finite numbers: {error}")
        return False, None
    try:
        # From JSON, "strict" still turns lists into tuples and sections into dataclasses.
        return True, _adapter(kind).validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        _report(error, kind, value, path, findings)
        return False, None


def _plain(value: object) -> object:
    """What a Python caller may pass beside the types of YAML."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Integral | Real):  # such as NumPy's numbers
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__} is none")


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


# ---- pydantic's errors as sentences -----------------------------------------------------------


def _report(
    error: ValidationError, kind: Any, value: Any, path: KeyPath, findings: Findings
) -> None:
    """Add one mistake per place; the alternatives of a union are joined with "or"."""
    places: dict[KeyPath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        at = _place(value, details)
        places.setdefault(at, []).append(details)
    above = {at[:length] for at in places for length in range(len(at))}
    for at, all_details in places.items():
        if at in above:
            continue  # the branch of a union that was not meant
        reasons = list(dict.fromkeys(_rule(details) for details in all_details))
        first = all_details[0]
        if isinstance(broken := first.get("ctx", {}).get("error"), RuleError):
            findings.add_all(broken.mistakes, (*path, *at))
        elif first["type"] in _UNKNOWN:
            known = _sibling_keys(kind, at)
            findings.add((*path, *at), "unknown key", nearest_or_list((*path, *at)[-1], known))
        elif first["type"] == "missing" and isinstance(at[-1], int):
            findings.add((*path, *at[:-1]), f"the list is too short: it lacks entry {at[-1]}")
        elif first["type"] == "missing":
            findings.add((*path, *at), "required key is missing", None)
        else:
            found = _at(value, at)
            reason = f"must be {' or '.join(reasons)}, got {_kind(found)}"
            findings.add((*path, *at), reason, _remedy(found, all_details))


_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})


def _place(value: Any, details: ErrorDetails) -> KeyPath:
    """The part of an error's location that exists in the data.

    pydantic also puts the names of union branches into it, which mean nothing to users.
    """
    if details["type"] == "missing":
        return details["loc"]
    at: list[str | int] = []
    for key in details["loc"]:
        inside = isinstance(value, Mapping) and key in value
        if not inside and not (
            isinstance(value, list) and isinstance(key, int) and key < len(value)
        ):
            continue
        at.append(key)
        value = value[key]
    return tuple(at)


def _at(value: Any, at: KeyPath) -> Any:
    for key in at:
        value = value[key]
    return value


def _rule(details: ErrorDetails) -> str:
    """What a value must be, as the end of "must be ..."."""
    context = details.get("ctx", {})
    for bound, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
        if bound in context:
            return f"{sign} {context[bound]}"
    kind = details["type"]
    if kind == "string_pattern_mismatch":
        return f"one line of 1 to {LONGEST_NAME} characters"
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind == "too_short":
        return f"a list of at least {context['min_length']} entries"
    if kind == "too_long":
        return f"a list of at most {context['max_length']} entries"
    return _TYPES.get(kind, details["msg"].removeprefix("Input should be "))


_TYPES = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a section ('key: value' lines)",
    "mapping_type": "a section ('key: value' lines)",
    "dataclass_type": "a section ('key: value' lines)",
    "dataclass_exact_type": "a section ('key: value' lines)",
    "none_required": "null",
}


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {shown(value)}"
    if isinstance(value, Mapping):
        return "a section"
    return shown(value) if not isinstance(value, list) else f"the list {shown(value)}"


def _remedy(value: Any, details: list[ErrorDetails]) -> str | None:
    kinds = {d["type"] for d in details}
    literal = next((d for d in details if d["type"] == "literal_error"), None)
    if literal is not None and isinstance(value, str):
        choices = str(literal.get("ctx", {}).get("expected", ""))
        return nearest(value, [part.strip("'") for part in _split(choices)])
    if not isinstance(value, str):
        if isinstance(value, bool) and kinds & {"int_type", "float_type"}:
            return "true and false are not numbers"
        return "put it in quotes" if kinds == {"string_type"} and _is_scalar(value) else None
    if kinds & {"int_type", "float_type"}:
        if _is_number(value):
            return "write the number without quotes and without leading zeros"
        return None
    if "bool_type" in kinds and value.lower() in ("yes", "no", "on", "off", "y", "n"):
        return "only true and false are truth values"
    return None


def _split(choices: str) -> list[str]:
    return choices.replace(" or ", ", ").split(", ")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _sibling_keys(kind: Any, at: KeyPath) -> list[str]:
    """The keys that the section around an unknown key may have."""
    kind = _section(kind)
    for key in at[:-1]:
        if not dataclasses.is_dataclass(kind):
            return []
        kind = _section(get_type_hints(cast(type, kind)).get(str(key)))
    return [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def _section(hint: Any) -> Any:
    """The section behind a type: of ``X | None`` it is X."""
    return next(filter(dataclasses.is_dataclass, get_args(hint)), hint)
