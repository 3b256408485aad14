"""``results.jsonl``: the record of a run, one fsynced line per finished trial."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from schedsearch.exceptions import StorageError


class JsonLine(Protocol):
    """Anything that is kept as one line of JSON."""

    def to_json(self) -> str:
        """One line of JSON."""
        ...


Entry = TypeVar("Entry", bound=JsonLine)


class Journal(Generic[Entry]):
    """Append-only file of one entry per line.

    Args:
        path: The file; it need not exist.
        parse: Reads one line; raises ValueError for a line that is no entry.
    """

    def __init__(self, path: Path, parse: Callable[[str], Entry]) -> None:
        self.path = path
        self._parse = parse

    def read(self) -> list[Entry]:
        """All entries. A torn last line, of a writer that died, is left out.

        Raises:
            StorageError: If any other line is damaged, or the file cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"Cannot read {self.path}: {error}.") from error
        lines = content.split(b"\n")
        entries = []
        for number, line in enumerate(lines[:-1], start=1):  # the last piece has no newline
            try:
                entries.append(self._parse(line.decode("utf-8")))
            except ValueError as error:
                raise StorageError(
                    f"{self.path.name}:{number}: a line must be one complete record, but: "
                    f"{error} Restore the line from a backup or delete it; its trial runs again."
                ) from error
        return entries

    def repair(self) -> int:
        """Cut off a torn last line; returns how many bytes went.

        Raises:
            StorageError: If the file cannot be changed.
        """
        try:
            content = self.path.read_bytes()
            torn = len(content) - (content.rfind(b"\n") + 1)
            if torn:
                os.truncate(self.path, len(content) - torn)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StorageError(f"Cannot repair {self.path}: {error}.") from error
        return torn

    def append(self, entry: Entry) -> None:
        """Write one entry and sync it to the disk before returning.

        Raises:
            StorageError: If it cannot be written; the file is as it was before.
        """
        line = (entry.to_json() + "\n").encode("utf-8")
        try:
            with self.path.open("ab", buffering=0) as handle:
                size = handle.tell()
                try:
                    if handle.write(line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(handle.fileno())
                except OSError:
                    handle.truncate(size)
                    raise
        except OSError as error:
            raise StorageError(
                f"Cannot write {self.path}: {error}. Free space and run the same command again; "
                "everything recorded so far is kept."
            ) from error
