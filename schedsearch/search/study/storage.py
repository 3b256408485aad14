"""The Optuna study of a run: opened, checked and named in one place."""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy.exc
from alembic.util.exc import CommandError
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import make_url

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.files.mounts import network_file_system
from schedsearch.files.printable import without_passwords
from schedsearch.formatting import for_shell
from schedsearch.records import OBJECTIVES
from schedsearch.search.study.storage_url import (
    check_storage_url,
    database_words,
    engine_options,
)

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder

_FAILURES = (
    sqlalchemy.exc.SQLAlchemyError,
    sqlite3.Error,
    optuna.exceptions.StorageInternalError,
)
"""What a database raises, through Optuna and past it."""

_MADE_MEANWHILE = re.compile("already exists|duplicate|unique", re.IGNORECASE)

MOST_OPENINGS = 12
"""Attempts at opening a database whose tables are being made."""

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
    if url is not None:
        check_storage_url(url)
    try:
        if url is None:
            return _open_sqlite(file or folder.study_file)
        return _open_url(url)
    except (ImportError, ValueError, TypeError, sqlalchemy.exc.ArgumentError) as error:
        shown = without_passwords(url or "")
        raise ConfigError(
            f"search.storage must be an Optuna storage URL, but {shown!r} failed with: "
            f"{str(error).replace(url or ' ', shown)}"
        ) from error
    except (*_FAILURES, RuntimeError, OSError, CommandError) as error:
        place = folder.study_file if url is None else without_passwords(url)
        if url is not None and not url.startswith("sqlite"):
            raise StorageError(
                f"Cannot open the study in {place}: {database_words(error)} Start the database, "
                "or correct search.storage, and run the same command again."
            ) from error
        raise StorageError(
            f"Cannot open the study {place}: {database_words(error)} If the file is damaged, move "
            "it away and run the same command again, or use "
            f"`schedsearch recover {for_shell(folder.shown)}`: the study is rebuilt from "
            f"{folder.results_file.name}."
        ) from error


def _open_sqlite(path: Path) -> RDBStorage:
    """SQLite with a write-ahead log, so that a dashboard never blocks the driver."""
    storage = RDBStorage(
        _literal(f"sqlite:///{path}"), engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
    )

    # NOTE: The log needs memory that all its readers share, so one machine.
    journal_mode = "DELETE" if network_file_system(path) else "WAL"

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # connections from before the listener
    return storage


def _open_url(url: str) -> BaseStorage:
    """Any database; drivers that start together in an empty one all make its tables."""
    for attempt in range(1, MOST_OPENINGS + 1):
        try:
            database = RDBStorage(_literal(url), engine_kwargs=engine_options(make_url(url)))
            break
        except _FAILURES as error:
            made = _MADE_MEANWHILE.search(f"{error} {error.__cause__}")
            if attempt == MOST_OPENINGS or not made:
                raise
        time.sleep(attempt * random.uniform(0.02, 0.1))
    storage: BaseStorage = optuna.storages.get_storage(database)
    return storage


def _literal(url: str) -> str:
    """A URL for Optuna, which replaces words in braces."""
    return url.replace("{", "{{").replace("}", "}}")


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
            f"Cannot read the study {name!r}: {database_words(error)} It may be locked by another "
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
            f"The study {name!r} cannot be read or written: {database_words(error)} Start its "
            "database, free space or end what locks it, and run the same command again; finished "
            "trials are kept."
        ) from error


def open_artifacts(folder: RunFolder) -> FileSystemArtifactStore:
    """The store of the run's pictures and files, which the dashboard shows."""
    folder.artifacts.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(base_path=str(folder.artifacts))
