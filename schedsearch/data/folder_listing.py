"""Lists the pictures below a folder, and what was left out; imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schedsearch.exceptions import ConfigError
from schedsearch.files.content import why_not_a_folder
from schedsearch.files.pictures import EXTENSIONS, is_picture, kind_left_out

TOOL_FOLDERS = frozenset(
    (
        *("@eadir", "__macosx", "__pycache__", "thumbnails", "lost+found", "node_modules"),
        *("#recycle", "@recycle", "$recycle.bin", "#snapshot", "system volume information"),
    )
)
"""Folders that tools leave behind, in lower case; they and hidden ones are no part of the set."""

LIKELY_SLIPS = frozenset(
    (
        *("train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"),
        *("images", "imgs", "data", "set", "split", "fold", "part"),
    )
)
"""Words of folders that hold classes, and are hardly ever one."""

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
    inner: Counter[str] = field(default_factory=Counter)
    """Pictures in subfolders of classes, by the name of the subfolder."""

    def warnings(self) -> tuple[str, ...]:
        """What a user should know about this folder."""
        found = []
        if self.left_out:
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.left_out.items()))
            found.append(
                f"{sum(self.left_out.values())} entries of the image folder are left out: "
                f"{kinds}. Convert or move what belongs to the data."
            )
        if self.inner:
            names = list(self.inner)
            found.append(
                f"{self.inner.total()} images lie in subfolders of class folders "
                f"({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}) and are "
                "read as pictures of the class. Move away what is none."
            )
        if slips := [name for name in self.classes if _is_slip(name)]:
            found.append(
                f"The folders {', '.join(slips)} are taken for classes. If they hold class "
                "folders themselves, name one of them in data.path."
            )
        plain = all(name.isascii() and name.isdigit() for name in self.classes)
        wanted = sorted(self.classes, key=_natural)
        for label, (name, other) in enumerate(zip(self.classes, wanted, strict=True)):
            if name != other or (plain and int(name) != label):
                found.append(
                    f"Labels count the class folders, sorted as text: {name!r} has label {label}. "
                    "Rename the folders, padded with zeros, if the network counts otherwise."
                )
                break
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
    folders = [entry for entry in entries if entry.is_dir() and not is_picture(entry)]
    _refuse_same(folders, path)
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
    inner: Counter[str] = Counter()
    for label, folder in enumerate(folders):
        mine: Counter[str] = Counter()
        members = sorted(_below(folder, mine))
        inner.update(m.relative_to(folder).parts[0] for m in members if m.parent != folder)
        if not members:
            raise ConfigError(
                f"data.path {path}: the class folder {folder.name!r} holds no images"
                f"{_counted(mine)}; remove it or fill it. Every subfolder is a class."
            )
        files += members
        labels += [label] * len(members)
        left_out += mine
    return FolderListing(files, labels, [folder.name for folder in folders], left_out, inner)


def class_warnings(path: Path, num_classes: int | None) -> tuple[str, ...]:
    """Warnings on the names and the number of the class folders, without listing the files.

    Args:
        path: The image folder.
        num_classes: Classes of the network; None if it has none or they are unknown.
    """
    names = [entry.name for entry in _entries(path) if entry.is_dir() and not is_picture(entry)]
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


def _refuse_same(folders: Sequence[Path], root: Path) -> None:
    """Refuse class folders that are links to each other, or to a folder above them.

    Raises:
        ConfigError: With the names.
    """
    real = {root.resolve(): root, **{p.resolve(): p for p in root.resolve().parents}}
    for folder in folders:
        other = real.setdefault(folder.resolve(), folder)
        if other is not folder:
            raise ConfigError(
                f"data.path {root}: the class folders {folder.name!r} and {str(other)!r} are the "
                "same folder, so its images would count twice. Remove the link."
            )


def _is_slip(name: str) -> bool:
    words = re.findall(r"[a-z]+", name.lower())
    return bool(words) and LIKELY_SLIPS.issuperset(words)


def _natural(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Key that sorts the numbers in names by their value."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts], name


def _below(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Pictures in a class folder and its subfolders."""
    entries = _entries(folder)
    inner = [entry for entry in entries if entry.is_dir() and not is_picture(entry)]
    yield from _among([entry for entry in entries if entry not in inner], left_out)
    for entry in inner:
        if entry.is_symlink():  # NOTE: it may lead round in a circle
            left_out["linked folder"] += 1
        else:
            yield from _below(entry, left_out)


def _among(entries: Sequence[Path], left_out: Counter[str]) -> list[Path]:
    pictures = []
    for entry in entries:
        if is_picture(entry):
            pictures.append(entry)
        elif (kind := kind_left_out(entry)) is not None:
            left_out[kind] += 1
    return pictures


def _counted(left_out: Counter[str]) -> str:
    if not left_out:
        return ""
    return f", but {', '.join(f'{n} {kind}' for kind, n in sorted(left_out.items()))}"
