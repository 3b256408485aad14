"""Consoles: results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from schedsearch.files.printable import printable, raw_stream

_PIPE_WIDTH = 150
"""Columns of a table that goes to a file or a pipe."""


class PrintableConsole(Console):
    """A console whose texts come from files: no markup, no control characters, no passwords."""

    def __init__(self, stream: Any, width: int | None = None) -> None:
        super().__init__(file=raw_stream(stream), width=width, markup=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a text into cells; its own control characters are escaped."""
        return super().render_str(printable(text), **options)


def result_console() -> Console:
    """Standard output; tables are not squeezed when it is no terminal."""
    console = PrintableConsole(sys.stdout)
    return console if console.is_terminal else PrintableConsole(sys.stdout, _PIPE_WIDTH)


def progress_console() -> Console:
    """Standard error."""
    return PrintableConsole(sys.stderr)
