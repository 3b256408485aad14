"""What a weights file really is, by its first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from schedsearch.exceptions import CheckpointError

Layout = Literal["safetensors", "torch", "index"]

_HEAD = 512
"""Bytes that are looked at."""

_UNPACK = "Unpack it and name the file of weights in it"

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a gzip file", _UNPACK),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"\x89HDF", "an HDF5 file", "Save a state dict with torch, best as safetensors"),
    (b"GGUF", "a GGUF file", "Name the weights that it was made from"),
    (b"\x93NUMPY", "a NumPy array", "Save a state dict with torch, best as safetensors"),
)

_LFS = (b"version https://git-lfs", b"version https://hawser", b"# git-media")
_WEB = (b"<!doctype", b"<html", b"<?xml", b"<head")


def layout_of_file(path: Path) -> Layout:
    """Tell how to read a weights file, by its content rather than its name.

    Returns:
        ``index`` is the list of a sharded model's files.

    Raises:
        CheckpointError: If it holds no weights; the message says what it is.
        OSError: If it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise CheckpointError(
            f"The checkpoint {path} is empty, as after a crash while saving; copy or "
            "download it again."
        )
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return "safetensors"
    if path.suffix == ".json" and head.lstrip().startswith(b"{"):
        return "index"
    if (found := _what(path, head, size)) is not None:
        kind, remedy = found
        raise CheckpointError(
            f"The checkpoint {path} is {kind}, which holds no weights. {remedy}."
        )
    return "safetensors" if path.suffix == ".safetensors" and not _is_torch(head) else "torch"


def _is_torch(head: bytes) -> bool:
    """Whether these are the first bytes of a zip or a pickle."""
    return head.startswith((b"PK", b"\x80"))


def _what(path: Path, head: bytes, size: int) -> tuple[str, str] | None:
    """Kind and remedy of a file that holds no weights; None if it may hold some."""
    text = head.lstrip().lower()
    if head.startswith(_LFS):
        return (
            f"a Git LFS pointer of {size} bytes",
            "Fetch the file that it stands for with `git lfs pull`, or download it again",
        )
    if text.startswith(_WEB):
        return "a web page", "Download the file itself; the site may want a login or a token"
    for magic, kind, remedy in _MAGIC:
        if head.startswith(magic):
            return kind, remedy
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            return "a damaged zip archive", "It may be cut off: copy or download it again"
        if not any(name.endswith("data.pkl") for name in names):
            return "a zip archive that torch did not write", _UNPACK
        return None
    if not head.strip(b"\x00"):
        return "filled with zero bytes", "Copy or download it again"
    if not _is_torch(head) and _is_text(head):
        first = ascii(head.decode(errors="replace").strip().splitlines()[0][:40])
        return f"a text file that begins with {first}", "Name the file of weights"
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # NOTE: the last character may be cut
            return False
        text = head[: error.start].decode("utf-8")
    return bool(text.strip()) and all(c.isprintable() or c.isspace() for c in text)
