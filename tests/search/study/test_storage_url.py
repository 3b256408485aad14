"""The form of ``search.storage``."""

from pathlib import Path

import pytest

from schedsearch.exceptions import ConfigError
from schedsearch.search.study.storage_url import check_storage_url


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
        ("mysql+mysqldb://bob:secret@host/x", "its driver is missing"),
    ],
)
def test_what_can_be_no_database(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        check_storage_url(url)
    assert "secret" not in str(caught.value)
