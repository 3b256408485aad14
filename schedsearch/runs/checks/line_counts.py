"""``lines.json``: how much the files of a run hold, so that what is lost is found."""

from __future__ import annotations

import contextlib
from pathlib import Path

from schedsearch.files.atomic import write_text
from schedsearch.files.strict_json import read_document, to_document


class LineCounts:
    """The least number of lines of each journal; one driver writes it.

    A line is counted once it is on the disk, so a torn line never is.

    Args:
        path: The file; it need not exist.
        place: What its checksum says; None for an unknown run.
    """

    def __init__(self, path: Path, place: str | None = None) -> None:
        self._path, self._place = path, place

    def of(self, name: str) -> int:
        """Lines that a journal is known to hold; 0 where nothing is known."""
        count = self._read().get(name)
        return count if type(count) is int and count >= 0 else 0

    def note(self, name: str, count: int) -> None:
        """Remember the lines of a journal."""
        counts = self._read()
        if counts.get(name, 0) != count:
            with contextlib.suppress(OSError):  # the lines themselves are safe
                write_text(self._path, to_document({**counts, name: count}, self._place))

    def _read(self) -> dict[str, object]:
        try:
            return read_document(self._path, self._place)
        except (OSError, ValueError):  # without it, only the end of a journal is unknown
            return {}
