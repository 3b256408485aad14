"""The form of ``search.storage``, and databases that do not answer."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.search.study import storage_url
from schedsearch.search.study.storage_url import (
    check_storage_answers,
    check_storage_url,
    engine_options,
)


def test_a_file_in_a_folder_that_is_there(tmp_path: Path) -> None:
    check_storage_url(f"sqlite:///{tmp_path / 'new.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("foo://bob:secret@host/x", "names a database that Optuna cannot use"),
        ("redis://bob:secret@host/x", "names a database that Optuna cannot use"),
        ("nonsense", "must be a database URL"),
        ("sqlite:////no/such/folder/x.db", "the folder of that file does not exist"),
        ("sqlite:///:memory:", "which ends with the process"),
        ("sqlite://", "which ends with the process"),
        ("postgresql+nodriver://bob:secret@host/x", "names a database that Optuna cannot use"),
        ("mysql+mysqldb://bob:secret@host/x", r"its driver is missing.*PyMySQL for"),
        ("postgresql+psycopg://bob:my secret@host/x", "a space is %20"),
        ("postgresql+psycopg://bob:p@secret@host/x", "an @ is %40"),
        ("postgresql+psycopg://bob@corp:secret@host/x", "an @ is %40"),
        ("postgresql+psycopg://bob:sec/secret@host/x", "Percent-encode"),
        ("mysql+pymysql://bob:secret@host", "names no database"),
    ],
)
def test_what_can_be_no_database(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        check_storage_url(url)
    assert "secret" not in str(caught.value)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
def test_a_server_that_does_not_answer(
    driver: str, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_url, "CONNECT_SECONDS", 2)
    for port, reason in ((1, "refused"), (silent_port, "time")):
        url = f"{driver}://bob:secret@127.0.0.1:{port}/x"
        check_storage_url(url)
        with pytest.raises(StorageError, match=reason) as caught:
            check_storage_answers(url)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("Start the database, or correct the URL.")


def test_a_lost_server_is_noticed_unless_the_url_says_otherwise() -> None:
    own = engine_options(make_url("postgresql+psycopg://host/x?tcp_user_timeout=5"))
    assert own["connect_args"].keys() == {"connect_timeout", "keepalives_idle"}
    assert engine_options(make_url("sqlite:///x.db"))["connect_args"] == {}
