"""Which trials a study holds open, read without changing anything."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from schedsearch.exceptions import StorageError

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings


def running_trials(folder: RunFolder, settings: StudySettings) -> list[int]:
    """Numbers of trials that are RUNNING in the study, dead ones too.

    SQLite is read directly, because opening it through Optuna writes to it.

    Raises:
        StorageError: If the study cannot be read.
    """
    if settings.search.storage is not None:
        return _running_in(folder, settings.name, settings.search.storage)
    if not folder.study_file.is_file():
        return []
    try:
        connection = sqlite3.connect(_read_only(folder), uri=True, timeout=10)
        try:
            rows = connection.execute(
                "SELECT number FROM trials WHERE state = 'RUNNING' ORDER BY number"
            ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StorageError(
            f"Cannot read {folder.study_file}: {error}. If it is damaged, move it away; "
            "`schedsearch run` rebuilds it from results.jsonl."
        ) from error
    return [int(number) for (number,) in rows]


def _read_only(folder: RunFolder) -> str:
    """URI of the study that changes no file.

    Without a write-ahead log nobody has the study open. SQLite would then leave an empty log
    behind, or fail in a folder that must not be written, so it takes the file as it is.
    """
    log = folder.study_file.with_name(f"{folder.study_file.name}-wal")
    return f"{folder.study_file.as_uri()}?{'mode=ro' if log.exists() else 'immutable=1'}"


def _running_in(folder: RunFolder, name: str, url: str) -> list[int]:
    """The same in a storage that the user named."""
    import optuna

    from schedsearch.search.study.storage import explaining_failures, open_storage

    with explaining_failures(name):
        storage = open_storage(folder, url)
        if name not in optuna.get_all_study_names(storage):
            return []
        study = optuna.load_study(study_name=name, storage=storage)
        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        return [trial.number for trial in running]
