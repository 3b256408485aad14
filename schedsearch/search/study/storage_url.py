"""Whether ``search.storage`` can be a database, asked without connecting to it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url

from schedsearch.exceptions import ConfigError
from schedsearch.runs.checks.space_file import without_password


def check_storage_url(url: str) -> None:
    """Check the form of a URL, its kind of database, and the driver for it.

    Raises:
        ConfigError: With the URL, its password left out, and the remedy.
    """
    shown = without_password(url)
    try:
        parsed = make_url(url)
        parsed.get_dialect().import_dbapi()
    except sqlalchemy.exc.NoSuchModuleError:
        raise ConfigError(
            f"search.storage names a database that Optuna cannot use: {shown}. Write "
            "sqlite:///FILE, postgresql://USER@HOST/NAME or mysql://USER@HOST/NAME."
        ) from None
    except ImportError as error:
        raise ConfigError(
            f"search.storage is {shown}, but its driver is missing: {error}. Install it, for "
            "example psycopg2-binary for postgresql:// or mysqlclient for mysql://."
        ) from None
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ConfigError(
            f"search.storage must be a database URL, got {shown}. Write sqlite:///FILE, "
            "postgresql://USER@HOST/NAME or mysql://USER@HOST/NAME."
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
