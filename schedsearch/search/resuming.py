"""Whether a run folder may be gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.config import differing_keys, settings_from_text
from schedsearch.exceptions import ConfigError, StorageError

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings

MAY_CHANGE = ("search.n_trials", "search.budget", "resources")
"""Keys that may differ when a run is resumed."""


def refuse_other_space(settings: StudySettings, folder: RunFolder) -> None:
    """A run folder belongs to one search space.

    Raises:
        ConfigError: With the keys that differ.
        StorageError: If there are results of an unknown space.
    """
    if not folder.space_file.is_file():
        if folder.results_file.exists():
            raise StorageError(
                f"{folder.root} holds results but no space.yaml, so nothing says what they mean. "
                "Restore the file, or choose another folder with --output."
            )
        return
    stored = settings_from_text(folder.space_file.read_text(encoding="utf-8"))
    if differing := differing_keys(stored, settings, ignoring=MAY_CHANGE):
        raise ConfigError(
            f"{folder.root} was started with another search space; these keys differ: "
            f"{', '.join(differing)}. Restore them, or choose another folder with --output. "
            f"Only {', '.join(MAY_CHANGE[:-1])} and {MAY_CHANGE[-1]} may change."
        )
