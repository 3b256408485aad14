"""Lists the pictures below a folder, and what was left out; imports no torch."""

from __future__ import annotations

import mimetypes
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schedsearch.exceptions import ConfigError
from schedsearch.files.content import why_not_a_folder

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

TOOL_FOLDERS = frozenset(
    ("@eadir", "__macosx", "__pycache__", "#recycle", "$recycle.bin", "lost+found", "thumbnails")
)
"""Folders that tools leave behind, in lower case; they and hidden ones are no part of the set."""

LIKELY_SLIPS = frozenset(
    ("train", "training", "val", "valid", "validation", "test", "images", "data")
)
"""Names of folders that hold classes, and are hardly ever one."""

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
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_ARCHIVES = frozenset((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"))
_NAMED = 3


@dataclass(frozen=True)
class FolderListing:
    """The pictures below a folder."""

    files: list[Path]
    labels: list[int] | None
    """Class of each file; None for a flat folder."""
    classes: list[str]
    """Names of the classes, in the order of their labels."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Pictures and folders that are not read, by ending or kind."""

    def warnings(self) -> tuple[str, ...]:
        """What a user should know about this folder."""
        found = []
        if self.left_out:
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.left_out.items()))
            found.append(
                f"{sum(self.left_out.values())} entries of the image folder are left out: "
                f"{kinds}. Convert or move what belongs to the data."
            )
        if slips := [name for name in self.classes if name.lower() in LIKELY_SLIPS]:
            found.append(
                f"The folders {', '.join(slips)} are taken for classes. If they hold class "
                "folders themselves, name one of them in data.path."
            )
        numbers = [name for name in self.classes if name.isascii() and name.isdigit()]
        moved = [i for i, name in enumerate(sorted(numbers, key=int)) if name != numbers[i]]
        if moved and len(numbers) == len(self.classes):
            found.append(
                f"The class folders are numbers, but are sorted as text: {numbers[moved[0]]!r} "
                f"has label {moved[0]}. Pad them with zeros if the network counts otherwise."
            )
        return tuple(found)


def list_pictures(path: Path) -> FolderListing:
    """List the pictures of a flat folder, or of one folder per class.

    Hidden files and folders, and those of tools, are left out at every level. A link is followed
    where it is a file or a class folder.

    Raises:
        ConfigError: If the path is no folder, holds no pictures, or a class is empty.
    """
    if (reason := why_not_a_folder(path)) is not None:
        raise ConfigError(f"data.path: {reason}.")
    left_out: Counter[str] = Counter()
    entries = _entries(path)
    folders = [entry for entry in entries if entry.is_dir() and not _is_picture(entry)]
    loose = _among([entry for entry in entries if entry not in folders], left_out)
    if not folders:
        if not loose:
            raise ConfigError(
                f"data.path {path} holds no images ({', '.join(sorted(EXTENSIONS))})"
                f"{_counted(left_out)}."
            )
        return FolderListing(loose, None, [], left_out)
    if loose:
        raise ConfigError(
            f"data.path {path} holds class folders and {len(loose)} loose images such as "
            f"{loose[0].name}, which belong to no class. Move them into a class folder or away."
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        mine: Counter[str] = Counter()
        members = sorted(_below(folder, mine))
        if not members:
            raise ConfigError(
                f"data.path {path}: the class folder {folder.name!r} holds no images"
                f"{_counted(mine)}; remove it or fill it. Every subfolder is a class."
            )
        files += members
        labels += [label] * len(members)
        left_out += mine
    return FolderListing(files, labels, [folder.name for folder in folders], left_out)


def class_warnings(path: Path, num_classes: int | None) -> tuple[str, ...]:
    """Warnings on the names and the number of the class folders, without listing the files.

    Args:
        path: The image folder.
        num_classes: Classes of the network; None if it has none or they are unknown.
    """
    names = [entry.name for entry in _entries(path) if entry.is_dir() and not _is_picture(entry)]
    found = FolderListing([], None, names).warnings()
    if names and num_classes is not None and len(names) < num_classes:
        return (*found, classes_warning(names, len(names), num_classes))
    return found


def classes_warning(names: Sequence[str], found: int, wanted: int) -> str:
    """A warning for data with fewer classes than the network."""
    named = f" ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
    return (
        f"The data has {found} classes{named if names else ''}, but the network {wanted}. Labels "
        f"count from 0, so classes {found} to {wanted - 1} are never trained, and each name must "
        "be that of its label. Check that data.path is the folder of the classes."
    )


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder and belongs to the data, sorted."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"Cannot list {folder}: {error.strerror}.") from error
    return [
        entry
        for entry in found
        if not entry.name.startswith(".")
        and not (entry.name.lower() in TOOL_FOLDERS and entry.is_dir())
    ]


def _below(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Pictures in a class folder and its subfolders."""
    entries = _entries(folder)
    inner = [entry for entry in entries if entry.is_dir() and not _is_picture(entry)]
    yield from _among([entry for entry in entries if entry not in inner], left_out)
    for entry in inner:
        if entry.is_symlink():  # NOTE: it may lead round in a circle
            left_out["linked folder"] += 1
        else:
            yield from _below(entry, left_out)


def _among(entries: Sequence[Path], left_out: Counter[str]) -> list[Path]:
    pictures = []
    for entry in entries:
        if _is_picture(entry):
            pictures.append(entry)
        elif (kind := _other_picture(entry)) is not None:
            left_out[kind] += 1
    return pictures


def _is_picture(entry: Path) -> bool:
    return entry.suffix.lower() in EXTENSIONS


def _other_picture(entry: Path) -> str | None:
    """Kind of a picture or archive that is not read, or None for any other file."""
    ending = entry.suffix.lower()
    guessed = mimetypes.guess_type(entry.name)[0] or ""
    if ending in _PICTURES | _ARCHIVES or guessed.startswith("image/"):
        return ending
    if guessed.startswith(("text/", "application/")) or not entry.is_file():
        return None
    try:
        with entry.open("rb") as file:
            head = file.read(12)
    except OSError:
        return None
    if head.startswith(_MAGIC) or head[8:12] == b"WEBP":
        return f"{ending} (a picture inside)" if ending else "picture without an ending"
    return None


def _counted(left_out: Counter[str]) -> str:
    if not left_out:
        return ""
    return f", but {', '.join(f'{n} {kind}' for kind, n in sorted(left_out.items()))}"
