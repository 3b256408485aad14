"""What a database holds."""

from typing import Any

import sqlalchemy


def rows_of(url: str) -> dict[str, list[Any]]:
    """All rows of all tables."""
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        names = sqlalchemy.inspect(connection).get_table_names()
        found = {
            name: sorted(connection.execute(sqlalchemy.text(f"SELECT * FROM {name}")), key=str)
            for name in names
        }
    engine.dispose()
    return found


def end_connections(url: str) -> None:
    """Let the server close all connections to a database, as it does with idle ones."""
    parsed = sqlalchemy.make_url(url)
    if parsed.get_backend_name() == "postgresql":
        apart, listing = "postgres", "pid FROM pg_stat_activity WHERE datname = :name"
        ending = "SELECT pg_terminate_backend({})"
    else:
        apart, listing = "mysql", "id FROM information_schema.processlist WHERE db = :name"
        ending = "KILL {}"
    engine = sqlalchemy.create_engine(parsed.set(database=apart), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        query = sqlalchemy.text(f"SELECT {listing}")
        for number in connection.execute(query, {"name": parsed.database}).scalars().all():
            connection.execute(sqlalchemy.text(ending.format(number)))
    engine.dispose()
