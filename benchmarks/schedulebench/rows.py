"""Rows of a table while it is made: one fsynced JSON line each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.files.atomic import write_text
from schedsearch.runs.journal import Journal

PROTOCOL = "protocol.json"
"""What all rows of a folder have in common; rows of two protocols never meet."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Row:
    """One measured row of a table."""

    values: dict[str, Any]

    @property
    def key(self) -> str:
        """What is measured once: a schedule, or a schedule at an evaluation seed."""
        return str(self.values["key"])

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self.values)

    @classmethod
    def from_json(cls, line: str) -> Row:
        """Read :meth:`to_json`; ValueError when it is no row."""
        values = json.loads(line)
        if not isinstance(values, dict) or "key" not in values:
            raise ValueError("a row needs a key.")
        return cls(values)


class RowFolder:
    """The rows of one table, in one file per shard; see :meth:`open`.

    Args:
        folder: Where the files lie.
        own: The file that this process appends to.
    """

    def __init__(self, folder: Path, own: Journal[Row]) -> None:
        self.folder = folder
        self._own = own

    @classmethod
    def open(cls, folder: Path, shard: int = 0, num_shards: int = 1) -> Self:
        """Open a folder, or make it; a torn last line is cut off.

        Args:
            folder: Where the files lie.
            shard: Number of this process, from 0.
            num_shards: Processes that share the work.

        Raises:
            StorageError: If the file cannot be changed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        own = Journal(folder / f"rows-{shard}of{num_shards}.jsonl", Row.from_json, checked=False)
        own.repair()
        return cls(folder, own)

    def rows(self) -> list[Row]:
        """All rows of all shards; of equal keys the first."""
        found: dict[str, Row] = {}
        for path in sorted(self.folder.glob("rows-*.jsonl")):
            for row in Journal(path, Row.from_json, checked=False).read():
                found.setdefault(row.key, row)
        return list(found.values())

    def done(self) -> set[str]:
        """What has been measured."""
        return {row.key for row in self.rows()}

    def append(self, **values: Any) -> None:
        """Add a row; it is on the disk when this returns."""
        self._own.append(Row(values))

    def bind(self, protocol: dict[str, Any]) -> None:
        """Write down how the rows are measured, or check that it is how they were.

        Raises:
            ConfigError: If the folder holds rows of another protocol, or does not say all of
                theirs.
        """
        path = self.folder / PROTOCOL
        protocol = json.loads(json.dumps(protocol))
        if not path.is_file():
            write_text(path, json.dumps(protocol, indent=1) + "\n")
            return
        kept = self.protocol()
        unsaid = {key: value for key, value in protocol.items() if key not in kept}
        if unsaid and {**kept, **unsaid} == protocol:
            text = json.dumps(unsaid)[1:-1]
            raise ConfigError(
                f"{path} does not say {' and '.join(unsaid)}, which all rows must share; if they "
                f"were measured by this very study, add {text} there, else choose another "
                "--output."
            )
        differing = sorted(k for k in {*kept, *protocol} if kept.get(k) != protocol.get(k))
        if differing:
            raise ConfigError(
                f"{self.folder} holds rows that were measured otherwise ({', '.join(differing)} "
                "differ); choose another --output."
            )

    def protocol(self) -> dict[str, Any]:
        """What :meth:`bind` wrote.

        Raises:
            StorageError: If the file is damaged.
        """
        path = self.folder / PROTOCOL
        try:
            protocol = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise StorageError(f"Cannot read {path}: {error}. Choose another folder.") from error
        if not isinstance(protocol, dict):
            raise StorageError(f"{path} holds no protocol. Choose another folder.")
        return protocol


def sharded(items: Sequence[Item], shard: int, num_shards: int) -> list[Item]:
    """Every ``num_shards``-th item from ``shard`` on; the shards together hold all."""
    return list(items[shard::num_shards])


def chunks(items: Sequence[Item], shard: int, num_shards: int) -> list[Item]:
    """The ``shard``-th of ``num_shards`` contiguous parts, for items that share work in a row."""
    bounds = [len(items) * k // num_shards for k in range(num_shards + 1)]
    return list(items[bounds[shard] : bounds[shard + 1]])


def digest(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def key_of(depths: Sequence[int], *more: object) -> str:
    """Key of a row: depths, and what else tells it from others."""
    return "-".join(map(str, depths)) + "".join(f"/{part}" for part in more)


def missing(items: Sequence[tuple[int, ...]], done: set[str]) -> Iterator[tuple[int, ...]]:
    """The schedules without a row."""
    return (item for item in items if key_of(item) not in done)
