"""Settings for the tests of the search."""

import os
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy

# Or their assertions say nothing.
pytest.register_assert_rewrite("database_rows", "starts", "whole_runs")


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of an empty database of a real server, which is dropped afterwards."""
    variable = f"SCHEDSEARCH_TEST_{request.param.upper()}"
    if variable not in os.environ:
        pytest.skip(
            f"{variable} names no {request.param} server: "
            "`.ci/databases start; source .databases` starts one"
        )
    server = sqlalchemy.make_url(os.environ[variable])
    name = f"test_{uuid.uuid4().hex[:12]}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        yield server.set(database=name).render_as_string(hide_password=False)
        force = " WITH (FORCE)" if request.param == "postgresql" else ""
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name}{force}"))
    engine.dispose()
