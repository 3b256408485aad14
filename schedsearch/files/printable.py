"""Makes text from files safe to show: no control characters, no passwords."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Callable
from typing import Any

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""All but tab and line feed; also what has no width, or turns the direction of text."""

_PASSWORD = re.compile(r"(\w:///?[^\s:/]*:)(?:\S+|[^@\n]{1,100})(?=@)")
"""Up to the last ``@`` of a word, or to the next one where the password holds blanks."""

_QUERY = re.compile(
    r"([?&][^\s=&]*(?:pass|pwd|secret|token|key|%)[^\s=&]*=)[^&\s'\"]+", re.IGNORECASE
)

LONGEST_NAME = 200
ONE_LINE = rf"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{{1,{LONGEST_NAME}}}$"
"""A name: one line of text."""


def printable(text: str) -> str:
    """Text as it may be shown: control characters escaped, passwords of URLs hidden."""
    return _CONTROL.sub(_escaped, without_passwords(text))


def without_passwords(text: str) -> str:
    """Text in which ``***`` stands for the passwords of URLs."""
    return _QUERY.sub(r"\1***", _PASSWORD.sub(r"\1***", text))


def has_password(text: str) -> bool:
    """Whether a URL in the text holds a password."""
    return without_passwords(text) != text


class PrintableStream:
    """A text stream without control characters and passwords; a lost one takes text too.

    Args:
        raw: The stream that is written to.
        may_be_lost: Whether text is given up where the disk is full or the reader is gone.
    """

    def __init__(self, raw: Any, *, may_be_lost: bool = False) -> None:
        self.raw, self.may_be_lost = raw, may_be_lost

    def write(self, text: str) -> int:
        """Write text that is safe to show."""
        self._try(lambda: self.raw.write(printable(text)))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._try(self.raw.flush)

    def __getattr__(self, name: str) -> Any:
        if name == "raw":  # a copy that is being made
            raise AttributeError(name)
        return getattr(self.raw, name)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            if not self._is_lost(error):
                raise
            # NOTE: the interpreter flushes it again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.raw.fileno())
        except ValueError as error:
            if "closed file" not in str(error):
                raise

    def _is_lost(self, error: OSError) -> bool:
        """Whether it was never open for writing, its terminal has closed, or it may be lost."""
        if self.may_be_lost:
            return True
        if error.errno == errno.EIO:
            return stat.S_ISCHR(os.fstat(self.raw.fileno()).st_mode)
        return error.errno == errno.EBADF


class PrintableFormatter(logging.Formatter):
    """Log lines that are safe to show."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return printable(super().format(record))


def raw_stream(stream: Any) -> Any:
    """The stream itself, for code that writes colours."""
    return stream.raw if isinstance(stream, PrintableStream) else stream


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
