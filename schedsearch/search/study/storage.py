"""The Optuna study of a run: opened, checked and named in one place."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy.exc
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage, RDBStorage

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.files.mounts import network_file_system
from schedsearch.records import OBJECTIVES
from schedsearch.runs.checks.space_file import without_password

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder

_FAILURES = (
    sqlalchemy.exc.SQLAlchemyError,
    sqlite3.Error,
    optuna.exceptions.StorageInternalError,
)
"""What a database raises, through Optuna and past it."""

LOCK_SECONDS = 60
"""How long a write waits for a dashboard or a backup that holds SQLite's lock."""


def open_storage(folder: RunFolder, url: str | None, file: Path | None = None) -> BaseStorage:
    """Open the storage of a run.

    Args:
        folder: The run folder.
        url: Any Optuna storage URL; None for SQLite in the run folder.
        file: The SQLite file in the run folder; None means ``study.db``.

    Raises:
        ConfigError: If the URL is none.
        StorageError: If the storage cannot be opened; the message says what to do.
    """
    try:
        if url is None:
            return _open_sqlite(file or folder.study_file)
        storage: BaseStorage = optuna.storages.get_storage(url)
        return storage
    except (ImportError, ValueError, sqlalchemy.exc.ArgumentError) as error:
        shown = without_password(url or "")
        raise ConfigError(
            f"search.storage must be an Optuna storage URL, but {shown!r} failed with: "
            f"{str(error).replace(url or ' ', shown)}"
        ) from error
    except _FAILURES as error:
        place = folder.study_file if url is None else without_password(url)
        raise StorageError(
            f"Cannot open the study {place}: {_first_line(error)} If the file is damaged, move it "
            "away and run the same command again, or use "
            f"`schedsearch recover {shlex.quote(folder.shown)}`: the study is rebuilt from "
            f"{folder.results_file.name}."
        ) from error


def _open_sqlite(path: Path) -> RDBStorage:
    """SQLite with a write-ahead log, so that a dashboard never blocks the driver."""
    storage = RDBStorage(
        f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
    )

    # NOTE: The log needs memory that all its readers share, so one machine.
    journal_mode = "DELETE" if network_file_system(path) else "WAL"

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # connections from before the listener
    return storage


def close_storage(storage: BaseStorage) -> None:
    """Close a SQLite file, so that all of it lies in that one file."""
    backend = getattr(storage, "_backend", storage)
    if isinstance(backend, RDBStorage):
        backend.remove_session()
        backend.engine.dispose()


def open_study(
    storage: BaseStorage, name: str, sampler: optuna.samplers.BaseSampler | None = None
) -> optuna.Study:
    """Create or load the one study of a storage.

    Raises:
        StorageError: If a study of this name has other objectives, or cannot be read.
    """
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["minimize"] * len(OBJECTIVES),
            sampler=sampler,
            load_if_exists=True,
        )
        if len(study.directions) != len(OBJECTIVES):
            # Optuna silently ignores other directions when it loads a study.
            raise StorageError(
                f"The study {name!r} has {len(study.directions)} objective(s), not "
                f"{len(OBJECTIVES)}; it belongs to another program. Choose another name."
            )
        names = [objective.name for objective in OBJECTIVES]
        if study.metric_names != names:
            study.set_metric_names(names)
    except _FAILURES as error:
        raise StorageError(
            f"Cannot read the study {name!r}: {_first_line(error)} It may be locked by another "
            "process; run the same command again."
        ) from error
    return study


@contextmanager
def explaining_failures(name: str) -> Iterator[None]:
    """Say in one sentence what a study's database raises inside the block.

    Raises:
        StorageError: If it does.
    """
    try:
        yield
    except _FAILURES as error:
        raise StorageError(
            f"The study {name!r} cannot be read or written: {_first_line(error)} Free space, or "
            "end what locks it, and run the same command again; finished trials are kept."
        ) from error


def open_artifacts(folder: RunFolder) -> FileSystemArtifactStore:
    """The store of the run's pictures and files, which the dashboard shows."""
    folder.artifacts.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(base_path=str(folder.artifacts))


def _first_line(error: Exception) -> str:
    """The database's own words, without the SQL statement that SQLAlchemy adds."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    return str(cause).splitlines()[0].rstrip(".") + "."
