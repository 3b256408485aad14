"""What may lie in a run folder: files and folders of its own, nothing that leads elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from schedsearch.exceptions import StorageError

_FILES = {
    ".csv", ".db", ".json", ".jsonl", ".lock", ".log", ".png", ".pt", ".safetensors", ".tmp",
    ".txt", ".yaml",
}  # fmt: skip
"""Endings of files; no folder of a run has one."""


def refuse_odd_entries(root: Path, *, leaving_out: Path) -> None:
    """Refuse links, devices and pipes below a folder, and folders in place of files.

    Args:
        root: The folder; it need not exist.
        leaving_out: A folder below it that is not looked into.

    Raises:
        StorageError: With the first of them.
    """
    for path in _entries_below(root, leaving_out=leaving_out):
        if (kind := _odd_kind(path)) is not None:
            raise StorageError(
                f"{path} is {kind}, and a run folder holds its own files only. Remove it, or put "
                "a copy of the file in its place."
            )


def refuse_second_names(*paths: Path) -> None:
    """Refuse files that are written in place and have a name elsewhere, as ``cp -l`` makes.

    Raises:
        StorageError: With the first of them.
    """
    for path in paths:
        if path.is_file() and path.stat().st_nlink > 1:
            raise StorageError(
                f"{path} has a second name elsewhere (a hard link), and writing here would change "
                "it there. Put a copy of the file in its place."
            )


def _entries_below(folder: Path, *, leaving_out: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise StorageError(f"Cannot list {folder}: {error.strerror}.") from error
    for entry in entries:
        if entry == leaving_out:
            continue
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _entries_below(entry, leaving_out=leaving_out)


def _odd_kind(path: Path) -> str | None:
    """What stands where a run has a file or a folder of its own; None for one of these."""
    if path.is_symlink():
        return "a link"
    if path.is_dir():
        return "a folder in place of a file" if path.suffix in _FILES else None
    return None if path.is_file() else "a device or pipe"
