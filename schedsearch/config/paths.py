"""Paths in a search space file: relative to the file, absolute in the result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schedsearch.files.problems import KeyPath

FROM_FOLDER = "a relative path counts from the folder of the file"
"""Remedy for a path in a file that leads nowhere."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where relative paths start, and whether the disk is looked at.

    Args:
        folder: Folder of the file.
        overrides: Keys from the command line; their paths start at the current folder, as
            any other path on a command line does.
        check_disk: False for a file that was checked before and may have moved since: files
            and importable classes are then taken for granted.
    """

    folder: Path
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)
    check_disk: bool = True

    def absolute(self, key: KeyPath, text: str) -> Path:
        """The absolute path that ``text``, the value of ``key``, stands for."""
        overridden = any(key[: len(prefix)] == prefix for prefix in self.overrides)
        base = Path.cwd() if overridden else self.folder
        # abspath rather than resolve: a link to "the current weights" stays that link.
        return Path(os.path.abspath(base / Path(text).expanduser()))  # noqa: PTH100


def why_not_a_file(path: Path) -> str | None:
    """Why a path cannot be read as a file, or None."""
    if path.is_file():
        return None
    if path.is_dir():
        return f"{path} is a folder, not a file"
    parent = path.parent
    if not parent.is_dir():
        return f"the file {path} does not exist, nor does its folder"
    return f"the file {path} does not exist"
