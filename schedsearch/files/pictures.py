"""Which files are pictures, by ending or first bytes; imports no torch."""

from __future__ import annotations

import mimetypes
from pathlib import Path

EXTENSIONS = frozenset(
    (
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".webp",
        ".gif",
        ".bmp",
        ".dib",
        ".ppm",
        ".pgm",
        ".pnm",
        ".tif",
        ".tiff",
        ".jp2",
    )
)
"""Endings of the files that are read, in any case; of animations the first frame."""

_PICTURES = frozenset(
    (
        ".avif",
        ".heic",
        ".heif",
        ".jxl",
        ".exr",
        ".hdr",
        ".tga",
        ".dng",
        ".cr2",
        ".nef",
        ".arw",
        ".psd",
        ".jpf",
        ".j2k",
        ".mpo",
    )
)
_MAGIC = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*"),
    b"\x00\x00\x00\x0cjP",
)
_CONTAINERS = frozenset(
    (
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".lmdb", ".mdb"),
        *(".npy", ".npz", ".pt", ".pth", ".safetensors", ".h5", ".hdf5", ".mat", ".pkl"),
        *(".parquet", ".arrow", ".tfrecord", ".mp4", ".avi", ".mov", ".mkv", ".webm"),
    )
)
"""Endings of files that may hold pictures."""


def is_picture(entry: Path) -> bool:
    """Whether a file is read, by its ending."""
    return entry.suffix.lower() in EXTENSIONS


def kind_left_out(entry: Path) -> str | None:
    """Kind of a picture or archive that is not read, or None for any other file."""
    if not entry.is_file():
        return "link to nothing" if entry.is_symlink() else "device or pipe"
    ending = entry.suffix.lower()
    guessed = mimetypes.guess_type(entry.name)[0] or ""
    if ending in _PICTURES | _CONTAINERS or guessed.startswith("image/"):
        return ending
    if guessed.startswith(("text/", "application/")):
        return None
    try:
        with entry.open("rb") as file:
            head = file.read(12)
    except OSError:
        return None
    if head.startswith(_MAGIC) or head[8:12] == b"WEBP" or head[4:8] == b"ftyp":
        return f"{ending} (a picture inside)" if ending else "picture without an ending"
    return None
