"""Writes files in one step, so no crash leaves half a file."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from schedsearch.files.printable import has_password


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block succeeds.

    Raises:
        OSError: If the disk is full or not writable; ``path`` is untouched then.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "It is no regular file and is not replaced", str(path))
    temporary = temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Name of the file that becomes ``path`` once it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder that replaces ``target`` if the block succeeds."""
    new = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    new.mkdir()
    try:
        yield new
        if target.is_dir():
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if old.is_dir():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Bring a new name to the disk, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str, *, mode: int | None = None) -> None:
    """Replace the content of a text file at once.

    Args:
        path: The file.
        text: Its new content.
        mode: Its permissions; None leaves them to the system, or to the owner alone where the
            text holds a password.
    """
    if has_password(text):
        mode = 0o600
    with replacing(path) as temporary:
        if mode is not None:
            temporary.touch(mode)
        temporary.write_text(text, encoding="utf-8")
