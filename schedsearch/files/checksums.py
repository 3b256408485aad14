"""Checksums inside files that people can read: a changed bit is found when the file is read.

A checksum may name the place of its text, such as ``run/file:line``. So text that is moved there
from elsewhere is found too.
"""

from __future__ import annotations

import hashlib
import re

KEY = "checksum"
"""Last key of a JSON object that carries its own checksum."""

_VALUE = r'"(?:([^"\\\n]*) )?([0-9a-f]{16})"'
_LINE = re.compile(rf',"{KEY}":{_VALUE}}}\Z')
_DOCUMENT = re.compile(rf',\n "{KEY}": {_VALUE}\n}}\n\Z')
_INSIDE = re.compile(rf',"{KEY}":{_VALUE}}}'.encode())
_ABOVE = re.compile(rf"\ufeff?# {KEY}: (?:(.*) )?([0-9a-f]{{16}})\r?\n")


def sealed(text: str, place: str = "") -> str:
    """A JSON object with its checksum as the last key; an earlier checksum is replaced.

    Args:
        text: One line without its end, or a document indented by 1 that ends with a newline.
        place: Where it belongs; empty binds it to no place.

    Raises:
        ValueError: If it is no JSON object with keys, or does not match its earlier checksum.
    """
    if has_seal(text):
        text = opened(text)
    if text.endswith("\n}\n"):
        head = text[:-3]
        return f'{head},\n "{KEY}": "{_value(head, place)}"\n}}\n'
    if not text.startswith("{") or not text.endswith("}") or len(text) < 3:
        raise ValueError(f"Only a JSON object with keys takes a checksum, got {text[:40]!r}.")
    head = text[:-1]
    return f'{head},"{KEY}":"{_value(head, place)}"}}'


def opened(text: str, place: str | None = None) -> str:
    """The object without its checksum, which is verified.

    Args:
        text: The object.
        place: Where it must belong; None takes any.

    Raises:
        ValueError: If it has none, the text was changed since, or it belongs elsewhere.
    """
    if (parts := _parts(text)) is None:
        raise ValueError("it has no checksum.")
    head, end, found, digest = parts
    if _digest(head, found) != digest:
        raise ValueError("it does not match its checksum.")
    _check_place(found, place)
    return head + end


def place_of(text: str) -> str:
    """Where the checksum of an object, or of a YAML file, says that it belongs; empty if nowhere.

    Args:
        text: The object, or the beginning of the file.
    """
    if (above := _ABOVE.match(text)) is not None:
        return above.group(1) or ""
    parts = _parts(text)
    return "" if parts is None else parts[2]


def has_seal(text: str) -> bool:
    """Whether an object ends with a checksum, right or wrong."""
    return _parts(text) is not None


def holds_whole_line(piece: bytes) -> bool:
    """Whether the rest of a file holds a complete line with its checksum, and more."""
    return _INSIDE.search(piece) is not None


def sealed_yaml(text: str, place: str = "") -> str:
    """A YAML file with its checksum as a comment in the first line; see :func:`sealed`."""
    return f"# {KEY}: {_value(text, place)}\n{text}"


def opened_yaml(text: str, place: str | None = None) -> str:
    """The file without the comment; one that has none comes back as it is.

    Args:
        text: The file.
        place: Where it must belong; None takes any.

    Raises:
        ValueError: If the text was changed since, or belongs elsewhere.
    """
    if (above := _ABOVE.match(text)) is None:
        return text
    body = text[above.end() :]
    found = above.group(1) or ""
    if _digest(body, found) != above.group(2):
        raise ValueError("it does not match its checksum.")
    _check_place(found, place)
    return body


def _parts(text: str) -> tuple[str, str, str, str] | None:
    """The object without its end, that end, the place, and the digest."""
    for pattern, end in ((_LINE, "}"), (_DOCUMENT, "\n}\n")):
        if (found := pattern.search(text)) is not None:
            return text[: found.start()], end, found.group(1) or "", found.group(2)
    return None


def _check_place(found: str, place: str | None) -> None:
    if place is not None and found != place:
        raise ValueError(f"it belongs to {found or 'no run'}, not to {place}.")


def _value(text: str, place: str) -> str:
    return f"{place} {_digest(text, place)}".lstrip()


def _digest(text: str, place: str) -> str:
    # NOTE: surrogates come from JSON's escapes, and no encoding takes them as they are.
    whole = f"{place}\n{text}" if place else text
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:16]
