"""Files and classes that a search space names: where they are, and whether they exist."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.files.problems import KeyPath

if TYPE_CHECKING:
    from schedsearch.settings import StudySettings

PACKAGE_PREFIX = "package:"
"""Marks a checkpoint that ships in ``schedsearch/pretrained``."""

_PATH_KEYS = (
    ("backbone", "checkpoint"),
    ("data", "path"),
    ("data", "vae"),
    ("data", "reference_path"),
    ("evaluation", "features_path"),
    ("evaluation", "auditor_path"),
)

_IMPORT_STRING = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where relative paths start.

    Args:
        folder: Folder of the file.
        overrides: Keys from the command line; their paths start at the current folder.
    """

    folder: Path
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)

    def absolute(self, key: KeyPath, text: str) -> Path:
        """The absolute path that ``text``, the value of ``key``, stands for."""
        overridden = any(key[: len(prefix)] == prefix for prefix in self.overrides)
        base = Path.cwd() if overridden else self.folder
        # NOTE: abspath, not resolve: a link to "the current weights" stays that link.
        return Path(os.path.abspath(base / Path(text).expanduser()))  # noqa: PTH100

    def make_absolute(self, data: Any) -> Any:
        """A copy of the sections, as plain data, in which every path is absolute."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        for section, key in _PATH_KEYS:
            values = data.get(section)
            text = values.get(key) if isinstance(values, Mapping) else None
            if isinstance(text, str | os.PathLike) and not _ships(text):
                path = str(self.absolute((section, key), os.fspath(text)))
                data[section] = {**values, key: path}
        if isinstance(entries := data.get("warm_start"), list):
            data["warm_start"] = [
                str(self.absolute(("warm_start", i), entry)) if names_a_file(entry) else entry
                for i, entry in enumerate(entries)
            ]
        return data


def named_files(settings: StudySettings) -> list[str]:
    """The files and folders that a resolved search space names, but for those that ship."""
    values = (getattr(getattr(settings, section), key) for section, key in _PATH_KEYS)
    paths = [text for text in values if text is not None and not _ships(text)]
    # A suffix chooses one of several sets of weights.
    return [path if Path(path).exists() else path.rpartition("#")[0] or path for path in paths]


def _ships(text: object) -> bool:
    return isinstance(text, str) and text.startswith(PACKAGE_PREFIX)


def names_a_file(entry: object) -> bool:
    """Whether a text means a file rather than the name of a preset or recipe."""
    return isinstance(entry, str) and re.search(r"[/\\]|\.(yaml|yml)$|^~", entry) is not None


def why_not_a_file(path: Path) -> str | None:
    """Why a path cannot be read as a file, or None."""
    if path.is_file():
        return None
    if path.is_dir():
        return f"{path} is a folder, not a file"
    if path.is_symlink():
        return f"{path} is a link to nothing"
    if path.exists():
        return f"{path} is a device or pipe, not a file"
    return f"the file {path} does not exist" + (
        "" if path.parent.is_dir() else ", nor does its folder"
    )


def why_not_a_folder(path: Path) -> str | None:
    """Why a path cannot be read as a folder, or None."""
    if path.is_dir():
        return None
    if path.is_file():
        if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
            return f"{path} is an archive file; unpack it and name the folder"
        return f"{path} is a file, not a folder"
    if path.is_symlink():
        return f"{path} is a link to nothing"
    return f"the folder {path} does not exist"


def is_import_string(text: str) -> bool:
    """Whether a name has the form ``package.module:Class``."""
    return _IMPORT_STRING.fullmatch(text) is not None


def why_not_importable(text: str) -> tuple[str, str | None] | None:
    """Why the module of ``package.module:Class`` is not found, and a remedy; or None.

    Nothing is imported, so the class itself is looked up when a run starts.
    """
    if not is_import_string(text):
        return f"{text!r} is not of the form package.module:Class", None
    first, *others = text.partition(":")[0].split(".")
    try:
        spec = find_spec(first)
    except (ImportError, ValueError):  # ValueError: a module in memory without a spec
        spec = None
    name = first
    for part in others:
        # NOTE: find_spec("a.b") would import a, so look b up in the folders of a.
        if spec is None:
            break
        name = f"{name}.{part}"
        folders = spec.submodule_search_locations
        spec = None if folders is None else PathFinder.find_spec(name, list(folders))
    if spec is not None:
        return None
    return f"there is no module {name!r}", "install its package, or put its folder on PYTHONPATH"
