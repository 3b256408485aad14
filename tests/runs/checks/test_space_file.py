"""The space of a run folder."""

from pathlib import Path

import pytest
from driving import settings_of

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs.checks.space_file import read_space, write_space
from schedsearch.runs.folder import RunFolder

URL = "postgresql://bob:hunter2@db.example/runs"


def test_a_space_comes_back(tmp_path: Path) -> None:
    folder, settings = RunFolder(tmp_path), settings_of()
    write_space(folder, settings)
    assert read_space(folder) == settings


@pytest.mark.parametrize("new", [b"seed: 1", b"seed: \xff"])
def test_a_changed_file_is_refused_until_its_checksum_goes(tmp_path: Path, new: bytes) -> None:
    folder = RunFolder(tmp_path)
    write_space(folder, settings_of())
    content = folder.space_file.read_bytes()
    assert b"seed: 0" in content
    folder.space_file.write_bytes(content.replace(b"seed: 0", new))
    with pytest.raises(StorageError, match=r"space\.yaml:1: cannot be read: .*remove its first"):
        read_space(folder)
    text = content.replace(b"seed: 0", b"seed: 1").partition(b"\n")[2]
    folder.space_file.write_bytes(text)
    assert read_space(folder).search.seed == 1
    folder.space_file.write_bytes(text.replace(b"seed: 1", b"seed: x"))
    with pytest.raises(ConfigError):
        read_space(folder)


def test_a_password_is_kept_from_others(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_space(folder, settings_of(search={"storage": URL}))
    assert folder.space_file.stat().st_mode & 0o077 == 0
