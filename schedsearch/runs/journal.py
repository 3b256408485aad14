"""``results.jsonl``: the record of a run, one fsynced line per finished trial."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from schedsearch.exceptions import StorageError
from schedsearch.files.atomic import replacing
from schedsearch.files.checksums import holds_whole_line, opened, place_of, sealed

_log = logging.getLogger(__name__)


class JsonLine(Protocol):
    """Anything that is kept as one line of JSON."""

    def to_json(self) -> str:
        """One line of JSON."""
        ...


class Counts(Protocol):
    """Knows how many lines a journal must hold."""

    def of(self, name: str) -> int:
        """Lines that are known to be there."""
        ...

    def note(self, name: str, count: int) -> None:
        """Remember the lines of a journal."""
        ...


Entry = TypeVar("Entry", bound=JsonLine)


class Journal(Generic[Entry]):
    """Append-only file of one entry per line.

    Args:
        path: The file; it need not exist.
        parse: Reads one line without its checksum; raises ValueError for one that is no entry.
        rules: Makes a check for the entries of one reading, in order; it raises ValueError.
        counts: Knows the least number of lines; None trusts the end of the file.
        checked: Whether each line carries a checksum, as those of a run do.
        place: Run and file, which the checksum of a line names with the line's number. So a
            line of another run is found, and one that was moved or copied. None skips this.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[str], Entry],
        *,
        rules: Callable[[], Callable[[Entry], None]] | None = None,
        counts: Counts | None = None,
        checked: bool = True,
        place: str | None = None,
    ) -> None:
        self.path = path
        self._parse = parse
        self._rules = rules
        self._counts = counts
        self._has_checksums = checked
        self._place = place
        self._ends: tuple[int, int] | None = None
        """Lines of the file, and the number in the last one; None before they are counted."""

    def read(self) -> list[Entry]:
        """All entries. A torn last line, of a writer that died, is left out.

        Raises:
            StorageError: If a line is damaged, lines are lost, or the file cannot be read.
        """
        entries: list[Entry] = []
        for number, _, found in self._checked():
            if isinstance(found, ValueError):
                reason = str(found).rstrip(".")
                raise StorageError(
                    f"{self.path}:{number}: a line must be one complete record, but: {reason}. "
                    "Restore it from a backup, or let `schedsearch recover` set it aside; what "
                    "it held is measured again."
                ) from found
            entries.append(found)
        known = 0 if self._counts is None else self._counts.of(self.path.name)
        if len(entries) < known:
            raise StorageError(
                f"{self.path}:{len(entries) + 1}: the file held {known} lines, but has "
                f"{len(entries)}: lines are lost. Restore it from a backup, or run the command "
                "that made it again: it measures what is lost."
            )
        return entries

    def repair(self) -> int:
        """Cut off a torn last line and accept a lost end; returns how many bytes went.

        Raises:
            StorageError: If the file cannot be changed.
        """
        try:
            content = self.path.read_bytes()
            torn = len(content) - (content.rfind(b"\n") + 1)
            if torn and holds_whole_line(content[-torn:]):
                return 0  # no writer leaves that: reading says so
            if torn:
                os.truncate(self.path, len(content) - torn)
        except FileNotFoundError:
            content, torn = b"", 0
        except OSError as error:
            raise StorageError(f"Cannot repair {self.path}: {error}.") from error
        self._ends = None
        if self._counts is not None:
            count, known = content.count(b"\n"), self._counts.of(self.path.name)
            if count < known:
                _log.warning("%s lost %d lines at its end", self.path.name, known - count)
            if count != known:
                self._counts.note(self.path.name, count)
        return torn

    def set_aside(self, target: Path) -> list[int]:
        """Move damaged lines into another file; returns their numbers.

        Raises:
            StorageError: If a file cannot be read or written.
        """
        checked = list(self._checked())
        damaged = [(n, line) for n, line, found in checked if isinstance(found, ValueError)]
        if damaged:
            numbers = {number for number, _ in damaged}
            whole = [line.decode("utf-8") for number, line, _ in checked if number not in numbers]
            kept = [self._line_of(text, number) for number, text in enumerate(whole, start=1)]
            self._ends = None
            try:
                with target.open("ab") as handle:
                    handle.writelines(line + b"\n" for _, line in damaged)
                    os.fsync(handle.fileno())
                with replacing(self.path) as temporary:
                    temporary.write_bytes(b"".join(kept))
            except OSError as error:
                raise StorageError(f"Cannot set lines of {self.path} aside: {error}.") from error
        return [number for number, _ in damaged]

    def append(self, entry: Entry) -> None:
        """Write one entry and sync it to the disk before returning.

        Raises:
            StorageError: If it cannot be written; the file is as it was before.
        """
        count, last = self._counted()
        line = self._line_of(entry.to_json(), last + 1)
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
        self._ends = (count + 1, last + 1)
        if self._counts is not None:
            self._counts.note(self.path.name, count + 1)

    def _line_of(self, text: str, number: int) -> bytes:
        """One line of the file, sealed for its number."""
        if self._has_checksums:
            text = sealed(text, "" if self._place is None else f"{self._place}:{number}")
        return (text + "\n").encode("utf-8")

    def _counted(self) -> tuple[int, int]:
        """Lines of the file, and the number in the last one."""
        if self._ends is None:
            try:
                lines = self.path.read_bytes().split(b"\n")[:-1]
            except FileNotFoundError:
                lines = []
            except OSError as error:
                raise StorageError(f"Cannot read {self.path}: {error}.") from error
            last = place_of(lines[-1].decode("utf-8", "replace")) if lines else ""
            self._ends = len(lines), max(len(lines), _number_in(last))
        return self._ends

    def _checked_number(self, text: str, before: int) -> int:
        """The number that a line was written with.

        Raises:
            ValueError: If it belongs to another file or run, or does not follow the one before.
        """
        file, _, _ = (place := place_of(text)).rpartition(":")
        if file != self._place:
            raise ValueError(f"it belongs to {file or 'no run'}, not to {self._place}.")
        if (number := _number_in(place)) <= before:
            raise ValueError(f"it was written as line {number} and stands after line {before}.")
        return number

    def _checked(self) -> Iterator[tuple[int, bytes, Entry | ValueError]]:
        """Number, bytes and entry of every line, or what is wrong with it."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"Cannot read {self.path}: {error}.") from error
        *lines, rest = content.split(b"\n")
        if holds_whole_line(rest):
            lines.append(rest)
        check = None if self._rules is None else self._rules()
        last = 0
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8")
                entry = self._parse(opened(text) if self._has_checksums else text)
                if line is rest:
                    raise ValueError("its end is damaged.")
                if self._place is not None:
                    last = self._checked_number(text, last)
                if check is not None:
                    check(entry)
            except ValueError as error:
                yield number, line, error
            else:
                yield number, line, entry


def _number_in(place: str) -> int:
    """The line that a place ends with; 0 where it names none."""
    number = place.rpartition(":")[2]
    return int(number) if number.isdecimal() and len(number) < 20 else 0
