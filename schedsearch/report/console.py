"""Consoles: results on standard output, everything else on standard error."""

from __future__ import annotations

from rich.console import Console

_PIPE_WIDTH = 150
"""Columns of a table that goes to a file or a pipe."""


def result_console() -> Console:
    """Standard output; tables are not squeezed when it is no terminal."""
    # Names come from files, so brackets in them are text and no markup.
    console = Console(markup=False)
    return console if console.is_terminal else Console(width=_PIPE_WIDTH, markup=False)


def progress_console() -> Console:
    """Standard error."""
    return Console(stderr=True, markup=False)
