"""``space.yaml`` of a run folder: written with a checksum, read only if it matches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.config import dump_settings, settings_from_text
from schedsearch.exceptions import StorageError
from schedsearch.files.checksums import opened_yaml, sealed_yaml
from schedsearch.files.printable import has_password
from schedsearch.runs.checks.identity import place_in

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings


def read_space(folder: RunFolder) -> StudySettings:
    """The search space of a run.

    Raises:
        StorageError: If the file is damaged, of another run, or cannot be read.
        ConfigError: If it was edited and is no valid space any more.
    """
    path = folder.space_file
    place = place_in(folder, path)
    try:
        text = opened_yaml(path.read_bytes().decode("utf-8"), place)
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}:1: cannot be read: {str(error).rstrip('.')}. Restore the file from a backup. "
            "Where it was edited on purpose, remove its first line, which holds the checksum."
        ) from error
    return settings_from_text(text)


def write_space(folder: RunFolder, settings: StudySettings) -> None:
    """Keep the search space of a run; a file with a password is for its owner alone.

    Raises:
        StorageError: If it cannot be written.
    """
    place = place_in(folder, folder.space_file)
    text = sealed_yaml(dump_settings(settings), place or "")
    url = settings.search.storage
    secret = url is not None and has_password(url)
    folder.write(folder.space_file, text, mode=0o600 if secret else None)
