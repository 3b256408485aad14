"""Standard output and error that always take a result: closed, narrow, or of another encoding."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from schedsearch.files.printable import PrintableStream

_PLAIN = {"→": "->", "±": "+/-", "≤": "<=", "≥": ">=", "\u00d7": "x", "\u2013": "-", "…": "..."}
"""What stands for a character that a terminal cannot show; any other becomes a question mark."""

_ERRORS = "schedsearch.plain"


@contextmanager
def safe_streams() -> Iterator[None]:
    """Make both streams usable while a command runs."""
    before = sys.stdout, sys.stderr
    _fill_descriptors()
    codecs.register_error(_ERRORS, _plain)
    try:
        sys.stdout, sys.stderr = _safe(sys.stdout), _safe(sys.stderr, may_be_lost=True)
        yield
    finally:
        sys.stdout, sys.stderr = before


def _fill_descriptors() -> None:
    """Open the null device for streams that are closed, before a file gets their number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _safe(stream: Any, *, may_be_lost: bool = False) -> Any:
    if stream is None:
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - for good
    elif hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=_ERRORS)
    return PrintableStream(stream, may_be_lost=may_be_lost)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that cannot be encoded."""
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end]
    plain = "".join(_PLAIN.get(character, "?") for character in lost)
    return plain, error.end
