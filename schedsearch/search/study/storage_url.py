"""Whether ``search.storage`` can be a database, and whether that database answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.files.printable import without_passwords

CONNECT_SECONDS = 10
"""How long a server may take to accept a connection."""

SILENT_SECONDS = 120
"""How long a query waits for a server that the network has lost."""

UNREACHABLE = (sqlalchemy.exc.SQLAlchemyError, RuntimeError, TypeError, ValueError, OSError)
"""What drivers raise when they connect, SQLAlchemy's errors and their own."""

_USER = re.compile(r"^[^:]+://(?:[\w.~!$&'()*+,;=:%-]*@)?[^@]*$", re.ASCII)
"""A URL whose user and password have no characters with another meaning."""

_LIKE = "sqlite:///FILE, postgresql://USER@HOST/NAME or mysql://USER@HOST/NAME"


def check_storage_url(url: str) -> None:
    """Check the form of a URL, its kind of database, and the driver for it.

    Raises:
        ConfigError: With the URL, its password left out, and the remedy.
    """
    shown = without_passwords(url)
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite" and not _USER.search(url):
            raise ConfigError(
                "search.storage holds a user or a password with characters that a URL cannot "
                "hold there. Percent-encode them: a space is %20, an @ is %40."
            )
        parsed.get_dialect().import_dbapi()
    except sqlalchemy.exc.NoSuchModuleError:
        raise ConfigError(
            f"search.storage names a database that Optuna cannot use: {shown}. Write {_LIKE}."
        ) from None
    except ImportError as error:
        raise ConfigError(
            f"search.storage is {shown}, but its driver is missing: {database_words(error)} "
            "Install one: psycopg[binary] for postgresql+psycopg://, PyMySQL for mysql+pymysql://."
        ) from None
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ConfigError(
            f"search.storage must be a database URL, got {shown}. Write {_LIKE}."
        ) from None
    _check_place(parsed, shown)


def _check_place(url: URL, shown: str) -> None:
    """Refuse a SQLite file without a folder, and a server without a name."""
    if url.get_backend_name() != "sqlite":
        if not url.database:
            raise ConfigError(f"search.storage names no database: {shown}. Add /NAME at its end.")
        return
    if not url.database or url.database == ":memory:":
        raise ConfigError(
            f"search.storage is {shown}, which ends with the process. Write sqlite:///FILE."
        )
    if not Path(url.database).expanduser().absolute().parent.is_dir():
        raise ConfigError(
            f"search.storage is {shown}, but the folder of that file does not exist. Make it, or "
            "name another file."
        )


def check_storage_answers(url: str) -> None:
    """Connect to a server once and write nothing; a SQLite file has none.

    Raises:
        StorageError: With the server's words, the URL without its password, and the remedy.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return
    options = engine_options(parsed, silent_seconds=CONNECT_SECONDS)
    engine = sqlalchemy.create_engine(parsed, **options)
    try:
        with engine.connect():
            pass
    except UNREACHABLE as error:
        raise StorageError(
            f"Cannot connect to search.storage {without_passwords(url)}: {database_words(error)} "
            "Start the database, or correct the URL."
        ) from error
    finally:
        engine.dispose()


def engine_options(url: URL, silent_seconds: int = SILENT_SECONDS) -> dict[str, Any]:
    """Arguments of an engine that notices a lost server; keys in the URL come first."""
    postgresql = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": max(1, silent_seconds // 4),
        "tcp_user_timeout": silent_seconds * 1000,
    }
    mysql = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": silent_seconds,
        "write_timeout": silent_seconds,
    }
    by_driver = {
        "psycopg": postgresql, "psycopg2": postgresql, "pymysql": mysql, "mysqldb": mysql,
    }  # fmt: skip
    chosen = by_driver.get(url.get_driver_name(), {})
    arguments = {key: value for key, value in chosen.items() if key not in url.query}
    # A server closes idle connections, and trials take long.
    return {"pool_pre_ping": True, "connect_args": arguments}


def database_words(error: BaseException) -> str:
    """The database's own words in one line, without the SQL statement that SQLAlchemy adds."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    words = cause
    if len(cause.args) == 2 and not isinstance(cause, OSError):
        words = cause.args[1]  # PyMySQL gives a number and the words
    lines = str(words).splitlines() or [type(cause).__name__]
    return lines[0].rstrip(".") + "."
