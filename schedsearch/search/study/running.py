"""Which trials a study holds open, read without changing or making anything."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.exceptions import ConfigError, StorageError

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings

_RUNNING = """
SELECT trials.number, studies.study_name
FROM trials JOIN studies ON trials.study_id = studies.study_id
WHERE trials.state = 'RUNNING' AND studies.study_name = {name} ORDER BY trials.number
"""

_OURS = {"studies", "trials"}
"""Tables of Optuna that are read; a database without them holds no study."""


def running_trials(folder: RunFolder, settings: StudySettings) -> list[int]:
    """Numbers of trials that are RUNNING in the study, dead ones too.

    Databases are read directly, because opening them through Optuna writes to them.

    Raises:
        ConfigError: If ``search.storage`` is no database.
        StorageError: If the study cannot be read.
    """
    url = settings.search.storage
    if url is None:
        return _running_in_file(folder.study_file, settings.name)
    from sqlalchemy.engine import make_url

    from schedsearch.search.study.storage_url import check_storage_url

    check_storage_url(url)
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _running_in_file(Path(parsed.database or ""), settings.name)
    return _running_in_server(url, settings.name)


def _running_in_file(path: Path, name: str) -> list[int]:
    """The same in a SQLite file, which need not exist."""
    if not path.is_file():
        return []
    try:
        connection = sqlite3.connect(_read_only(path), uri=True, timeout=10)
        try:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            if not tables >= _OURS:
                return []
            rows = connection.execute(_RUNNING.format(name="?"), (name,)).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StorageError(
            f"Cannot read {path}: {error}. If it is damaged, move it away; `schedsearch run` or "
            "`schedsearch recover` rebuilds it from results.jsonl."
        ) from error
    return [int(number) for number, _ in rows]


def _read_only(path: Path) -> str:
    """URI of a database that changes no file.

    Without a write-ahead log nobody has the study open. SQLite would then leave an empty log
    behind, or fail in a folder that must not be written, so it takes the file as it is.
    """
    log = path.with_name(f"{path.name}-wal")
    return f"{path.absolute().as_uri()}?{'mode=ro' if log.exists() else 'immutable=1'}"


def _running_in_server(url: str, name: str) -> list[int]:
    """The same in a database of its own server."""
    import sqlalchemy

    from schedsearch.files.printable import without_passwords
    from schedsearch.search.study.storage_url import (
        CONNECT_SECONDS,
        UNREACHABLE,
        database_words,
        engine_options,
    )

    try:
        options = engine_options(sqlalchemy.make_url(url), silent_seconds=CONNECT_SECONDS)
        engine = sqlalchemy.create_engine(url, **options)
        with engine.connect() as connection:
            if not set(sqlalchemy.inspect(connection).get_table_names()) >= _OURS:
                return []
            query = sqlalchemy.text(_RUNNING.format(name=":name"))
            rows = connection.execute(query, {"name": name})
            # NOTE: to MySQL and MariaDB, names in capitals and small letters are equal.
            return [int(number) for number, found in rows if found == name]
    except ImportError as error:
        raise ConfigError(
            f"search.storage is {without_passwords(url)}, but its driver is missing: {error}."
        ) from error
    except UNREACHABLE as error:
        raise StorageError(
            f"Cannot read the study in {without_passwords(url)}: {database_words(error)} Start "
            "the database, or correct search.storage."
        ) from error
