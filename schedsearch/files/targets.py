"""Checks the files that a command will write, before it does any work."""

from __future__ import annotations

import os
from pathlib import Path

from schedsearch.exceptions import ConfigError
from schedsearch.files.atomic import temporary_beside


def check_target(path: Path, endings: tuple[str, ...] = ()) -> None:
    """Refuse a file that a user named and that cannot be written.

    Args:
        path: The file.
        endings: How its name may end, such as ``.npz``; empty for any name.

    Raises:
        ConfigError: If its folder is missing or not writable, its ending means another format,
            or something else than a regular file stands there, such as a folder or a device.
    """
    folder = path.absolute().parent
    try:
        if path.name in ("", ".", "..") or path.is_dir():
            reason, remedy = "it is a folder", "Name a file"
        elif not folder.is_dir():
            reason, remedy = f"there is no folder {folder}", "Make it"
        elif os.path.lexists(path) and not path.is_file():
            kind = "a link to nothing" if path.is_symlink() else "a device or pipe"
            reason, remedy = f"it is {kind}, not a regular file", "Choose another name"
        elif not os.access(folder, os.W_OK | os.X_OK):
            reason, remedy = f"the folder {folder} is not writable", "Choose another one"
        elif endings and path.suffix.lower() not in endings:
            reason = f"its name must end in {' or '.join(endings)}"
            remedy = f"Name for example {path.with_suffix(endings[0])}"
        else:
            # NOTE: Only an attempt finds long names and folders like /proc.
            temporary_beside(path).touch()
            temporary_beside(path).unlink()
            return
    except OSError as error:
        reason, remedy = error.strerror or str(error), "Choose another name"
    raise ConfigError(f"Cannot write {path}: {reason}. {remedy}.")


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made, or that holds anything.

    Args:
        folder: Folder that a user named.

    Raises:
        ConfigError: If its parent is missing or not writable, or something stands there.
    """
    parent = folder.absolute().parent
    if not parent.is_dir():
        reason, remedy = f"there is no folder {parent}", "Make it"
    elif not os.access(parent, os.W_OK | os.X_OK):
        reason, remedy = f"the folder {parent} is not writable", "Choose another one"
    elif os.path.lexists(folder) and not folder.is_dir():
        reason, remedy = "it is no folder", "Choose another name"
    elif folder.is_dir() and any(folder.iterdir()):
        reason, remedy = "the folder is not empty", "Choose another name"
    else:
        return
    raise ConfigError(f"Cannot write {folder}: {reason}. {remedy}.")
