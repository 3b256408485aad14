"""What a path is, and what a file holds by its first bytes; imports no torch."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

from schedsearch.exceptions import ConfigError

_HEAD = 512
"""Bytes that are looked at."""

_UNPACK = "Unpack it and name the file in it"
_SAVE = "Save a state dict with torch, best as safetensors"
_NAME = "Name the file that was meant"

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a gzip file", _UNPACK),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz file", _UNPACK),
    (b"]\x00\x00", "an lzma file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    (b"\x04\x22\x4d\x18", "an lz4 file", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"\x89HDF", "an HDF5 file", _SAVE),
    (b"GGUF", "a GGUF file", "Name the weights that it was made from"),
    (b"\x93NUMPY", "a NumPy array", _SAVE),
    (b"SQLite format 3", "a SQLite database", _NAME),
    (b"PAR1", "a Parquet file", _NAME),
    (b"%PDF", "a PDF", _NAME),
    (b"\x89PNG", "a picture", _NAME),
    (b"\xff\xd8\xff", "a picture", _NAME),
    (b"GIF8", "a picture", _NAME),
)

_LFS = (b"version https://git-lfs", b"version https://hawser", b"# git-media", b"# xet version")
_WEB = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--", b"http/1.")
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def as_path(value: object) -> Path:
    """The path that an argument names, with the home folder in place of ``~``.

    Raises:
        ConfigError: If it is neither text nor a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"A file is named by text or a path, got a {type(value).__name__}.")
    # NOTE: Path.expanduser fails for unknown users.
    return Path(os.path.expanduser(value))  # noqa: PTH111


def why_not_a_file(path: Path) -> str | None:
    """Why a path cannot be read as a file, or None."""
    try:
        if path.is_file():
            return None
        if path.is_dir():
            return f"{path} is a folder, not a file"
    except OSError as error:  # such as a name that is too long
        return f"{path}: {error.strerror}"
    return _why_nothing(path, "file")


def why_not_a_folder(path: Path) -> str | None:
    """Why a path cannot be read as a folder, or None."""
    try:
        if path.is_dir():
            return None
        if path.is_file():
            if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
                return f"{path} is an archive file; unpack it and name the folder"
            return f"{path} is a file, not a folder"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return _why_nothing(path, "folder")


def _why_nothing(path: Path, wanted: str) -> str:
    if path.is_symlink():
        return f"{path} is a link to nothing"
    if path.exists():
        return f"{path} is a device or pipe, not a {wanted}"
    return f"the {wanted} {path} does not exist" + (
        "" if path.parent.is_dir() else ", nor does its folder"
    )


def kind_of(path: Path) -> tuple[str, str] | None:
    """Kind and remedy of a file that holds neither weights nor arrays by names.

    Returns:
        None for a zip archive of torch or NumPy, a pickle, safetensors, or unknown content.

    Raises:
        OSError: If it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "empty, as after a crash while saving", "Copy or download it again"
    if head.startswith(_LFS):
        return (
            f"a Git LFS pointer of {size} bytes",
            "Fetch the file that it stands for with `git lfs pull`, or download it again",
        )
    for magic, kind, remedy in _MAGIC:
        if head.startswith(magic):
            return kind, remedy
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if zipfile.is_zipfile(path):
        return _kind_of_zip(path)
    if not head.strip(b"\x00"):
        return "filled with zero bytes", "Copy or download it again"
    if not head.startswith((b"PK", b"\x80")) and (text := _text_of(head)):
        if text.lower().encode().startswith(_WEB):
            return "a web page", "Download the file itself; the site may want a login or a token"
        return f"a text file that begins with {text.splitlines()[0][:40]!a}", _NAME
    return None


def _kind_of_zip(path: Path) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "a damaged zip archive", "It may be cut off: copy or download it again"
    if any(name.endswith(("data.pkl", ".npy")) for name in names):
        return None
    return "a zip archive without tensors or arrays", _UNPACK


def _text_of(head: bytes) -> str:
    """The beginning of a text file, stripped; empty for other content."""
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
    try:
        text = head.decode(encoding)
    except UnicodeDecodeError as error:
        # NOTE: The last character may be cut; web pages may have any encoding.
        web = head.lstrip().lower().startswith(_WEB)
        if error.start < len(head) - 3 and not web:
            return ""
        text = head[: error.start].decode(encoding)
    text = text.strip()
    return text if all(c.isprintable() or c.isspace() for c in text) else ""
