"""Checksums inside files that people can read: a changed bit is found when the file is read."""

from __future__ import annotations

import hashlib
import re

KEY = "checksum"
"""Last key of a JSON object that carries its own checksum."""

_LINE = re.compile(rf',"{KEY}":"([0-9a-f]{{16}})"}}\Z')
_DOCUMENT = re.compile(rf',\n "{KEY}": "([0-9a-f]{{16}})"\n}}\n\Z')
_INSIDE = re.compile(rb',"' + KEY.encode() + rb'":"[0-9a-f]{16}"}')
_ABOVE = re.compile(rf"# {KEY}: ([0-9a-f]{{16}})\n")


def sealed(text: str) -> str:
    """A JSON object with its checksum as the last key; one that has it stays as it is.

    Args:
        text: One line without its end, or a document indented by 1 that ends with a newline.

    Raises:
        ValueError: If it is no JSON object with keys.
    """
    if _parts(text) is not None:
        return text
    if text.endswith("\n}\n"):
        head = text[:-3]
        return f'{head},\n "{KEY}": "{_digest(head)}"\n}}\n'
    if not text.startswith("{") or not text.endswith("}") or len(text) < 3:
        raise ValueError(f"Only a JSON object with keys takes a checksum, got {text[:40]!r}.")
    head = text[:-1]
    return f'{head},"{KEY}":"{_digest(head)}"}}'


def opened(text: str) -> str:
    """The object without its checksum, which is verified.

    Raises:
        ValueError: If it has none, or the text was changed since.
    """
    if (parts := _parts(text)) is None:
        raise ValueError("it has no checksum.")
    head, found, end = parts
    if _digest(head) != found:
        raise ValueError("it does not match its checksum.")
    return head + end


def has_seal(text: str) -> bool:
    """Whether an object ends with a checksum, right or wrong."""
    return _parts(text) is not None


def holds_whole_line(piece: bytes) -> bool:
    """Whether the rest of a file holds a complete line with its checksum, and more."""
    return _INSIDE.search(piece) is not None


def sealed_yaml(text: str) -> str:
    """A YAML file with its checksum as a comment in the first line."""
    return f"# {KEY}: {_digest(text)}\n{text}"


def opened_yaml(text: str) -> str:
    """The file without the comment; one that has none comes back as it is.

    Raises:
        ValueError: If the text was changed since.
    """
    if (above := _ABOVE.match(text)) is None:
        return text
    body = text[above.end() :]
    if _digest(body) != above.group(1):
        raise ValueError("it does not match its checksum.")
    return body


def _parts(text: str) -> tuple[str, str, str] | None:
    for pattern, end in ((_LINE, "}"), (_DOCUMENT, "\n}\n")):
        if (found := pattern.search(text)) is not None:
            return text[: found.start()], found.group(1), end
    return None


def _digest(text: str) -> str:
    # NOTE: surrogates come from JSON's escapes, and no encoding takes them as they are.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
